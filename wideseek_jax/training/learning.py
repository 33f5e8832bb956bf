"""The loop's second half: from scored rollouts to an updated state.

In: what `rolling` made of a step. Out: the state after the step's updates, and
all that there is to say of the step in numbers.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from wideseek_jax import types
from wideseek_jax.rl import advantages as advantages_lib
from wideseek_jax.tasks import counts, rewards
from wideseek_jax.training import (
  batching,
  multihost,
  rolling,
  train_state,
  updates,
)
from wideseek_jax.training import parts as parts_lib


def learn(
  state: train_state.TrainState,
  parts: parts_lib.Parts,
  config: parts_lib.LoopConfig,
  hosts: multihost.Hosts,
  rolled: rolling.Rolled,
  keep: Callable[..., None],
  ref_params: Any,
) -> tuple[train_state.TrainState, rolling.Rolled, dict[str, float]]:
  """The updates of a step: (state, rolled, the step's metrics)."""
  start = time.monotonic()
  roles = rewards.TRAINED_ROLES[config.trained_roles]
  groups, scores, step = rolled.groups, rolled.scores, rolled.step
  advantages = score_advantages(groups, scores, roles, **parts.advantage)
  if config.rollouts_every and step % config.rollouts_every == 0:
    keep(
      'train',
      step,
      rolled.tasks,
      groups,
      scores,
      advantages=advantages,
      roles=roles,
    )
  batches = updates.make_minibatches(
    groups,
    advantages,
    [
      [
        rewards.trained_mask(rollout, score, roles)
        for rollout, score in zip(group, group_scores, strict=True)
      ]
      for group, group_scores in zip(groups, scores, strict=True)
    ],
    minibatches=config.minibatches,
    seed=config.seed,
    step=step,
    **parts.batch,
  )
  with hosts.meeting():
    state, step_metrics = updates.run_updates(
      parts.step,
      state,
      batches,
      ref_params,
      epochs=config.epochs,
      rescore=config.rescore,
      seed=config.seed,
      step=step,
    )
  stats = batching.batch_stats(updates.join(batches))
  metrics = {f'train/{k}': v for k, v in step_metrics.items()}
  metrics |= agent_means(groups)
  metrics |= rolling.score_means(scores, 'rollout/')
  metrics |= {
    f'batch/{k}': float(v) for k, v in dataclasses.asdict(stats).items()
  }
  metrics |= rolled.metrics | {'time/update_s': time.monotonic() - start}
  return state, rolled, metrics


def score_advantages(
  groups: Sequence[Sequence[types.Rollout]],
  scores: Sequence[Sequence[types.Score]],
  roles: Collection[types.Role] = rewards.ROLES,
  **options: Any,
) -> list[np.ndarray]:
  """Advantages of each group: float32 [G]; see `rl.advantages`.

  Args:
    groups: the rollouts.
    scores: theirs.
    roles: that train.
    **options: of `advantages.group_advantages`.
  """
  return [
    advantages_lib.group_advantages(
      [score.reward for score in group_scores],
      [
        sum(map(sum, rewards.trained_turns(rollout, score, roles)))
        for rollout, score in zip(group, group_scores, strict=True)
      ],
      **options,
    )
    for group, group_scores in zip(groups, scores, strict=True)
  ]


def agent_means(
  groups: Sequence[Sequence[types.Rollout]],
) -> dict[str, float]:
  """Means over agents of `tasks.counts.trajectory_counts`, as 'agent/…'."""
  found = [
    counts.trajectory_counts(t)
    for group in groups
    for rollout in group
    for t in rollout.trajectories
  ]
  return {
    f'agent/{name}': float(np.mean([one[name] for one in found]))
    for name in found[0]
  }
