"""Means over tasks with bootstrap intervals.

In: one number a task (already averaged over its samples). Out: the mean with a
95 % interval, or the paired gain between two runs over the same tasks.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_RESAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean over tasks.

  Attributes:
    mean: the plain mean.
    low: lower end of the 95 % percentile bootstrap interval.
    high: its upper end.
    count: how many tasks it is over.
  """

  mean: float
  low: float
  high: float
  count: int

  def __str__(self) -> str:
    return f'{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]'


def task_means(
  rows: Sequence[Mapping[str, Any]], name: str
) -> dict[str, float]:
  """Task id → mean of one column over its samples; tasks without it are out."""
  values = defaultdict(list)
  for row in rows:
    if name in row:
      values[row['task_id']].append(float(row[name]))
  return {task_id: sum(v) / len(v) for task_id, v in values.items()}


def estimate(values: Sequence[float], *, seed: int = 0) -> Estimate:
  """The mean of one value a task with its bootstrap interval.

  Tasks are resampled, not samples: two samples of one task are no independent
  evidence about other tasks.

  Args:
    values: one number a task.
    seed: of the resampling.

  Raises:
    ValueError: there are no values.
  """
  values = np.asarray(values, np.float64)
  if values.size == 0:
    raise ValueError('cannot estimate a mean over no tasks')
  rng = np.random.default_rng(seed)
  picks = rng.integers(0, values.size, size=(_RESAMPLES, values.size))
  means = values[picks].mean(axis=1)
  low, high = np.percentile(means, [2.5, 97.5])
  return Estimate(float(values.mean()), float(low), float(high), values.size)


def paired_gain(
  before: dict[str, float], after: dict[str, float], *, seed: int = 0
) -> Estimate:
  """The mean gain per task between two runs over the same tasks.

  Args:
    before: task id → value of the first run.
    after: task id → value of the second run.
    seed: of the resampling.

  Raises:
    ValueError: the runs are not over the same tasks.
  """
  if before.keys() != after.keys():
    raise ValueError('a paired gain needs the same tasks in both runs')
  gains = [after[task_id] - before[task_id] for task_id in sorted(before)]
  return estimate(gains, seed=seed)
