"""How much every trained token counts.

In: which tokens of a batch of rollouts are trained. Out: a weight for each of
them. This is all the averaging that the objective has: from here on it is a
plain sum, which no packing and no micro-batch can change.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Aggregation = Literal['dual_level', 'token_mean']

# For each task, rollout and agent an array [tokens].
Nested = Sequence[Sequence[Sequence[np.ndarray]]]


def token_weights(
  masks: Nested, aggregation: Aggregation = 'dual_level'
) -> list[list[list[np.ndarray]]]:
  """Weights of the trained tokens of a batch.

  'dual_level' is 1/tasks · 1/G · 1/N · 1/n (arXiv 2602.04634 §3): G the size of
  the group, N the agents of the rollout that have trained tokens, n the trained
  tokens of the agent. The weights of a task sum to 1/tasks, less 1/(tasks·G)
  for each rollout without any trained token.

  'token_mean' is 1 / (trained tokens of all tasks) (arXiv 2503.14476 §3.3), so
  long trajectories and rollouts of many agents count more.

  Args:
    masks: for each task, rollout and agent a bool [tokens], True if trained.
    aggregation: see above.

  Returns:
    float32 arrays, nested like the masks; 0 if not trained.

  Raises:
    ValueError: there is no such aggregation.
  """
  if aggregation == 'token_mean':
    total = sum(
      int(mask.sum()) for group in masks for agents in group for mask in agents
    )
    return [
      [
        [_spread(mask, 1 / max(total, 1)) for mask in agents]
        for agents in group
      ]
      for group in masks
    ]
  if aggregation != 'dual_level':
    raise ValueError(
      f"aggregation must be 'dual_level' or 'token_mean', got {aggregation!r}"
    )
  return [
    [_split(agents, 1 / (len(masks) * len(group))) for agents in group]
    for group in masks
  ]


def _split(masks: Sequence[np.ndarray], share: float) -> list[np.ndarray]:
  """Splits a rollout's share evenly over agents, then over their tokens."""
  num_agents = sum(bool(mask.any()) for mask in masks)
  return [
    _spread(mask, share / max(num_agents * mask.sum(), 1)) for mask in masks
  ]


def _spread(mask: np.ndarray, weight: float) -> np.ndarray:
  return (mask * weight).astype(np.float32)
