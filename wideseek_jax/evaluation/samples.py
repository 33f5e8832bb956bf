"""What several samples of a task are worth together.

In come the values of one metric, a list a task; out go avg@k, max@k and pass@k
as means over tasks.
"""

import math
from collections.abc import Mapping, Sequence


def at_k(
  values: Mapping[str, Sequence[float]], k: int
) -> dict[str, dict[str, float]]:
  """avg@k, max@k, pass@k and pass@1 of every task.

  pass@j is the chance that one of j samples, drawn without replacement from
  those of the task, is a success (Chen et al. 2021, arXiv 2107.03374, eq. 1);
  with j samples in all it is 1.0 or 0.0. A success is a value of 1.

  Args:
    values: task id → its samples' values, in the order they were drawn.
    k: how many samples count.

  Returns:
    'avg@k' … → task id → value, ready for `metrics.estimate`. avg and max are
    over the first k samples, pass@1 and pass@k over all.

  Raises:
    ValueError: a task has fewer than k samples, or k is below 1.
  """
  if k < 1:
    raise ValueError(f'k must be at least 1, not {k}')
  for task_id, samples in values.items():
    if len(samples) < k:
      raise ValueError(f'task {task_id!r} has {len(samples)} samples of {k}')
  return {
    f'avg@{k}': {t: math.fsum(v[:k]) / k for t, v in values.items()},
    f'max@{k}': {t: max(v[:k]) for t, v in values.items()},
    'pass@1': {t: _pass(v, 1) for t, v in values.items()},
    f'pass@{k}': {t: _pass(v, k) for t, v in values.items()},
  }


def _pass(values: Sequence[float], k: int) -> float:
  wrong = sum(value < 1.0 for value in values)
  return 1.0 - math.comb(wrong, k) / math.comb(len(values), k)
