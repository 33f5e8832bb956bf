"""What an evaluation says: scores with intervals, by group, and its cost.

In come the rows of a `resumable` evaluation; out go estimates as plain numbers
and a Markdown table of them.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from wideseek_jax import progress
from wideseek_jax.evaluation import benchmarks, metrics, samples

_LABELS = ('language', 'rows', 'set')
COSTS = {
  'tokens': 'tokens read and sampled',
  'sampled_tokens': 'tokens sampled',
  'num_subagents': 'subagents',
  'num_search': 'searches',
  'num_access': 'pages opened',
  'judge_calls': 'judge calls',
  'wall_seconds': 'seconds',
}

# Metrics of answers that are right or wrong as a whole: they alone are passed.
WHOLE = ('success', 'score', 'exact_match', 'judge', 'format_ok')

Numbers = dict[str, float | int]
# Group → metric → 'avg@k', 'max@k', 'pass@1', 'pass@k' → an estimate's fields.
Scores = dict[str, dict[str, dict[str, Numbers]]]


def scores(
  rows: Sequence[benchmarks.Row], names: Sequence[str], k: int
) -> Scores:
  """Estimates over tasks of all rows and of every group of them.

  Args:
    rows: k samples a task, in the order of the samples.
    names: metrics; rows without one are no part of its mean.
    k: samples a task.

  Returns:
    'all', then the groups, such as 'language zh'. Metrics of WHOLE have pass@1
    and pass@k beside avg@k and max@k.
  """
  groups = defaultdict(list)
  for row in rows:
    groups['all'].append(row)
    for label in _LABELS:
      if label in row:
        groups[f'{label} {row[label]}'].append(row)
  order = ['all', *sorted(groups.keys() - {'all'}, key=_natural)]
  found: Scores = {}
  for group in order:
    if group != 'all' and len(groups[group]) == len(groups['all']):
      continue  # It says nothing new.
    of_group = {name: _estimates(groups[group], name, k) for name in names}
    found[group] = {name: one for name, one in of_group.items() if one}
  return found


def costs(rows: Sequence[benchmarks.Row]) -> Numbers:
  """What all rollouts took, by the names of COSTS."""
  return {'rollouts': len(rows)} | {
    name: sum(row.get(name, 0) for row in rows) for name in COSTS
  }


def table(found: Scores, k: int) -> str:
  """The scores as Markdown, in per cent with 95 % intervals."""
  columns = [f'avg@{k}', f'max@{k}', 'pass@1', f'pass@{k}']
  if k == 1:  # They are all the same.
    columns = columns[:1]
  lines = [
    '| ' + ' | '.join(['group', 'tasks', 'metric', *columns]) + ' |',
    '|' + '---|' * (3 + len(columns)),
  ]
  for group, by_metric in found.items():
    for name, estimates in by_metric.items():
      count = estimates[columns[0]]['count']
      cells = [percent(estimates.get(column)) for column in columns]
      lines.append('| ' + ' | '.join([group, str(count), name, *cells]) + ' |')
  return '\n'.join(lines) + '\n'


def cost_line(found: Numbers) -> str:
  """The cost in one sentence."""
  parts = [
    f'{found[name]:,.0f} {words}'
    for name, words in COSTS.items()
    if name != 'wall_seconds'
  ]
  took = progress.format_seconds(found['wall_seconds'])
  return f'{found["rollouts"]} rollouts: {", ".join(parts)}; {took}.\n'


def percent(estimate: Numbers | None) -> str:
  """'51.0 [46.2, 55.9]'; nothing for None."""
  if estimate is None:
    return ''
  mean, low, high = (100 * estimate[name] for name in ('mean', 'low', 'high'))
  return f'{mean:.1f} [{low:.1f}, {high:.1f}]'


def _estimates(
  rows: Sequence[benchmarks.Row], name: str, k: int
) -> dict[str, Numbers]:
  values = defaultdict(list)
  for row in rows:
    if name in row:
      values[row['task_id']].append(float(row[name]))
  if not values:
    return {}
  found = samples.at_k(values, k)
  if name not in WHOLE:
    found = {at: v for at, v in found.items() if not at.startswith('pass')}
  return {
    at: dataclasses.asdict(metrics.estimate(list(by_task.values())))
    for at, by_task in found.items()
  }


def _natural(group: str) -> tuple[Any, ...]:
  """Sorts 'rows 6-10' before 'rows 11-20'."""
  label, _, value = group.partition(' ')
  digits = value.partition('-')[0].rstrip('+')
  return label, int(digits) if digits.isdigit() else 0, value
