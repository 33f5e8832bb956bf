"""The back end that asks a language model, at every step of the paper's (C.1).

In comes any `types.Judge`: an OpenAI-compatible endpoint with its concurrency,
cache and budget (`judge.client`), or weights in this process. A batch of items
is one call for each step, so its prompts are in flight together. The prompts
are data, texts/<step>.txt, in which {data} stands for what they are about.
"""

import dataclasses
import functools
import json
import pathlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from wideseek_jax import types
from wideseek_jax.judge import questions, rules
from wideseek_jax.tasks import tables
from wideseek_jax.tasks.pipeline import filters, items

_TEXTS = pathlib.Path(__file__).parent / 'texts'
_ROWS = (10, 50)
_MAX_CHARS = 8000  # Of a source.
_PER_PROMPT = 40  # Pairs of cells.


class ModelBackEnd:
  """Asks a model; see `items.BackEnd`.

  Args:
    judge: replies to prompts at temperature 0.
    seeds: begins the items; each seed has a 'text', what they are about.
    seed: decides how many rows are asked for.
  """

  def __init__(
    self,
    judge: types.Judge,
    seeds: Callable[[], Iterable[items.Item]],
    seed: int,
  ):
    self._judge, self._seeds, self._seed = judge, seeds, seed

  def seeds(self) -> Iterator[items.Item]:
    """The given ones."""
    return iter(self._seeds())

  def ask(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Intent, question, and the question once more until it is unique."""
    batch = self._step(batch, 'intent', lambda item: item.seed['text'])
    wide, deep = _split(batch)
    wide = [
      dataclasses.replace(item, target_rows=self._rows(item)) for item in wide
    ]
    wide = self._step(
      wide,
      'question',
      lambda item: {'intent': item.intent, 'rows': item.target_rows},
    )
    wide = self._step(
      wide, 'refine', lambda item: item.question, field='question'
    )
    deep = self._step(
      deep, 'deep_question', lambda item: item.intent, field='question'
    )
    return _in_order(batch, [*wide, *deep])

  def answer(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Two answers, and the key columns of tables."""
    wide, deep = _split(batch)
    wide = self._answers(wide, 'answer', _table)
    deep = self._answers(deep, 'deep_answer', _boxed)
    wide = self._step(
      wide,
      'keys',
      lambda item: {
        'question': item.question,
        'columns': item.answers[0].columns,
      },
      field='unique_columns',
    )
    return _in_order(batch, [*map(_check_keys, wide), *deep])

  def agree(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Rules compare the cells; the model those that rules leave open."""
    open_pairs: dict[str, set[tuple[str, str]]] = {}

    def note(column: str, a: str, b: str) -> bool:
      if a and b and rules.decide(a, b) is None:
        open_pairs.setdefault(column, set()).add((a, b))
      return filters.same_cell(a, b)

    for item in batch:
      _agreement(item, note)
    chunks = [
      (column, pairs[start : start + _PER_PROMPT])
      for column, found in sorted(open_pairs.items())
      for pairs in [sorted(found)]
      for start in range(0, len(pairs), _PER_PROMPT)
    ]
    prompts = [questions.cells(*chunk, language='en') for chunk in chunks]
    same = {
      (column, *pairs[place])
      for (column, pairs), reply in zip(
        chunks, self._judge(prompts) if prompts else [], strict=True
      )
      for place, yes in questions.read(reply, len(pairs)).items()
      if yes
    }
    return [
      dataclasses.replace(
        item,
        agreement=_agreement(
          item,
          lambda column, a, b: (
            filters.same_cell(a, b) or (column, a, b) in same
          ),
        ),
      )
      for item in batch
    ]

  def _rows(self, item: items.Item) -> int:
    return random.Random(f'{self._seed} {item.item_id}').randint(*_ROWS)

  def _step(
    self,
    batch: Sequence[items.Item],
    name: str,
    data: Callable[[items.Item], Any],
    field: str = '',
  ) -> list[items.Item]:
    """Asks for one field of every item that is alive."""
    field = field or name
    alive = [item for item in batch if not item.rejected]
    replies = self._ask(name, map(data, alive))
    made = []
    for item, reply in zip(alive, replies, strict=True):
      value = _field(reply, field)
      if value:
        made.append(dataclasses.replace(item, **{field: value}))
      else:
        made.append(item.reject(f'the model gave no {field}', reply[:200]))
    return _in_order(batch, [*made, *(i for i in batch if i.rejected)])

  def _answers(
    self,
    batch: Sequence[items.Item],
    name: str,
    read: Callable[[str], items.Answer | None],
  ) -> list[items.Item]:
    replies = [
      self._ask(f'{name}_{number}', (item.question for item in batch))
      for number in (1, 2)
    ]
    made = []
    for item, *pair in zip(batch, *replies, strict=True):
      answers = tuple(map(read, pair))
      if None in answers:
        bad = pair[answers.index(None)]
        made.append(item.reject('the model gave no answer', bad[-200:]))
      else:
        made.append(dataclasses.replace(item, answers=answers))
    return made

  def _ask(self, name: str, data: Iterable[Any]) -> list[str]:
    prompts = [_prompt(name, value) for value in data]
    return self._judge(prompts) if prompts else []


def _agreement(
  item: items.Item, same: Callable[[str, str, str], bool]
) -> float:
  first, other = item.answers
  if item.kind == 'deep':
    return float(same('answer', first.text, other.text))
  share, _ = filters.compare_tables(
    first.table, other.table, item.unique_columns, same
  )
  return share


def _prompt(name: str, data: Any) -> str:
  # What a source says can neither end its place nor spell a chat marker.
  shown = json.dumps(data, ensure_ascii=False)[:_MAX_CHARS]
  shown = shown.encode('utf-8', 'replace').decode('utf-8')
  return _template(name).replace('{data}', shown.replace('<', '\\u003c'))


@functools.cache
def _template(name: str) -> str:
  return (_TEXTS / f'{name}.txt').read_text(encoding='utf-8').strip()


def _field(reply: str, name: str) -> Any:
  """A field of the JSON object at the end of a reply; None without it."""
  text = tables.after_thought(reply)
  start = text.find('{')
  try:
    value = json.loads(text[start : text.rfind('}') + 1])[name]
  except (ValueError, LookupError, TypeError, RecursionError):
    return None
  if name == 'unique_columns':
    good = isinstance(value, list) and all(isinstance(v, str) for v in value)
    return tuple(value) if good else None
  return value.strip() if isinstance(value, str) else None


def _table(reply: str) -> items.Answer | None:
  table, _ = tables.parse_markdown_table(reply)
  return items.Answer(table.columns, table.rows) if table else None


def _boxed(reply: str) -> items.Answer | None:
  text = tables.extract_boxed(reply)
  return items.Answer(text=text) if text else None


def _check_keys(item: items.Item) -> items.Item:
  """Key columns by the names that the answer gives them, and its entities."""
  if item.rejected:
    return item
  gold = item.answers[0].table
  by_key = {rules.column_key(name): name for name in gold.columns}
  try:
    keys = [by_key[rules.column_key(name)] for name in item.unique_columns]
  except KeyError as error:
    return item.reject('a key is no column', str(error))
  if len(by_key) < len(gold.columns):
    return item.reject('two columns have the same name')
  places = [gold.columns.index(name) for name in keys]
  return dataclasses.replace(
    item,
    unique_columns=tuple(dict.fromkeys(keys)),
    entities=tuple(
      (keys[0], ', '.join(row[i] for i in places)) for row in gold.rows
    ),
  )


def _split(
  batch: Sequence[items.Item],
) -> tuple[list[items.Item], list[items.Item]]:
  """Living items: (wide, deep)."""
  return tuple(
    [i for i in batch if i.kind == kind and not i.rejected]
    for kind in ('wide', 'deep')
  )


def _in_order(
  batch: Sequence[items.Item], made: Iterable[items.Item]
) -> list[items.Item]:
  """The items that were made in the batch's order, those unmade as they are."""
  by_id = {item.item_id: item for item in made}
  return [by_id.get(item.item_id, item) for item in batch]
