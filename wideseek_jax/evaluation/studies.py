"""Studies: what changes from cell to cell, and what came of it.

Out come the cells of a study as changes to a config; in come their summaries
(`run_benchmark`), and out go a table and a figure. The widths, ablations and
data are those of arXiv 2602.04634 §4.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt

from wideseek_jax import files

STUDIES = ('width', 'depth', 'roles', 'data')
WIDTHS = (0, 2, 5, 10)
DEPTHS = (1, 2, 4, 8, 16)
_AXES = {
  'width': 'subagents of a fan-out',
  'depth': 'turns of a single agent',
  'roles': 'trained role',
  'data': 'training data',
}

Changes = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
  """One policy under one set of limits.

  Attributes:
    name: of the cell, part of its folder's name.
    changes: to the config, by dotted names, in training and evaluation.
    train: further changes in training; None if nothing is trained.
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
    return [Cell(str(d), limits(rollout, width=0, depth=d)) for d in DEPTHS]
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
  """A row a cell: its scores over all tasks, and tokens of a rollout."""
  columns = _columns(summaries)
  lines = [
    '| ' + ' | '.join([_AXES[study], *map(' '.join, columns)]),
    '|---' * (len(columns) + 1),
  ]
  lines = [f'{lines[0]} | tokens a rollout |', f'{lines[1]}|---|']
  for name, summary in summaries.items():
    found = summary['scores']['all']
    cells = [_cell(found.get(metric, {}).get(at)) for metric, at in columns]
    tokens = summary['costs']['tokens'] / max(summary['costs']['rollouts'], 1)
    lines.append('| ' + ' | '.join([name, *cells, f'{tokens:,.0f}']) + ' |')
  tasks = {
    estimate['count']
    for summary in summaries.values()
    for estimate in [next(iter(summary['scores']['all'].values()))]
    for estimate in [next(iter(estimate.values()))]
  }
  lines += [
    '',
    f'Per cent over {"/".join(map(str, sorted(tasks)))} tasks with 95 % '
    'bootstrap intervals.',
  ]
  return '\n'.join(lines) + '\n'
