"""Reads answers out of a final text: a markdown table or a boxed text.

In comes what an agent wrote as its last turn; out goes a `types.Table` (or the
reason why there is none), or the boxed answer of a question. All functions
are linear in the length of the text, whatever it holds: a policy under
reinforcement learning writes every kind of text sooner or later.
"""

import re

from wideseek_jax import types

_FENCE = '```'
_OPEN_FENCE = _FENCE + 'markdown'
_OPEN_THOUGHT = '<think>'
_CLOSE_THOUGHT = '</think>'
_BOXED = '\\boxed{'
_BORDER = re.compile(r'(?<!\\)\|')


def after_thought(text: str) -> str:
  """What follows the last closed thought; '' while a thought is open."""
  visible = text.rpartition(_CLOSE_THOUGHT)[2]
  return '' if _OPEN_THOUGHT in visible else visible


def parse_markdown_table(answer: str) -> tuple[types.Table | None, str]:
  """Reads the table of the last ```markdown block after the last thought.

  Args:
    answer: an agent's text; a thought in it is skipped.

  Returns:
    (table, '') or (None, the reason in one sentence). A table has a header of
    distinct non-empty names, at least one row, and the same number of cells
    in every row.
  """
  block = _last_block(after_thought(answer))
  if block is None:
    return None, 'There is no closed ```markdown block.'
  lines = [line.strip() for line in block.split('\n')]
  lines = [line for line in lines if line]
  if not lines:
    return None, 'The table is empty.'
  for number, line in enumerate(lines):
    if '|' not in line:
      return None, f'Line {number + 1} of the table holds no cell border.'
  columns, lines = _cells(lines[0]), lines[1:]
  if '' in columns:
    return None, 'A column has no name.'
  if len(set(columns)) < len(columns):
    return None, 'Two columns have the same name.'
  # Only the line below the header can be a separator: further down, a row of
  # dashes is data.
  if lines and _is_separator(_cells(lines[0])):
    lines = lines[1:]
  if not lines:
    return None, 'The table has no rows.'
  rows = []
  for line in lines:
    rows.append(_cells(line))
    if len(rows[-1]) != len(columns):
      return None, (
        f'Row {len(rows)} has {len(rows[-1])} cells; the header has '
        f'{len(columns)}.'
      )
  return types.Table(columns, tuple(rows)), ''


def render_table(table: types.Table) -> str:
  """The ```markdown block of a table; cell borders in cells are escaped."""

  def line(cells):
    return '| ' + ' | '.join(_escaped(cell) for cell in cells) + ' |'

  lines = [
    _OPEN_FENCE,
    line(table.columns),
    line(['---'] * len(table.columns)),
    *(line(row) for row in table.rows),
    _FENCE,
  ]
  return '\n'.join(lines)


def extract_boxed(text: str) -> str | None:
  r"""The content of the last balanced \boxed{...} after the last thought."""
  text = after_thought(text)
  end = len(text)
  # Like the fences: no candidate is read past the next one.
  while (start := text.rfind(_BOXED, 0, end)) >= 0:
    content = _balanced(text, start + len(_BOXED), end)
    if content is not None:
      return content.strip()
    end = start
  return None


def _last_block(text: str) -> str | None:
  """The content of the last closed markdown fence.

  Each opening is searched for its end only up to the next opening, so that
  the whole search reads the text once.
  """
  end = len(text)
  while (opening := text.rfind(_OPEN_FENCE, 0, end)) >= 0:
    start = opening + len(_OPEN_FENCE)
    close = text.find(_FENCE, start, end)
    if close >= 0:
      return text[start:close]
    end = opening
  return None


def _cells(line: str) -> tuple[str, ...]:
  """Splits a stripped line at the borders that no backslash escapes."""
  cells = [cell.strip() for cell in _BORDER.split(line)]
  if len(cells) > 1 and not cells[0]:
    cells = cells[1:]
  if len(cells) > 1 and not cells[-1]:
    cells = cells[:-1]
  return tuple(cell.replace('\\|', '|') for cell in cells)


def _is_separator(cells: tuple[str, ...]) -> bool:
  return all('-' in cell and not cell.strip('-: ') for cell in cells)


def _escaped(cell: str) -> str:
  return ' '.join(cell.split()).replace('|', '\\|')


def _balanced(text: str, start: int, end: int) -> str | None:
  """text[start:i] where i closes the brace that was opened before start."""
  depth = 1
  for i in range(start, end):
    if text[i] == '{':
      depth += 1
    elif text[i] == '}':
      depth -= 1
      if depth == 0:
        return text[start:i]
  return None
