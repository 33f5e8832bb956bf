"""How faithfully subagents report what they read.

In: rollouts of wide tasks. Out: counts of the cells in subagents' reports that
stand in the gold table's row of the same key, letter by letter.
"""

from collections.abc import Iterable

from wideseek_jax import types


def reported_cells(rollout: types.Rollout, task: types.Task) -> tuple[int, int]:
  """Cells that subagents reported and how many of them are exact.

  Counted are the non-key cells of report lines '| key | cell | …' with as many
  cells as the gold table has columns and a key that is one of its keys; '?',
  which says that the subagent did not look, is not a cell.

  Args:
    rollout: of a wide task whose first column is its only key.
    task: the task.

  Returns:
    (exact cells, all cells).
  """
  gold = {row[0]: row[1:] for row in task.table.rows}
  exact = total = 0
  for subagent in rollout.subagents:
    for line in subagent.answer.splitlines():
      cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
      expected = gold.get(cells[0])
      if expected is None or len(cells) != len(expected) + 1:
        continue
      for cell, gold_cell in zip(cells[1:], expected, strict=True):
        if cell != '?':
          exact += cell == gold_cell
          total += 1
  return exact, total


def copy_accuracy(
  groups: Iterable[Iterable[types.Rollout]], tasks: Iterable[types.Task]
) -> tuple[float, int]:
  """Share of exact cells over all wide rollouts, and the number of cells.

  The share is NaN if no cell was reported.
  """
  counts = [
    reported_cells(rollout, task)
    for group, task in zip(groups, tasks, strict=True)
    if task.kind == 'wide'
    for rollout in group
  ]
  exact, total = (sum(column) for column in zip(*counts, strict=True))
  return exact / total if total else float('nan'), total
