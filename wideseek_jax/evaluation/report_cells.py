"""The gold table beside an answer, cell by cell.

In comes what a lead answered and what is right; out go lines that hold a row of
each and a mark a cell. Rows are joined and cells compared as for the reward
(`tasks.metrics`), by rules alone: a judge may have let more cells pass.
"""

import dataclasses
from collections.abc import Sequence

from wideseek_jax import types
from wideseek_jax.judge import rules
from wideseek_jax.tasks import metrics, tables

RIGHT, WRONG, MISSING, TOO_MUCH, REPEATED = 'rwmxd'


@dataclasses.dataclass(frozen=True)
class Line:
  """A row of the gold table, of the answer, or of both.

  Attributes:
    gold: place of the row in the gold table, -1 if it has none.
    answer: cells of the answer in the order of the gold columns, or None.
    marks: a letter a column: RIGHT or WRONG if both have the row, MISSING if
      only gold has, TOO_MUCH if only the answer has, REPEATED if a row above
      has the same key (it does not count).
  """

  gold: int
  answer: tuple[str, ...] | None
  marks: str


def read_answer(
  text: str, columns: Sequence[str]
) -> tuple[types.Table | None, str]:
  """The table of an answer with the required columns, or why there is none.

  Raises:
    ValueError: two of the required columns have the same name.
  """
  table, problem = tables.parse_markdown_table(text)
  if table is None:
    return None, problem
  aligned = metrics.align_columns(table, columns)
  if aligned is None:
    return None, (
      'A required column is missing, or there twice; the columns are '
      f'{", ".join(table.columns)}.'
    )
  return aligned, ''


def compare(
  answer: types.Table | None, gold: types.Table, unique_columns: Sequence[str]
) -> list[Line]:
  """Lines in the order of gold, then what the answer has beyond it.

  Args:
    answer: from `read_answer`; None marks everything as missing.
    gold: what is right.
    unique_columns: the columns of gold that name a row.
  """
  keys = [gold.columns.index(name) for name in unique_columns]
  found = metrics.rows_by_key(answer, keys) if answer else {}
  wanted = metrics.rows_by_key(gold, keys)
  width = len(gold.columns)
  lines = []
  for key, row in wanted.items():
    place, mine = gold.rows.index(row), found.get(key)
    if mine is None:
      lines.append(Line(place, None, MISSING * width))
      continue
    marks = [
      RIGHT if i in keys or rules.same(mine[i], row[i]) else WRONG
      for i in range(width)
    ]
    lines.append(Line(place, mine, ''.join(marks)))
  seen = set()
  for row in answer.rows if answer else ():
    key = tuple(rules.canonical(row[i]) for i in keys)
    if key in seen:
      lines.append(Line(-1, row, REPEATED * width))
    elif key not in wanted:
      lines.append(Line(-1, row, TOO_MUCH * width))
    seen.add(key)
  return lines
