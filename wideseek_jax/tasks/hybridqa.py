"""HybridQA's tables, passages and questions (Chen et al., 2020).

In come the files of the release: `tables_tok/<id>.json` (url, title, header
and data with links), `request_tok/<id>.json` (a text for each link) and the
lists of questions; out go tables, deep tasks and the pages of an offline web.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from wideseek_jax import files, types
from wideseek_jax.tasks import lines
from wideseek_jax.tools import corpus

_WIKIPEDIA = 'https://en.wikipedia.org'


@dataclasses.dataclass(frozen=True)
class LinkedTable:
  """A table of an article, with what its cells link to.

  Attributes:
    uid: its id, the name of its files.
    url: of the article.
    title: of the article.
    section: its heading and text.
    table: the cells as texts.
    links: of each row, the linked articles such as '/wiki/Lima'.
    passages: a text for each link.
  """

  uid: str
  url: str
  title: str
  section: str
  table: types.Table
  links: tuple[tuple[str, ...], ...]
  passages: Mapping[str, str]


def read_tables(
  folder: files.Path,
) -> tuple[list[LinkedTable], list[str]]:
  """All tables of a release.

  Args:
    folder: has the folders tables_tok and, maybe, request_tok.

  Returns:
    (tables by uid, problems: one sentence a file that gives no table).

  Raises:
    FileNotFoundError: there is no folder tables_tok.
  """
  folder = pathlib.Path(folder)
  if not (folder / 'tables_tok').is_dir():
    raise FileNotFoundError(
      f'{folder}/tables_tok: no such folder; name the folder of a clone of '
      f'WikiTables-WithLinks'
    )
  found, problems = [], []
  for path in sorted((folder / 'tables_tok').glob('*.json')):
    try:
      record = _load(path)
      linked = folder / 'request_tok' / path.name
      passages = _load(linked) if linked.exists() else {}
      found.append(_table(path.stem, record, passages))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
      problems.append(f'{path}: {" ".join(str(error).split())}')
  return found, problems


def read_questions(
  path: files.Path,
) -> tuple[list[types.Task], list[str]]:
  """The questions of a split, such as `train.json` or `dev.traced.json`.

  Returns:
    (deep tasks with their table_id in metadata, problems: a question without
    an answer, as those of the test split, is one).

  Raises:
    OSError: the file cannot be read.
    ValueError: it is no list.
  """
  try:
    records = json.loads(pathlib.Path(path).read_bytes())
  except ValueError as error:
    raise ValueError(f'{path}: not JSON ({error})') from None
  if not isinstance(records, list):
    raise ValueError(f'{path}: not a list of questions')
  tasks: dict[str, types.Task] = {}
  problems = []
  for number, record in enumerate(records, start=1):
    try:
      if not isinstance(record, dict):
        raise ValueError('not an object')
      task = types.Task(
        lines.field(record, 'question_id', str),
        lines.field(record, 'question', str),
        'deep',
        answers=(lines.field(record, 'answer-text', str),),
        metadata={'table_id': lines.field(record, 'table_id', str)},
      )
      if task.task_id in tasks:
        raise ValueError(f'a question above has the id {task.task_id!r}, too')
      tasks[task.task_id] = task
    except ValueError as error:
      problems.append(f'{path}: question {number}: {error}')
  return list(tasks.values()), problems


def build_corpus(found: Iterable[LinkedTable]) -> corpus.Corpus:
  """A page for each passage, and for each table one with what it links to.

  The cells themselves stand on no page: they are what is asked for. The first
  of equal urls stays.
  """
  pages: dict[str, types.Page] = {}
  for linked in found:
    named = {link: None for links in linked.links for link in links}
    names = '; '.join(map(_article, named))
    # An article may have several tables.
    url = f'{linked.url}#{linked.uid}'
    text = f'{linked.section}\nNames: {names}'
    pages.setdefault(url, types.Page(url, linked.title, text))
    for link, passage in linked.passages.items():
      page = types.Page(f'{_WIKIPEDIA}{link}', _article(link), passage)
      pages.setdefault(page.url, page)
  return corpus.Corpus(tuple(pages.values()))


def _article(link: str) -> str:
  return link.rpartition('/')[2].replace('_', ' ')


def _table(
  uid: str, record: dict[str, Any], passages: dict[str, str]
) -> LinkedTable:
  header = [_text(cell) for cell in lines.field(record, 'header', list)]
  columns = []
  for place, name in enumerate(header, start=1):
    # Two columns of one name could not be asked for.
    name = name or f'column {place}'
    columns.append(f'{name} {place}' if name in columns else name)
  data = lines.field(record, 'data', list)
  rows = tuple(tuple(_text(cell) for cell in row) for row in data)
  links = tuple(
    tuple(link for _, cell_links in row for link in cell_links) for row in data
  )
  if not all(isinstance(text, str) for text in passages.values()):
    raise ValueError('a passage is no text')
  named = {link for row in links for link in row}
  return LinkedTable(
    uid=uid,
    url=lines.field(record, 'url', str),
    title=lines.field(record, 'title', str),
    section='\n'.join(
      filter(
        None, (str(record.get(f'section_{n}', '')) for n in ('title', 'text'))
      )
    ),
    table=types.Table(tuple(columns), rows),
    links=links,
    passages={link: text for link, text in passages.items() if link in named},
  )


def _text(cell: Any) -> str:
  text, _ = cell
  if not isinstance(text, str):
    raise ValueError(f'{text!r} is no text')
  return ' '.join(text.split())


def _load(path: pathlib.Path) -> dict[str, Any]:
  found = json.loads(path.read_bytes())
  if not isinstance(found, dict):
    raise ValueError('not a JSON object')
  return found
