"""Texts as typed tables, read the way the official scorer reads them.

In comes a final answer, or the CSV of a gold table; out goes a pandas frame
whose columns have the types that pandas 2 infers (`int64`, `float64`, `bool`,
`object`), or None where an answer holds no table. How a cell was written is
lost where its whole column is numeric: 007 is 7, 1.50 is 1.5, and NA is
missing.

This is not `tasks.tables`, which reads what the policy is trained to write.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

_FENCE = '```'
_OPEN_FENCE = _FENCE + 'markdown'
# A line of these alone is the rule below a header, or a row of blanks.
_RULE = frozenset('|- :')


def column_name(name: str) -> str:
  """A header cell as it is compared: no outer blanks, case or U+0020."""
  return name.strip().lower().replace(' ', '')


def read_answer(text: str, **options: Any) -> pd.DataFrame | None:
  """The table of an answer with its columns by `column_name`.

  It is the first closed block of ```markdown, be it a draft; without one the
  first run of lines that begin with a pipe, the line of the first pipe from
  there on, if the text has four pipes at least. Columns without a name are
  dropped.

  Args:
    text: the answer.
    options: for pandas.read_csv.

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
  rows = ['|'.join(_stripped(line.strip().split('|'))) for line in lines]
  kept = [row for row, line in zip(rows, lines, strict=True) if _is_row(line)]
  frame = pd.read_csv(io.StringIO('\n'.join(kept)), sep='|', **options)
  frame = frame.loc[:, ~frame.columns.str.startswith('Unnamed')].copy()
  frame.columns = [column_name(name) for name in frame.columns]
  return frame


def read_gold(
  text: str, required: Sequence[str], **options: Any
) -> pd.DataFrame:
  """The required columns of a gold CSV, in their order.

  Args:
    text: the CSV with its header.
    required: names after `column_name`.
    options: for pandas.read_csv.

  Raises:
    ValueError: a row has more or fewer fields than the header, or a required
      column is missing. The official loader fills up or shifts such rows.
  """
  header: list[str] = []
  # No newline is translated: pandas parts lines itself, too.
  for row in (reader := csv.reader(io.StringIO(text, newline=''))):
    header = header or row
    if row and len(row) != len(header):
      raise ValueError(
        f'the gold row in line {reader.line_num} has {len(row)} fields; its '
        f'header has {len(header)}'
      )
  frame = pd.read_csv(io.StringIO(text), **options)
  frame.columns = [column_name(name) for name in frame.columns]
  return required_columns(frame, required)


def required_columns(
  frame: pd.DataFrame, required: Sequence[str]
) -> pd.DataFrame:
  """Those columns, in that order.

  Raises:
    ValueError: one is missing.
  """
  missing = [name for name in required if name not in frame.columns]
  if missing:
    raise ValueError(
      f'the gold table has no column {missing[0]!r}, only {list(frame.columns)}'
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


def _stripped(cells: Iterable[str]) -> Iterable[str]:
  return (cell.strip() for cell in cells)
