import dataclasses
import os
import signal
import threading

import numpy as np
import pytest

from tests.agents import helpers
from wideseek_jax import testing, types
from wideseek_jax.tasks import tables
from wideseek_jax.training import batching, finished, loop, preemption
from wideseek_jax.training import parts as parts_lib


@dataclasses.dataclass(frozen=True)
class State:
  """A train state as far as the loop looks into it."""

  step: int
  params: None = None


@dataclasses.dataclass(frozen=True)
class NoStats:
  """What a scripted engine counts."""


def scripted(respond):
  """An engine with a script and a list of the weights that it was given."""
  engine = testing.ScriptedEngine(testing.byte_tokenizer(), respond)
  engine.given = []
  engine.set_params = engine.given.append
  engine.reset_stats = lambda: None
  engine.stats = NoStats
  return engine


def judged_parts(judge):
  """A loop whose policy writes a table that rules cannot judge."""
  table = types.Table(('country', 'capital'), (('Norland', 'Norville'),))
  tokenizer = testing.byte_tokenizer()
  engine = scripted(lambda messages, key: tables.render_table(table))
  return parts_lib.Parts(
    engine=engine,
    tokenizer=tokenizer,
    tools=testing.country_tools(),
    train_tasks=[testing.COUNTRIES],
    valid_tasks=[testing.COUNTRIES],
    step=lambda state, batch, ref: (State(state.step + 1), {}),
    rollout={'group_size': 2, 'prompt_style': 'compact'},
    reward={},
    batch={'row_len': 4096},
    advantage={},
    judge=judge,
  )


def _train(parts, steps=3, **options):
  """A run of steps on `COUNTRIES`: what was logged and saved."""
  saved, rows = [], []
  config = parts_lib.LoopConfig(
    num_steps=steps, tasks_per_step=1, checkpoint_every=2, rollouts_every=0
  )
  config = dataclasses.replace(
    config, asynchronous=options.pop('asynchronous', False)
  )
  loop.train(
    State(0),
    parts,
    config,
    log=lambda step, metrics: rows.append((step, metrics)),
    save=saved.append,
    **options,
  )
  return rows, saved


def _agreeing(prompts):
  return ['{"1": true}'] * len(prompts)


def test_asynchronous_rollouts_have_the_weights_before_the_update():
  parts = judged_parts(_agreeing)
  events = []
  parts.engine.set_params = lambda params: events.append('weights')
  begun = threading.Event()

  def step(state, batch, ref):
    # The rollouts of the next step end while this update waits for them.
    if state.step < 2:
      assert begun.wait(60)
    begun.clear()
    events.append(f'update {state.step}')
    return State(state.step + 1), {}

  def progress(step, note):
    if note == 'rollouts 2/2':
      events.append(f'rollouts {step}')
      if step:
        begun.set()

  parts = dataclasses.replace(parts, step=step)
  rows, saved = _train(parts, asynchronous=True, progress=progress)
  assert events == [
    *('weights', 'rollouts 0', 'rollouts 1', 'update 0', 'weights'),
    *('rollouts 2', 'update 1', 'weights', 'update 2', 'weights'),
  ]
  assert [step for step, _ in rows] == [0, 1, 2]
  assert saved == [State(2), State(3)]
  # Only the first step's are of the newest weights.
  stale = [metrics['rollout/stale_tokens'] for _, metrics in rows]
  assert stale == [0, 1, 1]


def test_what_a_killed_run_had_made_is_not_made_again(tmp_path):
  made = finished.Finished(tmp_path)
  parts = judged_parts(_agreeing)
  told = []
  rows, _ = _train(
    parts, made=made, progress=lambda step, note: told.append((step, note))
  )
  assert (1, 'rollouts 2/2') in told
  # Killed in its second step, with one of two rollouts.
  made.forget()
  count = []
  add = made.add
  made.add = lambda step, rollout, weights: (
    count.append((step, rollout.index)),
    add(step, rollout, weights),
  )

  class Killed(Exception):
    pass

  def kill(step, note):
    if (step, note) == (1, 'rollouts 1/2'):
      raise Killed

  with pytest.raises(Killed):
    _train(parts, made=made, progress=kill)
  again, _ = _train(parts, made=made)
  assert len(count) == len(set(count)) == 6
  for (step, metrics), (other, expected) in zip(again, rows, strict=True):
    assert step == other
    for name in expected:
      if not name.startswith('time/'):
        assert metrics[name] == expected[name], name


def test_sigterm_saves_the_last_whole_step():
  parts = judged_parts(_agreeing)
  saved, rows = [], []

  def terminate(step, note):
    if (step, note) == (1, 'rollouts 1/2'):
      os.kill(os.getpid(), signal.SIGTERM)

  with preemption.Notice(60) as notice, pytest.raises(preemption.Preempted):
    loop.train(
      State(0),
      parts,
      parts_lib.LoopConfig(num_steps=3, tasks_per_step=1, rollouts_every=0),
      log=lambda step, metrics: rows.append(step),
      save=saved.append,
      progress=terminate,
      notice=notice,
    )
  assert saved == [State(1)] and rows == [0]


@pytest.mark.parametrize('last', range(4))
def test_a_dead_judge_leaves_a_state_to_resume_from(last):
  """It dies after so many calls: of steps and validations in turn."""
  calls = []

  def judge(prompts):
    calls.append(prompts)
    if len(calls) > last:
      raise types.JudgeUnavailable('gone')
    return ['{"1": true}'] * len(prompts)

  saved, rows = [], []
  config = parts_lib.LoopConfig(
    num_steps=2, tasks_per_step=1, eval_every=1, checkpoint_every=9
  )
  with pytest.raises(types.JudgeUnavailable):
    loop.train(
      State(0),
      judged_parts(judge),
      config,
      log=lambda step, metrics: rows.append((step, metrics)),
      save=saved.append,
    )
  # In a step: the state before it. In its validation: the state after it.
  assert saved == [State([0, 1, 1, 2][last])]
  assert [step for step, _ in rows] == [[], [0], [0], [0, 1]][last]
  if last == 2:
    # One of two rows, all of it right: 2 · 2 / (2 + 4) with the judge's word.
    assert rows[0][1]['rollout/item_f1'] == pytest.approx(2 / 3)
    assert rows[0][1]['valid/judge_asked'] == 1


@pytest.mark.parametrize(
  ('trained', 'level'),
  [('lead', 'turn'), ('subagent', 'rollout'), ('none', 'turn')],
)
def test_of_two_policies_one_is_trained_and_the_other_left_alone(
  trained, level
):
  def lead(messages, key):
    if len(messages) == 2:
      return helpers.fan_out('Norland', 'Sorland')
    # One of two rollouts is right.
    return tables.render_table(testing.COUNTRIES.table) if key[3] else 'So.'

  engines = {
    'lead': scripted(lead),
    'subagent': scripted(lambda messages, key: 'I do not know.'),
  }
  frozen = 'lead' if trained == 'subagent' else 'subagent'
  (own,) = engines.keys() - {frozen}
  batches = []

  def step(state, batch, ref):
    batches.append(batch)
    return State(state.step + 1, 'new'), {}

  parts = dataclasses.replace(
    judged_parts(None),
    engine=engines[own],
    frozen_engines={frozen: engines[frozen]},
    step=step,
    advantage={'level': level},
    rollout={'group_size': 2, 'prompt_style': 'compact', 'max_lead_turns': 2},
  )
  config = parts_lib.LoopConfig(
    num_steps=1, tasks_per_step=1, trained_roles=trained
  )
  loop.train(
    State(0), parts, config, log=lambda *_: None, save=lambda state: None
  )
  assert engines[own].given == [None, 'new'] and engines[frozen].given == []
  (batch,) = batches
  text = testing.byte_tokenizer().decode(batch.targets[batch.weights != 0])
  agents = batching.batch_stats(batch).segments
  if trained == 'none':
    assert agents == 0 and text == ''
  elif trained == 'subagent':
    # Those of the rollout that had an answer of the right form.
    assert agents == 2 and text == 'I do not know.<|im_end|>' * 2
  else:
    assert agents == 2 and 'I do not' not in text
    assert 'create_sub_agents' in text and 'So.<|im_end|>' in text
    # Of rewards 0 (one turn trains: 'So.') and 1 (two): mean 2/3, deviation
    # 1/√3; with the turns of subagents it would be four of the second.
    assert batch.advantages.max() == pytest.approx(1 / np.sqrt(3), rel=1e-4)


def test_every_validation_is_told_and_logged():
  told, rows = [], []
  loop.train(
    State(0),
    judged_parts(lambda prompts: ['{"1": true}'] * len(prompts)),
    parts_lib.LoopConfig(num_steps=3, tasks_per_step=1, eval_every=2),
    log=lambda step, metrics: rows.append(metrics),
    save=lambda state: None,
    validated=lambda state, metrics: told.append((state, metrics)),
  )
  ((state, metrics),) = told
  assert state == State(2)
  assert metrics['valid/item_f1'] == pytest.approx(2 / 3)
  assert metrics.items() <= rows[1].items()
  assert [any(n.startswith('valid/') for n in row) for row in rows] == [
    False,
    True,
    False,
  ]
