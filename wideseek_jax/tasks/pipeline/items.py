"""What passes from stage to stage, and how stages keep it.

An `Item` begins as a seed (what a source knows) and is filled in by each stage;
one that a stage rejects keeps its reason and goes no further. `run_stage` keeps
a stage's items in a JSON lines file as they are made, so that whoever is killed
goes on behind the last whole line.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from wideseek_jax import types


@dataclasses.dataclass(frozen=True)
class Answer:
  """One of the two answers: a table of a wide item, a text of a deep one."""

  columns: tuple[str, ...] = ()
  rows: tuple[tuple[str, ...], ...] = ()
  text: str = ''

  @property
  def table(self) -> types.Table:
    return types.Table(self.columns, self.rows)


@dataclasses.dataclass(frozen=True)
class Item:
  """A task in the making.

  Attributes:
    item_id: unique in its data set.
    kind: 'wide' or 'deep'.
    split: where its seed belongs.
    seed: what the source knows; only the back end reads it.
    intent: what somebody wants, in one sentence.
    question: what an agent is asked.
    target_rows: rows that were asked of the writer of the question; 0: open.
    answers: two of them, from independent sources or calls.
    unique_columns: the key of a wide answer.
    entities: [type, name] of what the answer tells of.
    evidence: texts that have to be read to answer; none: those of the answer.
    agreement: share of cells on which the answers agree.
    rejected: the reason, '' while the item is alive.
    detail: what the reason was in this case.
  """

  item_id: str
  kind: Literal['wide', 'deep']
  split: str
  seed: dict[str, Any]
  intent: str = ''
  question: str = ''
  target_rows: int = 0
  answers: tuple[Answer, ...] = ()
  unique_columns: tuple[str, ...] = ()
  entities: tuple[tuple[str, str], ...] = ()
  evidence: tuple[str, ...] = ()
  agreement: float = 0.0
  rejected: str = ''
  detail: str = ''

  def reject(self, reason: str, detail: str = '') -> 'Item':
    """The item with a reason."""
    return dataclasses.replace(self, rejected=reason, detail=detail)


class BackEnd(Protocol):
  """Who writes questions, answers them, and compares the answers.

  Each method takes a batch and returns it, in its order, filled in or rejected.
  """

  def seeds(self) -> Iterator[Item]:
    """Where items begin: the same ones at every call."""

  def ask(self, items: Sequence[Item]) -> list[Item]:
    """Stage 1: intent, target rows and question."""

  def answer(self, items: Sequence[Item]) -> list[Item]:
    """Stage 2: two answers, key columns, entities and evidence."""

  def agree(self, items: Sequence[Item]) -> list[Item]:
    """Stage 3: the agreement of the two answers."""


def dump(item: Item) -> str:
  """One line of JSON; fields with their default are left out."""
  record = {
    field.name: value
    for field in dataclasses.fields(item)
    if (value := getattr(item, field.name)) != field.default
  }
  if item.answers:
    record['answers'] = [vars(answer) for answer in item.answers]
  return json.dumps(record, ensure_ascii=False)


def load(line: str) -> Item:
  """The item of a line that `dump` made."""
  record = json.loads(line)
  record['answers'] = tuple(
    Answer(tuple(a['columns']), tuple(map(tuple, a['rows'])), a['text'])
    for a in record.get('answers', ())
  )
  for name in ('unique_columns', 'evidence'):
    record[name] = tuple(record.get(name, ()))
  record['entities'] = tuple(map(tuple, record.get('entities', ())))
  return Item(**record)


def read(path: pathlib.Path) -> Iterator[Item]:
  """The items of a finished stage."""
  with path.open(encoding='utf-8') as file:
    yield from map(load, file)


def run_stage(
  path: pathlib.Path,
  items: Iterable[Item],
  work: Callable[[Sequence[Item]], list[Item]],
  batch: int,
) -> None:
  """Puts items through a stage; a finished one is left as it is.

  Args:
    path: of the finished stage; `<path>.partial` grows until then.
    items: what comes in, the same at every call; rejected ones are passed
      over.
    work: makes a batch.
    batch: items of a batch, which is what a kill can cost.

  Raises:
    ValueError: the partial file holds items of something else.
  """
  if path.exists():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  done = _recover(partial)
  waiting: list[Item] = []
  with partial.open('a', encoding='utf-8') as file:

    def flush() -> None:
      made = work(waiting)
      file.writelines(dump(item) + '\n' for item in made)
      file.flush()
      waiting.clear()

    for item in items:
      if item.rejected:
        continue
      if done:
        if item.item_id != (known := done.pop()):
          raise ValueError(
            f'{partial}: goes on with {known!r} where {item.item_id!r} is '
            f'due; its input has changed: remove this folder or name another'
          )
        continue
      waiting.append(item)
      if len(waiting) >= batch:
        flush()
    flush()
    os.fsync(file.fileno())
  os.replace(partial, path)


def _recover(partial: pathlib.Path) -> list[str]:
  """Ids of the whole lines, last first; half a line at the end is cut off."""
  if not partial.exists():
    return []
  ids, size = [], 0
  with partial.open('rb') as file:
    for line in file:
      if not line.endswith(b'\n'):
        break
      ids.append(json.loads(line)['item_id'])
      size += len(line)
  os.truncate(partial, size)
  return ids[::-1]
