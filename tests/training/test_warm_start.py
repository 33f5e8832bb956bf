import dataclasses

import jax
import numpy as np
import pytest

from wideseek_jax import sharding, testing, types
from wideseek_jax.agents import expert as expert_lib
from wideseek_jax.models import transformer
from wideseek_jax.tasks import facts
from wideseek_jax.training import sft_step, train_state, warm_start

WIDE = {'min_rows': 3, 'max_rows': 5, 'min_columns': 2, 'max_columns': 2}
ROLLOUT = {
  'prompt_style': 'compact',
  'group_size': 1,
  'search_count': 1,
  'snippet_chars': 24,
  'page_chars': 400,
  'max_context': 1 << 13,
  'max_turn_tokens': 1 << 11,
  'report_tokens': 1 << 11,
  'max_subagents': 8,
}


@pytest.fixture(scope='module')
def world():
  return facts.build_synthetic_world(1, 7, 30)


@pytest.fixture(scope='module')
def tokenizer(world):
  tasks = facts.build_tasks(world, 'train', 'wide', 6, **WIDE)
  return warm_start.train_chat_tokenizer(
    world, tasks, vocab_size=900, seed=0, rollout=ROLLOUT
  )


def _turn(start, stop):
  return types.Turn(start, stop, 'stop', '')


def test_abridge_keeps_what_the_last_turn_needs():
  # Tokens 1 … 9: prompt 1 2, turn 3 4, message 5, turn 6, message 7 8, turn 9.
  whole = dataclasses.replace(
    testing.trajectory([0, 0, 1, 1, 0, 1, 0, 0, 1]),
    turns=(_turn(2, 4), _turn(5, 6), _turn(8, 9)),
  )
  failed = dataclasses.replace(whole, failures=(types.CONTEXT_FAILED,))
  single = dataclasses.replace(whole, turns=(_turn(2, 9),))
  (kept,) = warm_start.abridge([whole, failed, single])
  assert kept.token_ids.tolist() == [1, 2, 7, 8, 9]
  assert kept.sample_mask.tolist() == [False] * 4 + [True]
  assert len(kept.behavior_logprobs) == 5


def test_word_pieces_are_the_letters_of_a_byte_tokenizer():
  # Of its 265 ids, 52 are ASCII letters; markers hold '<' and bytes from 128
  # on are no text alone.
  letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
  pieces = warm_start.word_pieces(testing.byte_tokenizer())
  assert pieces == list(letters)


def test_batches_are_addressed_and_cover_an_epoch():
  trajectories = [testing.trajectory([0] * i + [1]) for i in range(1, 10)]
  # They begin alike, and what is read is to be counted.
  batch = {'row_len': 16, 'share_prefixes': False}
  options = {'seed': 3, 'size': 3, 'batch': batch}

  def lengths(step):
    batch = warm_start.demonstration_batch(trajectories, step=step, **options)
    return sorted(np.bincount(np.ravel(batch.positions))[1:].tolist())

  assert lengths(1) == lengths(1)
  # Three steps of three see all nine: 1 + 2 + … + 9 positions are read.
  read = sum(
    int(
      (
        warm_start.demonstration_batch(
          trajectories, step=step, **options
        ).segment_ids
        > 0
      ).sum()
    )
    for step in range(3)
  )
  assert read == sum(range(1, 10))


def test_the_chat_tokenizer_knows_the_frame(tokenizer, world):
  assert tokenizer.vocab_size <= 900
  # What every conversation repeats became few tokens: 70 bytes, 15 words and
  # marks.
  call = '<tool_call>\n{"name": "search", "arguments": {"queries": [{"query": "'
  assert len(tokenizer.encode(call)) <= 20


def test_demonstrations_are_what_the_agents_make(tokenizer, world):
  trajectories = warm_start.demonstration_set(
    world,
    tokenizer,
    expert_lib.Expert(flaws=expert_lib.FLAWLESS),
    seed=0,
    num_real=4,
    num_worlds=1,
    num_per_world=4,
    deep_share=0.25,
    types_per_world=7,
    entities_per_type=30,
    wide=WIDE,
    rollout=ROLLOUT,
  )
  leads = [t for t in trajectories if t.role == 'lead']
  assert len(leads) == 8  # 4 real tasks, 4 of the synthetic world
  assert not any(t.failures for t in trajectories)
  assert sum('boxed' in lead.answer for lead in leads) == 2


def test_fit_learns_and_goes_on_where_it_was(tokenizer):
  config, params = testing.small_model(vocab_size=tokenizer.vocab_size)
  mesh = sharding.make_mesh(jax.devices()[:1])
  optimizer = train_state.make_optimizer(learning_rate=1e-2)
  update = sft_step.make_sft_step(config, optimizer, mesh)

  def start():
    return train_state.init_train_state(config, optimizer, mesh, params)

  def make_batch(step):
    return warm_start.copy_batch(
      tokenizer,
      step=step,
      seed=0,
      size=8,
      batch={'row_len': 256, 'min_micro_batches': 8},
    )

  def fit(state, num_steps, log=lambda step, metrics: None, **options):
    return warm_start.fit(
      state, update, make_batch, num_steps, log=log, log_every=1, **options
    )

  losses, accuracies = [], []

  def note(step, metrics):
    losses.append(metrics['loss'])
    accuracies.append(metrics['accuracy'])

  whole = fit(start(), 8, note)
  assert len(losses) == 8 and losses[-1] < losses[0] - 0.5
  parts = fit(fit(start(), 3), 8)
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)
  assert transformer.param_shapes(config).keys() == whole.params.keys()

  # It ends with the first batch that is good enough, and says so once.
  enough = sorted(accuracies[:6])[-1]
  first = accuracies.index(enough) + 1
  saved = []
  learned = fit(
    start(),
    8,
    enough=enough,
    save=lambda state, ended: saved.append((int(state.step), ended)),
    save_every=2,
  )
  expected = [(step, step == first) for step in range(2, first + 1, 2)]
  expected += [(first, True)] if first % 2 else []
  assert saved == expected and int(learned.step) == first < 8
