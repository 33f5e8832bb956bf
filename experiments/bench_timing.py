"""Timing on a machine that others use too.

In: something to run. Out: its samples, those taken while other processes kept
quiet. The rule is that of the peers' scripts, so that figures compare.
"""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

# A sample counts if others used less than this part of the machine meanwhile.
QUIET = 0.1


@dataclasses.dataclass(frozen=True)
class Sample:
  """One run.

  Attributes:
    wall_s: seconds from start to end.
    cpu_s: CPU seconds of this process.
    foreign: the part of the machine that other processes used, 0 to 1.
    result: what the run returned.
  """

  wall_s: float
  cpu_s: float
  foreign: float
  result: Any


def timed(
  run: Callable[[], Any],
  *,
  prepare: Callable[[], None],
  repeats: int,
  budget_s: float,
) -> list[Sample]:
  """Runs until there are enough quiet samples, or the budget is spent.

  Args:
    run: blocks until its work is done.
    prepare: called before each run, not timed.
    repeats: quiet samples wanted.
    budget_s: after this many seconds the quietest samples so far must do, at
      least three of them (or `repeats`, if that is less).
  """
  samples: list[Sample] = []
  begun = time.perf_counter()
  while True:
    prepare()
    busy, own = _machine_seconds(), _own_seconds()
    start = time.perf_counter()
    result = run()
    wall = time.perf_counter() - start
    cpu = _own_seconds() - own
    others = max(0.0, _machine_seconds() - busy - cpu)
    foreign = others / (wall * os.cpu_count())
    samples.append(Sample(wall, cpu, foreign, result))
    quiet = [sample for sample in samples if sample.foreign < QUIET]
    if len(quiet) >= repeats:
      return quiet
    least = min(3, repeats)
    spent = time.perf_counter() - begun
    if spent > budget_s and len(samples) >= least:
      samples.sort(key=lambda sample: sample.foreign)
      return samples[: max(least, len(quiet))]


def summary(samples: Sequence[Sample], tokens: int) -> dict[str, float]:
  """The row that the peers' scripts write for such samples of `tokens`."""
  walls = sorted(sample.wall_s for sample in samples)
  median = statistics.median(walls)
  return {
    'n': len(walls),
    'min_s': round(walls[0], 4),
    'median_s': round(median, 4),
    'max_s': round(walls[-1], 4),
    'cpu_s': round(statistics.median(s.cpu_s for s in samples), 3),
    'foreign_max': round(max(s.foreign for s in samples), 3),
    'units': tokens,
    'per_s_median': round(tokens / median, 1),
    'per_s_best': round(tokens / walls[0], 1),
  }


def _machine_seconds() -> float:
  """CPU seconds that all processes have used; 0 where that is not told."""
  try:
    with open('/proc/stat') as file:
      values = [int(field) for field in file.readline().split()[1:9]]
  except OSError:
    return 0.0
  # user nice system idle iowait irq softirq steal
  return (sum(values) - values[3] - values[4]) / os.sysconf('SC_CLK_TCK')


def _own_seconds() -> float:
  times = os.times()
  own = times.user + times.system
  return own + times.children_user + times.children_system
