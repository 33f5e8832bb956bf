"""The back end that needs no model: two sources of the same facts.

Questions are drawn from the world of facts; one answer is what the world says,
the other what other packages say (`facts.second`), so what the sources dispute
is found by the agreement filter and not by a policy under training.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

from wideseek_jax.tasks.facts import forms, second, world
from wideseek_jax.tasks.pipeline import filters, items

# Items drawn for one that is asked for: what the filters leave of the groups
# and links of each split.
OVERSAMPLE: Mapping[str, float] = {'wide': 11.0, 'deep': 4.0}


class FactsBackEnd:
  """Draws questions from a world of facts; see `items.BackEnd`.

  Args:
    facts: the world.
    told: what a second source says of its things.
    quotas: how many items of a (split, kind) are drawn.
    seed: decides which.
  """

  def __init__(
    self,
    facts: world.FactsWorld,
    told: second.Facts,
    quotas: Mapping[tuple[str, str], int],
    seed: int,
  ):
    first = second.first_facts(facts)
    self._world, self._quotas, self._seed = facts, quotas, seed
    self._first = forms.Index(first, first)
    self._second = forms.Index(told, first)
    self._plurals = {kind.name: kind.plural for kind in facts.types}

  def seeds(self) -> Iterator[items.Item]:
    """Wide and deep records, split by split."""
    for (split, kind), count in self._quotas.items():
      if kind == 'wide':
        found = forms.wide_draws(self._world, self._second, split, self._seed)
      else:
        found = forms.deep_draws(self._world, split, self._seed)
      for number, record in enumerate(itertools.islice(found, count)):
        yield items.Item(f'{split}-{kind}-{number}', kind, split, record)

  def ask(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Writes a question whose answer is unique."""
    return [self._ask(item) for item in batch]

  def answer(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Answers from both sources."""
    return [self._answer(item) for item in batch]

  def agree(self, batch: Sequence[items.Item]) -> list[items.Item]:
    """Compares both answers by rules."""
    return [compare(item) for item in batch]

  def _ask(self, item: items.Item) -> items.Item:
    record, reason = item.seed, ''
    if item.kind == 'wide':
      record, reason = forms.refine(record, self._first)
    plural = self._plurals.get(record.get('type', ''), '')
    intent, question = forms.question(record, plural)
    top = record.get('top') or (0,)
    asked = dataclasses.replace(
      item, seed=record, intent=intent, question=question, target_rows=top[-1]
    )
    if not reason:
      return asked
    return asked.reject(f'no unique answer: {reason}')

  def _answer(self, item: items.Item) -> items.Item:
    record = item.seed
    if missing := forms.unknown(record, self._second):
      return item.reject('only one source knows of an attribute', missing)
    indices = (self._first, self._second)
    if item.kind == 'wide':
      answers = tuple(
        items.Answer(table.columns, table.rows)
        for table in (forms.wide_answer(record, index) for index in indices)
      )
      keys = (record['type'],)
    else:
      texts = [forms.deep_answer(record, index) for index in indices]
      answers, keys = tuple(items.Answer(text=text) for text in texts), ()
    # Rounded numbers stand on no page.
    rounded = record.get('rounded')
    evidence = forms.wide_evidence(record, self._first) if rounded else ()
    return dataclasses.replace(
      item,
      answers=answers,
      unique_columns=keys,
      evidence=tuple(dict.fromkeys(evidence)),
      entities=tuple(map(tuple, forms.entities(record, self._first))),
    )


def compare(item: items.Item) -> items.Item:
  """The agreement of two answers by rules, with what they dispute."""
  first, other = item.answers
  if item.kind == 'deep':
    share = float(filters.same_cell(first.text, other.text))
    disputed = [f'{first.text or "?"} or {other.text or "?"}']
  else:
    share, disputed = filters.compare_tables(
      first.table, other.table, item.unique_columns
    )
  detail = '; '.join(disputed[:3]) if share < 1 else ''
  return dataclasses.replace(item, agreement=share, detail=detail)
