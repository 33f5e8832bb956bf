"""From the rewards of a group to the advantages of its rollouts.

In: the rewards of the G rollouts of one task. Out: one number a rollout, which
every agent and every token of that rollout shares (one outcome, one credit).
"""

from collections.abc import Sequence

import numpy as np


def group_advantages(
  rewards: Sequence[float] | np.ndarray, *, ddof: int = 1, eps: float = 1e-6
) -> np.ndarray:
  """Standardises rewards within their group (arXiv 2602.04634 §3).

  Args:
    rewards: [G], any finite numbers.
    ddof: 1 divides by the sample standard deviation (as the released code
      does), 0 by the population's.
    eps: added to the deviation.

  Returns:
    float32 [G], (R - mean) / (std + eps); exact zeros if all rewards are equal,
    which includes a group of one.

  Raises:
    ValueError: rewards are not a non-empty finite vector, or ddof is not 0 or
      1.
  """
  rewards = np.asarray(rewards, np.float64)
  if rewards.ndim != 1 or rewards.size == 0:
    raise ValueError(f'rewards must be a vector [G], got {rewards.shape}')
  if not np.isfinite(rewards).all():
    raise ValueError(f'rewards are not finite: {rewards.tolist()}')
  if ddof not in (0, 1):
    raise ValueError(f'ddof must be 0 or 1, got {ddof}')
  if np.all(rewards == rewards[0]):
    # Compared, not computed: a mean of equal floats may differ in its last bit,
    # and what is left would be blown up by the division by eps.
    return np.zeros(rewards.shape, np.float32)
  centered = rewards - rewards.mean()
  return (centered / (rewards.std(ddof=ddof) + eps)).astype(np.float32)
