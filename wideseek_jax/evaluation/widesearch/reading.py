"""Texts as typed tables, read the way the official scorer reads them.

In comes a final answer, or the CSV of a gold table; out goes a pandas frame
whose columns have the types that pandas 2 infers (`int64`, `float64`, `bool`,
`object`), or None where an answer holds no table. How a cell was written is
lost where its whole column is numeric: 007 is 7, 1.50 is 1.5, and NA is
missing.

This is not `tasks.tables`, which reads what the policy is trained to write.
"""

import io
from collections.abc import Sequence

import pandas as pd

from wideseek_jax.tasks import released

_FENCE = '```'
_OPEN_FENCE = _FENCE + 'markdown'
# A line of these alone is the rule below a header, or a row of blanks.
_RULE = frozenset('|- :')


def column_name(name: str) -> str:
  """A header cell as it is compared: no outer blanks, case or U+0020."""
  return name.strip().lower().replace(' ', '')


def read_answer(text: str) -> pd.DataFrame | None:
  """The table of an answer with its columns by `column_name`.

  It is the first closed block of ```markdown, be it a draft; without one the
  first run of lines that begin with a pipe, the line of the first pipe from
  there on, if the text has four pipes at least. Columns without a name are
  dropped.

  Returns:
    The table; None if there is neither block nor run.

  Raises:
    ValueError: the block holds no table, a row has more cells than the header,
      or quotes do not match (pandas.errors.ParserError and EmptyDataError).
  """
  block = _block(text)
  if block is None:
    return None
  first, *others = block.strip().split('\n')
  # Only here a name in capitals keeps its column: Unnamed is pandas' word for
  # a column without one.
  lines = [first.replace(' ', '').lower(), *others]
  kept = ['|'.join(_cells(line)) for line in lines if _is_row(line)]
  frame = pd.read_csv(io.StringIO('\n'.join(kept)), sep='|')
  frame = frame.loc[:, ~frame.columns.str.startswith('Unnamed')].copy()
  frame.columns = [column_name(name) for name in frame.columns]
  return frame


def read_gold(text: str, required: Sequence[str]) -> pd.DataFrame:
  """The required columns of a gold CSV, in their order.

  Args:
    text: the CSV with its header.
    required: names after `column_name`.

  Raises:
    ValueError: as `released.csv_table`, or a required column is missing.
  """
  # pandas would fill up or shift what this refuses.
  released.csv_table(text)
  frame = pd.read_csv(io.StringIO(text))
  frame.columns = [column_name(name) for name in frame.columns]
  for name in required:
    if name not in frame.columns:
      raise ValueError(
        f'the gold table has no column {name!r}, only {list(frame.columns)}'
      )
  return frame[list(required)]


def _block(text: str) -> str | None:
  start = text.find(_OPEN_FENCE)
  if start >= 0:
    start += len(_OPEN_FENCE)
    stop = text.find(_FENCE, start)
    # If the first opening is never closed, no other one is.
    if stop >= 0:
      return text[start:stop]
  if text.count('|') < 4:
    return None
  lines = text[text.index('|') :].split('\n')
  ends = (i for i, line in enumerate(lines) if not line.startswith('|'))
  return '\n'.join(lines[: next(ends, len(lines))])


def _is_row(line: str) -> bool:
  return '|' in line and not _RULE.issuperset(line.strip())


def _cells(line: str) -> list[str]:
  return [cell.strip() for cell in line.strip().split('|')]
