"""The updates that one batch of rollouts makes: epochs of minibatches.

In: groups of rollouts with their advantages, the compiled step. Out: the next
state and one set of metrics. With one epoch of one minibatch, as published, all
groups make one update; more of them need `old_logprobs` that stay what they
were before the first.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from wideseek_jax import types
from wideseek_jax.training import batching, train_state


def split_tasks(
  advantages: Sequence[np.ndarray], minibatches: int, *, seed: int, step: int
) -> list[list[int]]:
  """Deals tasks into minibatches at random, a pure function of its arguments.

  Tasks that have an advantage are dealt first, so that no minibatch has more
  than one of them more than another: updates are of like size.

  Args:
    advantages: for each task float [G].
    minibatches: a divisor of the number of tasks.
    seed: of the run.
    step: of the run.

  Returns:
    For each minibatch the places of its tasks, in order, equally many.

  Raises:
    ValueError: tasks do not divide over the minibatches.
  """
  if len(advantages) % minibatches:
    raise ValueError(
      f'{len(advantages)} tasks do not divide over {minibatches} minibatches'
    )
  order = np.random.default_rng([seed, step, 1]).permutation(len(advantages))
  # Stable: the order stays random on both sides.
  order = sorted(order.tolist(), key=lambda task: not np.any(advantages[task]))
  return [sorted(order[first::minibatches]) for first in range(minibatches)]


def make_minibatches(
  groups: Sequence[Sequence[types.Rollout]],
  advantages: Sequence[np.ndarray],
  trained: Sequence[Sequence[Sequence[np.ndarray]]],
  *,
  minibatches: int,
  seed: int,
  step: int,
  **batch: Any,
) -> list[batching.Batch]:
  """Packs every minibatch on its own.

  A minibatch is a batch like any other: with T tasks, each of them weighs 1/T
  in it. All have equally many tasks, so at given parameters the mean of their
  dual-level gradients is exactly the gradient of the whole batch.

  Args:
    groups: as in `batching.make_batch`, as are the next two.
    advantages: see above.
    trained: see above.
    minibatches: see `split_tasks`, as are the next two.
    seed: see above.
    step: see above.
    **batch: the other options of `batching.make_batch`.
  """
  parts = split_tasks(advantages, minibatches, seed=seed, step=step)
  return [
    batching.make_batch(
      [groups[task] for task in tasks],
      [advantages[task] for task in tasks],
      trained=[trained[task] for task in tasks],
      **batch,
    )
    for tasks in parts
  ]


def run_updates(
  update: Callable[..., tuple[train_state.TrainState, dict[str, Any]]],
  state: train_state.TrainState,
  batches: Sequence[batching.Batch],
  ref_params: Any = None,
  *,
  epochs: int,
  rescore: bool,
  seed: int,
  step: int,
) -> tuple[train_state.TrainState, dict[str, float]]:
  """Makes epochs × minibatches updates, which are one step of the run.

  Args:
    update: from `grpo_step.make_grpo_step`.
    state: where to start; donated.
    batches: the minibatches of the step. One that holds nothing is passed over,
      unless all are empty: then the step is seen to be skipped.
    ref_params: what a KL term is taken to, if the step has one.
    epochs: passes over the minibatches, each in an order of its own.
    rescore: whether old_logprobs become the trainer's own, computed for all
      minibatches with the parameters before the first update.
    seed: of the run; the orders are addressed by (seed, step, epoch).
    step: of the run.

  Returns:
    (state, metrics): the state's step is one more, whatever the updates;
    metrics are means over the updates, those whose name ends in '_max' are
    maxima. 'skipped' is then the part of the updates that was not made.
  """
  batches = [b for b in batches if b.num_micro_batches] or list(batches[:1])
  if rescore:
    batches = [update.rescore(state.params, batch) for batch in batches]
  seen = []
  for epoch in range(epochs):
    rng = np.random.default_rng([seed, step, 2 + epoch])
    for index in rng.permutation(len(batches)):
      state, metrics = update(state, batches[index], ref_params)
      seen.append(metrics)
  # It counts batches of rollouts, each update has counted itself.
  state = dataclasses.replace(state, step=state.step - (len(seen) - 1))
  rows = jax.device_get(seen)  # once all is dispatched
  metrics = {}
  for name in rows[0]:
    reduce = np.max if name.endswith('_max') else np.mean
    metrics[name] = float(reduce([row[name] for row in rows]))
  return state, metrics


def join(batches: Sequence[batching.Batch]) -> batching.Batch:
  """One batch of all micro-batches, to be counted by `batching.batch_stats`."""
  return jax.tree.map(
    lambda *leaves: np.concatenate(leaves) if leaves[0].ndim else sum(leaves),
    *batches,
  )
