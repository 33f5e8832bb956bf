import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import examples
from wideseek_jax.training import (
  batching,
  grpo_step,
  train_state,
  updates,
)

LAYOUT = {'row_len': 24, 'rows_per_micro_batch': 2, 'min_micro_batches': 4}


def _examples(tasks=4, without=()):
  """(groups, advantages, trained); the tasks `without` have no advantage."""
  groups, advantages = examples.random_groups(14, tasks=tasks)
  for task in without:
    advantages[task] = np.zeros_like(advantages[task])
  trained = [
    [[t.sample_mask for t in rollout.trajectories] for rollout in group]
    for group in groups
  ]
  return groups, advantages, trained


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4))
def test_tasks_are_dealt_evenly(has_advantage, minibatches):
  kept = has_advantage * minibatches  # so that they divide
  advantages = [np.full(2, float(k)) for k in kept]
  parts = updates.split_tasks(advantages, minibatches, seed=1, step=2)
  assert sorted(task for part in parts for task in part) == list(
    range(len(kept))
  )
  assert {len(part) for part in parts} == {len(has_advantage)}
  counts = [sum(kept[task] for task in part) for part in parts]
  assert max(counts) - min(counts) <= 1
  again = updates.split_tasks(advantages, minibatches, seed=1, step=2)
  assert again == parts


def test_each_step_deals_anew():
  advantages = [np.ones(2)] * 8

  def deal(**address):
    return updates.split_tasks(advantages, 2, **address)

  assert deal(seed=0, step=0) != deal(seed=0, step=1)
  assert deal(seed=0, step=0) != deal(seed=1, step=0)
  assert updates.split_tasks(advantages, 1, seed=0, step=0) == [list(range(8))]
  with pytest.raises(ValueError, match='8 tasks do not divide over 3'):
    updates.split_tasks(advantages, 3, seed=0, step=0)


def test_one_minibatch_is_the_batch():
  groups, advantages, trained = _examples()
  (batch,) = updates.make_minibatches(
    groups, advantages, trained, minibatches=1, seed=0, step=0, **LAYOUT
  )
  whole = batching.make_batch(groups, advantages, **LAYOUT)
  jax.tree.map(np.testing.assert_array_equal, batch, whole)


def test_a_minibatch_weighs_what_a_batch_does():
  groups, advantages, trained = _examples(6, without=(2,))
  batches = updates.make_minibatches(
    groups, advantages, trained, minibatches=3, seed=0, step=0, **LAYOUT
  )
  # Two tasks each, of which one has none of its half.
  sums = sorted(float(batch.weights.sum()) for batch in batches)
  np.testing.assert_allclose(sums, [1 / 2, 1, 1], rtol=1e-5)
  joined = batching.batch_stats(updates.join(batches))
  assert (joined.tasks, joined.dropped_tasks) == (6, 1)
  whole = batching.batch_stats(
    batching.make_batch(groups, advantages, **LAYOUT)
  )
  assert joined.segments == whole.segments
  assert joined.trained_tokens == whole.trained_tokens


@dataclasses.dataclass
class FakeUpdate:
  """Counts up a state's step and remembers what it was given."""

  calls: list = dataclasses.field(default_factory=list)
  rescored: list = dataclasses.field(default_factory=list)

  def __call__(self, state, batch, ref_params):
    self.calls.append((int(batch.num_tasks), batch.old_logprobs, ref_params))
    loss = np.float32(len(self.calls))
    return dataclasses.replace(
      state, params=state.params + 1, step=state.step + 1
    ), {'loss': loss, 'ratio_max': loss}

  def rescore(self, params, batch):
    self.rescored.append(params)
    return dataclasses.replace(batch, old_logprobs='ours')


def _numbered(empty=()):
  """Three minibatches that are told apart by num_tasks."""
  groups, advantages, _ = _examples(1)
  batch = batching.make_batch(groups, advantages, **LAYOUT)
  return [
    dataclasses.replace(
      batch,
      num_tasks=np.int32(number),
      num_micro_batches=np.int32(number not in empty),
    )
    for number in range(3)
  ]


def _state(step):
  return train_state.TrainState(params=0, opt_state=None, step=step)


def _run(update, batches, step=7, **options):
  options = {'epochs': 1, 'rescore': False, 'seed': 0} | options
  return updates.run_updates(
    update, _state(step), batches, 'ref', step=step, **options
  )


def test_epochs_of_minibatches():
  update = FakeUpdate()
  state, metrics = _run(update, _numbered(), epochs=4)
  # Twelve updates are one step.
  assert (state.step, state.params) == (8, 12)
  order = [number for number, _, _ in update.calls]
  epochs = [tuple(order[i : i + 3]) for i in range(0, 12, 3)]
  assert all(sorted(epoch) == [0, 1, 2] for epoch in epochs)
  assert len(set(epochs)) > 1
  assert all(ref == 'ref' for _, _, ref in update.calls)
  # The mean and the largest of 1 … 12.
  assert metrics == {'loss': 6.5, 'ratio_max': 12.0}
  # Addressed by seed and step.
  again, other = FakeUpdate(), FakeUpdate()
  _run(again, _numbered(), epochs=4)
  _run(other, _numbered(), epochs=4, step=8)
  assert [c[0] for c in again.calls] == order != [c[0] for c in other.calls]


def test_all_are_rescored_before_the_first_update():
  update = FakeUpdate()
  _run(update, _numbered(), epochs=2, rescore=True)
  assert update.rescored == [0, 0, 0]
  assert [old for _, old, _ in update.calls] == ['ours'] * 6


def test_empty_minibatches_are_passed_over():
  update = FakeUpdate()
  state, _ = _run(update, _numbered(empty=(0, 2)), epochs=2)
  assert [number for number, _, _ in update.calls] == [1, 1]
  assert state.step == 8
  # Unless there is nothing else: the step says that it skipped it.
  update = FakeUpdate()
  state, _ = _run(update, _numbered(empty=(0, 1, 2)))
  assert len(update.calls) == 1 and state.step == 8


@pytest.fixture(scope='module')
def step():
  mesh = examples.mesh()
  optimizer, _ = examples.plain_state(mesh)
  return grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, logprob_chunk=7, attention_block=4
  )


def test_minibatch_gradients_mean_the_batchs(step):
  groups, advantages, trained = _examples(4, without=(1,))

  def gradient(batch):
    _, state = examples.plain_state(examples.mesh())
    return examples.gradient(step(state, batch)[0])

  batches = updates.make_minibatches(
    groups, advantages, trained, minibatches=2, seed=0, step=0, **LAYOUT
  )
  whole = gradient(batching.make_batch(groups, advantages, **LAYOUT))
  halves = [gradient(batch) for batch in batches]
  jax.tree.map(
    lambda a, b, c: np.testing.assert_allclose((a + b) / 2, c, atol=1e-6),
    *halves,
    whole,
  )
  assert any(leaf.any() for leaf in jax.tree.leaves(whole))


def test_real_updates(step):
  """Two epochs of two minibatches, against the same by hand."""
  groups, advantages, trained = _examples()
  batches = updates.make_minibatches(
    groups, advantages, trained, minibatches=2, seed=0, step=0, **LAYOUT
  )
  mesh = examples.mesh()
  _, state = examples.plain_state(mesh)
  state, metrics = updates.run_updates(
    step, state, batches, epochs=2, rescore=True, seed=0, step=0
  )
  assert int(state.step) == 1
  _, expected = examples.plain_state(mesh)
  batches = [step.rescore(examples.params(), batch) for batch in batches]
  losses = []
  for epoch in range(2):
    order = np.random.default_rng([0, 0, 2 + epoch]).permutation(2)
    for index in order:
      expected, seen = step(expected, batches[index])
      losses.append(float(seen['loss']))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    state.params,
    expected.params,
  )
  np.testing.assert_allclose(metrics['loss'], np.mean(losses), rtol=1e-4)
