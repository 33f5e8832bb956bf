"""Studies: what changes from cell to cell, and what came of it.

Out come the cells of a study as changes to a config; in come their summaries
(`run_benchmark`), and out go a table and a figure. The widths, ablations and
data are those of arXiv 2602.04634 §4.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt

from wideseek_jax import files
from wideseek_jax.evaluation import summaries as summaries_lib

STUDIES = ('width', 'depth', 'roles', 'data')
# Of these the cells train; what they are held to is wide and deep.
TRAINING = ('roles', 'data')
WIDTHS = (0, 2, 5, 10)
DEPTHS = (1, 2, 4, 8, 16)
_AXES = {
  'width': 'subagents of a fan-out',
  'depth': 'turns of the lead or single agent',
  'roles': 'trained role',
  'data': 'training data',
}

Changes = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
  """One policy under one set of limits.

  Attributes:
    name: of the cell, part of its folder's name.
    changes: to the config of the evaluation, by dotted names.
    train: changes to that of the training; None if nothing is trained.
    plays: the roles that the trained policy plays in the evaluation; the
      others are played by the one that training began with.
  """

  name: str
  changes: Changes = dataclasses.field(default_factory=dict)
  train: Changes | None = None
  plays: str = 'both'


def limits(
  rollout: Mapping[str, Any],
  *,
  width: int | None = None,
  depth: int | None = None,
) -> Changes:
  """The changes that mean a width, a depth or both.

  Args:
    rollout: config.rollout as it is.
    width: subagents of a fan-out; 0 is a single agent.
    depth: turns of the lead, or of the single agent.
  """
  workflow, changes = rollout['workflow'], {}
  if width is not None:
    workflow = 'multi' if width else 'single'
    changes['rollout.workflow'] = workflow
    if width:
      changes['rollout.max_subagents'] = width
  if depth is not None:
    role = 'lead' if workflow == 'multi' else 'single'
    changes[f'rollout.max_{role}_turns'] = depth
  return changes


def cells(study: str, rollout: Mapping[str, Any], policy: str) -> list[Cell]:
  """The cells of a study.

  Args:
    study: one of STUDIES.
    rollout: config.rollout as it is.
    policy: config.policy, which training begins with.
  """
  if study == 'width':
    return [Cell(str(w), limits(rollout, width=w)) for w in WIDTHS]
  if study == 'depth':
    return [Cell(str(d), limits(rollout, depth=d)) for d in DEPTHS]
  if study == 'data':
    kinds = {
      'hybrid': ('wide', 'deep'),
      'wide': ('wide',),
      'deep': ('deep',),
    }
    return [Cell(name, train={'data.kinds': k}) for name, k in kinds.items()]
  # The role that is not trained is played by the policy as it was.
  one = {
    role: {'loop.trained_roles': role, 'subagent_policy': policy}
    for role in ('lead', 'subagent')
  }
  return [
    Cell('both', train={'loop.trained_roles': 'both'}),
    *(Cell(role, train=changes, plays=role) for role, changes in one.items()),
    Cell('none', plays='none'),
  ]


def played(cell: Cell, trained: str, policy: str) -> Changes:
  """Who plays what in the evaluation of a cell.

  Args:
    cell: whose `plays` tells it.
    trained: the trained policy.
    policy: the other one.
  """
  return {
    'both': {'policy': trained},
    'lead': {'policy': trained, 'subagent_policy': policy},
    'subagent': {'policy': policy, 'subagent_policy': trained},
    'none': {'policy': policy},
  }[cell.plays]


def table(study: str, summaries: Mapping[str, Mapping[str, Any]]) -> str:
  """A row a cell: avg@k and max@k over all tasks, and tokens a rollout.

  Args:
    study: one of STUDIES.
    summaries: what `run_benchmark.run` returned, by cell.
  """
  first = next(iter(summaries.values()))
  k = first['samples']
  # Of one sample they are the same.
  at_k = [f'avg@{k}', f'max@{k}'][: min(k, 2)]
  columns = [(metric, at) for metric in _all(first) for at in at_k]
  names = [_AXES[study], *map(' '.join, columns), 'tokens a rollout']
  rows = ['| ' + ' | '.join(names) + ' |', '|---' * len(names) + '|']
  for name, summary in summaries.items():
    cells = [
      summaries_lib.percent(_all(summary)[metric][at]) for metric, at in columns
    ]
    costs = summary['costs']
    cells.append(f'{costs["tokens"] / max(costs["rollouts"], 1):,.0f}')
    rows.append('| ' + ' | '.join([name, *cells]) + ' |')
  count = first['costs']['rollouts'] // k
  rows.append(f'\n{count} tasks; per cent with 95 % bootstrap intervals.')
  return '\n'.join(rows) + '\n'


def plot(
  study: str, summaries: Mapping[str, Mapping[str, Any]], path: files.Path
) -> None:
  """Draws the mean of every metric by cell, with its interval, as a PNG.

  Args:
    study: one of STUDIES.
    summaries: as in `table`.
    path: what to write.
  """
  figure, axes = plt.subplots(figsize=(7, 4.2), layout='constrained')
  metrics = list(_all(next(iter(summaries.values()))))
  for place, metric in enumerate(metrics):
    # The first of the estimates is avg@k.
    found = [next(iter(_all(s)[metric].values())) for s in summaries.values()]
    shift = 0.06 * (place - (len(metrics) - 1) / 2)
    mean = [100 * one['mean'] for one in found]
    ends = [
      [100 * (one['mean'] - one['low']) for one in found],
      [100 * (one['high'] - one['mean']) for one in found],
    ]
    axes.errorbar(
      [x + shift for x in range(len(found))],
      mean,
      yerr=ends,
      fmt='o-' if study in ('width', 'depth') else 'o',
      capsize=3,
      label=metric,
    )
  axes.set_xticks(range(len(summaries)), list(summaries))
  axes.set_xlabel(_AXES[study])
  axes.set_ylabel('per cent, 95 % interval')
  axes.set_ylim(bottom=0)
  axes.grid(alpha=0.3)
  axes.legend()
  with files.replacing(path) as partial:
    figure.savefig(partial, dpi=130, format='png')
  plt.close(figure)


def _all(summary: Mapping[str, Any]) -> dict[str, Any]:
  return summary['scores']['all']
