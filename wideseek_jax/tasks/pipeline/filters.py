"""What a task must pass: two answers that agree, and no short cut.

In come answers and the pages of an offline web; out go the share of cells on
which the answers agree, and the reason why a question is too easy. The paper
keeps tables of more than 0.9 agreement and at least three rows; that a task
must not be answered by one page or one search is this project's reading of
'hard enough' (SPEC C.1).
"""

import collections
import functools
import re
from collections.abc import Callable, Iterable, Sequence

from wideseek_jax import types
from wideseek_jax.judge import rules
from wideseek_jax.tasks import metrics
from wideseek_jax.tasks.facts import second

MIN_AGREEMENT = 0.9
MIN_ROWS = 3
# The most hits that one search may ask for.
_HITS = 9

_WORD = re.compile(r'\w+(?:[.,]\w+)*')


@functools.lru_cache(maxsize=1 << 16)
def same_cell(a: str, b: str) -> bool:
  """Whether two cells agree: never where one of them is empty."""
  if not a or not b:
    return False
  return a == b or rules.same(second.fold(a), second.fold(b))


def compare_tables(
  first: types.Table,
  other: types.Table,
  unique_columns: Sequence[str],
  same: Callable[[str, str, str], bool] = lambda _, a, b: same_cell(a, b),
) -> tuple[float, list[str]]:
  """Cells that agree, of all cells of the rows of either table.

  Args:
    first: columns decide.
    other: its columns are brought into their order.
    unique_columns: rows are joined by them; a row that one table lacks counts
      as wrong cells.
    same: whether two cells of a column agree.

  Returns:
    (share in [0, 1], what is disputed, such as 'France, area: 1 or 2'). The
    share is 0 if a column is missing or there is no row.
  """
  other = metrics.align_columns(other, first.columns)
  if other is None:
    return 0.0, ['the columns']
  keys = [first.columns.index(name) for name in unique_columns]
  ours, theirs = _by_key(first, keys), _by_key(other, keys)
  disputed, agreed = [], 0
  for key, row in {**theirs, **ours}.items():
    name = ', '.join(row[i] for i in keys)
    if key not in ours or key not in theirs:
      disputed.append(f'{name}: in one answer only')
      continue
    for i, (column, a) in enumerate(zip(first.columns, row, strict=True)):
      b = theirs[key][i]
      if i in keys or same(column, a, b):
        agreed += 1
      else:
        disputed.append(f'{name}, {column}: {a or "?"} or {b or "?"}')
  cells = len(ours.keys() | theirs.keys()) * len(first.columns)
  return (agreed / cells if cells else 0.0), disputed


class Hardness:
  """Tells whether one page or one search holds all that an answer needs.

  Args:
    tools: the offline web.
  """

  def __init__(self, tools: types.Tools):
    self._tools = tools
    # Pages of a group come up again and again.
    self._words = functools.lru_cache(maxsize=1 << 15)(self._read)

  def easy(self, question: str, evidence: Iterable[str]) -> str:
    """Why a question is too easy, '' if it is not.

    One search is that for the question itself with all pages that it finds,
    nine at most: what an agent has after a single turn.
    """
    wanted = {w for text in evidence if (w := words(text)).strip()}
    pages = [self._words(h.url) for h in self._tools.search(question, _HITS)]
    held = [{text for text in wanted if text in page} for page in pages]
    if any(found == wanted for found in held):
      return 'one page answers it'
    if wanted and set().union(*held) == wanted:
      return 'one search answers it'
    return ''

  def _read(self, url: str) -> str:
    page = self._tools.access(url)
    return words(f'{page.title}\n{page.contents}') if page else ''


def leaks(
  guarded: Iterable[types.Task], trained: Iterable[types.Task]
) -> collections.Counter[str]:
  """Training tasks that tell a part of a guarded answer, by task id.

  That is one that asks the same, has an equal row of two cells at least, or
  tells of the same thing (metadata 'entities').
  """
  closed: set[object] = set()
  for task in guarded:
    closed |= _traces(task)
  return collections.Counter(
    {
      task.task_id: len(shared)
      for task in trained
      if (shared := _traces(task) & closed)
    }
  )


def question_key(question: str) -> str:
  """Equal for questions that differ in case, accents and signs only."""
  return words(question)


# The same names come up in thousands of tables.
_canonical = functools.lru_cache(maxsize=1 << 17)(rules.canonical)


def _by_key(
  table: types.Table, keys: Sequence[int]
) -> dict[tuple, tuple[str, ...]]:
  rows: dict[tuple, tuple[str, ...]] = {}
  for row in table.rows:
    rows.setdefault(tuple(_canonical(row[i]) for i in keys), row)
  return rows


def _traces(task: types.Task) -> set[object]:
  found: set[object] = {('question', question_key(task.question))}
  found |= {('entity', *e) for e in task.metadata.get('entities', ())}
  if task.table is not None and len(task.table.columns) > 1:
    found |= {('row', *map(_canonical, row)) for row in task.table.rows}
  return found


def words(text: str) -> str:
  """Folded words between single blanks, so that `in` finds whole words."""
  return f' {" ".join(_WORD.findall(second.fold(text)))} '
