"""The whole update on rows that share prefixes, against rows that do not."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from tests.training import examples
from wideseek_jax import types
from wideseek_jax.models import transformer
from wideseek_jax.training import batching, grpo_step, train_state

# Two layers: a shared token's keys in the second come from what it saw itself.
CONFIG = dataclasses.replace(examples.CONFIG, num_layers=2)
OPTIONS = {'logprob_chunk': 7, 'attention_block': 4}
SHAPE = {'row_len': 40, 'rows_per_micro_batch': 4, 'min_micro_batches': 4}


def _groups(seed):
  """Two tasks of two rollouts: system texts, questions, subtasks, turns."""
  rng = np.random.default_rng(seed)

  def tokens(size):
    return rng.integers(0, CONFIG.vocab_size, size)

  def agent(index, prompt):
    # Ragged turns; one starts right after the prompt, one after an answer.
    sizes = rng.integers(1, 4, 3)
    mask = np.repeat([0, 1, 0, 1], [len(prompt), *sizes]).astype(bool)
    return types.Trajectory(
      agent=index,
      role='subagent' if index else 'lead',
      subtask='',
      parent_turn=-1,
      token_ids=np.concatenate([prompt, tokens(sizes.sum())]).astype(np.int32),
      sample_mask=mask,
      # Near those of the policy, so that some ratios are clipped, not all.
      behavior_logprobs=np.where(
        mask, -np.log(32) + 0.3 * rng.normal(size=len(mask)), 0
      ).astype(np.float32),
      turns=(),
      answer='',
    )

  def rollout(index, question):
    prompts = [np.concatenate([systems[0], question])] + [
      np.concatenate([systems[1], question, tokens(rng.integers(1, 3))])
      for _ in range(rng.integers(1, 4))
    ]
    return types.Rollout('task', index, tuple(map(agent, range(9), prompts)))

  systems = [tokens(3), tokens(4)]
  groups = []
  for _ in range(2):
    question = tokens(3)
    groups.append([rollout(index, question) for index in range(2)])
  return groups, [rng.normal(size=2).astype(np.float32) for _ in groups]


def _batch(seed, share, **shape):
  return batching.make_batch(
    *_groups(seed), **SHAPE | shape, share_prefixes=share
  )


@functools.cache
def _params():
  return transformer.init_params(CONFIG, jax.random.key(0))


@functools.cache
def _update(*mesh_shape):
  """run(batch) -> (metrics, gradient), always from the same fresh state."""
  mesh, optimizer = examples.mesh(*mesh_shape), optax.sgd(1.0)
  step = grpo_step.make_grpo_step(CONFIG, optimizer, mesh, **OPTIONS)

  def run(batch):
    state = train_state.init_train_state(CONFIG, optimizer, mesh, _params())
    state, metrics = step(state, batch)
    gradient = jax.tree.map(
      lambda old, new: np.asarray(old) - np.asarray(new),
      _params(),
      state.params,
    )
    return {name: float(x) for name, x in metrics.items()}, gradient

  return run


@functools.cache
def _unshared(seed):
  return _update()(_batch(seed, share=False))


def _same(got, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    got,
    expected,
  )


def _spread(batch, per_micro_batch):
  """The same rows, with fewer of them in a micro-batch."""

  def spread(array):
    if not np.ndim(array):
      return array
    out = np.zeros_like(array)
    for index, row in enumerate(array[filled]):
      out[divmod(index, per_micro_batch)] = row
    return out

  filled = batch.segment_ids.any(-1)
  used = np.int32(-(-filled.sum() // per_micro_batch))
  batch = jax.tree.map(spread, batch)
  return dataclasses.replace(batch, num_micro_batches=used)


@pytest.mark.parametrize('seed', [0, 1, 7])
def test_the_trees_are_nested(seed):
  batch = _batch(seed, share=True)
  stats = batching.batch_stats(batch)
  plain = batching.batch_stats(_batch(seed, share=False))
  assert stats.tokens < 0.7 * plain.tokens
  assert stats.trained_tokens == plain.trained_tokens
  assert stats.segments == plain.segments
  # Some agent reads two shared nodes before its own.
  nodes = max(
    len(set(ends[:place][ends[:place] >= place].tolist()))
    for ends in batch.ends.reshape(-1, 40)
    for place in range(1, 41)
  )
  assert nodes >= 3


@pytest.mark.parametrize('seed', [0, 1, 7])
def test_loss_and_gradient_are_the_unshared_ones(seed):
  metrics, gradient = _update()(_batch(seed, share=True))
  _same((metrics, gradient), _unshared(seed))
  assert metrics['clip_low'] > 0 and metrics['clip_high'] > 0
  assert all(g.any() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(('per_micro_batch', 'count'), [(4, 1), (2, 2), (1, 4)])
def test_micro_batches_change_nothing(per_micro_batch, count):
  batch = _spread(_batch(0, share=True), per_micro_batch)
  assert batch.num_micro_batches == count
  _same(_update()(batch), _unshared(0))


def test_devices_change_nothing():
  _same(_update(2, 2, 2)(_batch(0, share=True)), _unshared(0))


def _by_agent(batch, logprobs):
  """(old, new) log-probs of each agent's trained tokens, by the old ones."""
  found = []
  for index in np.ndindex(batch.segment_ids.shape[:2]):
    trained = batch.weights[index] > 0
    for segment_id in range(1, batch.segment_ids[index].max() + 1):
      mine = trained & (batch.segment_ids[index] == segment_id)
      found.append(
        (batch.old_logprobs[index][mine].tolist(), logprobs[index][mine])
      )
  return sorted(found, key=lambda pair: pair[0])


def test_every_agents_logprobs_are_the_unshared_ones():
  rescore = grpo_step.make_score_step(CONFIG, examples.mesh(), **OPTIONS)
  shared, plain = (
    _by_agent(batch, np.asarray(rescore(_params(), batch).old_logprobs))
    for batch in (_batch(0, share=True), _batch(0, share=False))
  )
  agents = sum(len(r.trajectories) for g in _groups(0)[0] for r in g)
  assert len(shared) == len(plain) == agents
  for (old, new), (old_plain, new_plain) in zip(shared, plain, strict=True):
    assert old == old_plain
    np.testing.assert_allclose(new, new_plain, rtol=1e-5)
