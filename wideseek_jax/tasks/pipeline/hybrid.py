"""The back end over HybridQA: tables as questions, passages as second source.

A table is the first answer; the second has of its cells those that a passage
linked from their row states as well. Deep items are HybridQA's questions; their
second answer is the same text if a passage linked from their table states it.
"""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence

from wideseek_jax import types
from wideseek_jax.tasks import hybridqa
from wideseek_jax.tasks.facts import world
from wideseek_jax.tasks.pipeline import filters, items, offline

_ROWS = (10, 50)
_MAX_COLUMNS = 5  # Beside the key.


class HybridBackEnd:
  """Draws tables and questions; see `items.BackEnd`.

  Args:
    tables: what to ask about.
    questions: deep tasks with the uid of their table as `table_id`.
    quotas: how many items of a (split, kind) are drawn at most.
    seed: decides which.
  """

  def __init__(
    self,
    tables: Sequence[hybridqa.LinkedTable],
    questions: Sequence[types.Task],
    quotas: Mapping[tuple[str, str], int],
    seed: int,
  ):
    self._tables = {linked.uid: linked for linked in tables}
    self._questions = questions
    self._quotas, self._seed = quotas, seed

  def seeds(self) -> Iterator[items.Item]:
    """Tables, in several choices of columns, then questions."""
    left = dict(self._quotas)
    rng = random.Random(f'{self._seed} hybridqa')
    drawn: list[tuple[str, str, dict]] = []
    uids = sorted(self._tables)
    for number in range(4):
      drawn += [
        ('wide', uid, {'table': uid, 'draw': number})
        for uid in rng.sample(uids, len(uids))
      ]
    order = rng.sample(range(len(self._questions)), len(self._questions))
    for place in order:
      task = self._questions[place]
      record = {'table': task.metadata['table_id'], 'question': place}
      drawn.append(('deep', record['table'], record))
    for number, (kind, uid, record) in enumerate(drawn):
      linked = self._tables.get(uid)
      split = world.split_of_value(linked.title if linked else uid)
      if left.get((split, kind), 0):
        left[split, kind] -= 1
        yield items.Item(f'{split}-{kind}-{number}', kind, split, record)

  def ask(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Chooses the columns and writes the question."""
    return [self._ask(item) for item in batch]

  def answer(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """The table, and what of it the passages state."""
    return [self._answer(item) for item in batch]

  def agree(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Compares both answers by rules."""
    return [offline.compare(item) for item in batch]

  def _ask(self, item: items.Item) -> items.Item:
    linked = self._tables.get(item.seed['table'])
    if linked is None:
      return item.reject('its table is missing', item.seed['table'])
    if item.kind == 'deep':
      question = self._questions[item.seed['question']].question
      return dataclasses.replace(item, question=question, intent=question)
    table = linked.table
    if not _ROWS[0] <= len(table.rows) <= _ROWS[1]:
      return item.reject(f'not {_ROWS[0]} to {_ROWS[1]} rows')
    cells = list(zip(*table.rows, strict=True))
    keys = [
      place
      for place, values in enumerate(cells)
      if all(values)
      and len({filters.question_key(v) for v in values}) == len(values)
    ]
    # A column of mere numbers (a rank, a year) names nothing.
    keys = [k for k in keys if not all(v.isdigit() for v in cells[k])]
    others = [
      p for p, values in enumerate(cells) if p not in keys[:1] and all(values)
    ]
    if not keys or not others:
      return item.reject('no column names the rows, or a cell is empty')
    rng = random.Random(f'{self._seed} {item.item_id}')
    count = rng.randint(1, min(_MAX_COLUMNS, len(others)))
    chosen = [keys[0], *sorted(rng.sample(others, count))]
    names = [table.columns[place] for place in chosen]
    section = linked.section.partition('\n')[0]
    about = f'{linked.title} ({section})' if section else linked.title
    question = (
      f"Fill in the table of Wikipedia's article {about} as of 2020: one row "
      f'for each {names[0]}, {len(table.rows)} in all. '
      f'Columns: {", ".join(names)}. Write numbers, dates and names as they '
      f'stand there.'
    )
    return dataclasses.replace(
      item,
      seed=item.seed | {'columns': chosen},
      intent=f'Compare each {names[0]} of {about} by {", ".join(names[1:])}.',
      question=question,
      target_rows=len(table.rows),
    )

  def _answer(self, item: items.Item) -> items.Item:
    linked = self._tables[item.seed['table']]
    stated = [
      filters.words(' '.join(linked.passages.get(link, '') for link in links))
      for links in linked.links
    ]
    if item.kind == 'deep':
      gold = self._questions[item.seed['question']].answers[0]
      found = any(filters.words(gold) in text for text in stated)
      answers = (
        items.Answer(text=gold),
        items.Answer(text=gold if found else ''),
      )
      return dataclasses.replace(
        item, answers=answers, entities=(('question', item.question),)
      )
    chosen = item.seed['columns']
    columns = tuple(linked.table.columns[place] for place in chosen)
    first, other = [], []
    for row, text in zip(linked.table.rows, stated, strict=True):
      cells = [row[place] for place in chosen]
      first.append(tuple(cells))
      told = [cell if filters.words(cell) in text else '' for cell in cells[1:]]
      other.append((cells[0], *told))
    return dataclasses.replace(
      item,
      answers=(
        items.Answer(columns, tuple(first)),
        items.Answer(columns, tuple(other)),
      ),
      unique_columns=columns[:1],
      entities=tuple((columns[0], row[0]) for row in first),
    )
