"""From the rewards of a group to the advantages of its rollouts.

In: the rewards of the G rollouts of one task. Out: one number a rollout, which
every agent and every token of that rollout shares (one outcome, one credit).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np


def group_advantages(
  rewards: Sequence[float] | np.ndarray,
  turns: Sequence[int] | np.ndarray | None = None,
  *,
  estimator: Literal['grpo', 'rloo'] = 'grpo',
  level: Literal['rollout', 'turn'] = 'rollout',
  ddof: int = 1,
  eps: float = 1e-6,
) -> np.ndarray:
  """Compares each reward with those of its group.

  Level 'rollout' is the published objective. At level 'turn' each trained turn
  counts once, with the reward of its rollout, so that a rollout of many turns
  moves mean and deviation more (the released code's `advantage_mode: turn`).
  The advantage of a rollout's turns is then one number all the same. Unlike
  there, a group with one turn has no advantage rather than a NaN, and a rollout
  without any does not shift the others to another task.

  Args:
    rewards: [G], any finite numbers.
    turns: [G], trained turns of each rollout; read at level 'turn' only.
    estimator: 'grpo' is (R - mean) / (std + eps) (arXiv 2602.04634 §3); 'rloo'
      is R less the mean of the other rollouts, or of their turns, and nothing
      is divided (arXiv 2402.14740 §3.1).
    level: what counts once in mean and deviation.
    ddof: 1 divides by the sample standard deviation (as the released code
      does), 0 by the population's; read by 'grpo' only.
    eps: added to the deviation.

  Returns:
    float32 [G]; exact zeros if all rewards that count are equal, which includes
    a group of one, and for rollouts that do not count.

  Raises:
    ValueError: rewards are not a non-empty finite vector, turns are missing or
      not G numbers from 0 on, or an option has no such value.
  """
  rewards = np.asarray(rewards, np.float64)
  if rewards.ndim != 1 or rewards.size == 0:
    raise ValueError(f'rewards must be a vector [G], got {rewards.shape}')
  if not np.isfinite(rewards).all():
    raise ValueError(f'rewards are not finite: {rewards.tolist()}')
  if estimator not in ('grpo', 'rloo'):
    raise ValueError(f"estimator must be 'grpo' or 'rloo', got {estimator!r}")
  if ddof not in (0, 1):
    raise ValueError(f'ddof must be 0 or 1, got {ddof}')
  counts = _counts(rewards.size, turns, level)
  seen = np.repeat(rewards, counts)
  if seen.size == 0 or np.all(seen == seen[0]):
    # Compared, not computed: a mean of equal floats may differ in its last bit,
    # and what is left would be blown up by the division by eps.
    return np.zeros(rewards.shape, np.float32)
  if estimator == 'grpo':
    advantages = (rewards - seen.mean()) / (seen.std(ddof=ddof) + eps)
  else:
    others = seen.size - counts
    # Not all of seen are equal, so no rollout that counts is without others.
    total = seen.sum() - counts * rewards
    advantages = rewards - total / np.maximum(others, 1)
  return np.where(counts > 0, advantages, 0).astype(np.float32)


def _counts(
  size: int, turns: Sequence[int] | np.ndarray | None, level: str
) -> np.ndarray:
  """How often each rollout counts: int64 [G]."""
  if level == 'rollout':
    return np.ones(size, np.int64)
  if level != 'turn':
    raise ValueError(f"level must be 'rollout' or 'turn', got {level!r}")
  if turns is None:
    raise ValueError("level 'turn' needs the number of turns of each rollout")
  counts = np.asarray(turns, np.int64)
  if counts.shape != (size,) or (counts < 0).any():
    raise ValueError(
      f'turns must be {size} numbers from 0 on, got {counts.tolist()}'
    )
  return counts
