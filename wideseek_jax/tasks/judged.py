"""Answers with a judge's verdicts written into them.

In come the answers of rollouts and a judge; out goes each answer with whatever
means the same as the gold written like the gold. So `metrics` and `rules`
score it as they score any other: a judge decides only what rules cannot, and
overrules none of them.

What a verdict depends on is its own rollout alone. Rollouts are generators that
yield prompts and are sent the replies; they advance together, so that a judge
gets all prompts of a round at once: of columns, then keys, then cells.
"""

import dataclasses
from collections.abc import Callable, Generator, Sequence, Sized

from wideseek_jax import types
from wideseek_jax.judge import questions, rules
from wideseek_jax.tasks import metrics, tables

# Pairs or names of one prompt: a few thousand tokens.
_PER_PROMPT = 40
# Distinct names of a column that are asked about; what comes after them was
# never meant to be read.
_MOST_NAMES = 400
_NOTHING = rules.canonical('')


@dataclasses.dataclass(frozen=True)
class Judged:
  """An answer and what it took.

  Attributes:
    table: of a wide task, None if the answer had none.
    boxed: of a deep task, None if the answer had none.
    asked: what rules could not decide: columns, keys, cells, answers.
    undecided: how many of them the judge did not decide either. They count as
      different from the gold.
  """

  table: types.Table | None = None
  boxed: str | None = None
  asked: int = 0
  undecided: int = 0


# Yields prompts, is sent their replies, returns what came of it.
Asking = Generator[list[str], list[str], Judged]


def ask(judge: types.Judge, rollouts: Sequence[Asking]) -> list[Judged]:
  """Runs rollouts to their end, one call of the judge a round.

  Raises:
    types.JudgeUnavailable: as the judge does.
  """
  results: dict[int, Judged] = {}
  waiting: dict[int, list[str]] = {}

  def advance(place: int, replies: list[str] | None) -> None:
    try:
      waiting[place] = rollouts[place].send(replies)
    except StopIteration as stop:
      results[place] = stop.value

  for place in range(len(rollouts)):
    advance(place, None)
  while waiting:
    asked, waiting = waiting, {}
    prompts = list(dict.fromkeys(p for some in asked.values() for p in some))
    replies = dict(zip(prompts, judge(prompts), strict=True)) if prompts else {}
    for place, some in asked.items():
      advance(place, [replies[prompt] for prompt in some])
  return [results[place] for place in range(len(rollouts))]


def judge_boxed(boxed: str | None, task: types.Task) -> Asking:
  """Replaces a boxed answer that means an accepted one by that one."""
  verdicts = [rules.decide(boxed, gold) for gold in task.answers if boxed]
  if True in verdicts or None not in verdicts:
    return Judged(boxed=boxed)
  prompt = questions.answer(task.question, boxed, task.answers, task.language)
  (reply,) = yield [prompt]
  verdict = _read(reply, 1)
  right = task.answers[verdicts.index(None)]
  return Judged(
    boxed=right if verdict.get(0) else boxed,
    asked=1,
    undecided=1 - len(verdict),
  )


def judge_table(
  table: types.Table | None, task: types.Task, *, columns_only: bool = False
) -> Asking:
  """Rewrites columns, keys and cells that mean what the gold's mean.

  Args:
    table: the answer.
    task: with a gold table that is not broken.
    columns_only: leave keys and cells as they are.
  """
  if table is None:
    return Judged()
  tally = Judged()
  gold = task.table
  (names,), tally = yield from _aliases(
    [(table.columns, gold.columns)], _column, task.language, tally
  )
  table = _renamed(table, names)
  aligned = metrics.align_columns(table, gold.columns)
  if aligned is not None and not columns_only:
    table, tally = yield from _judge_rows(aligned, task, tally)
  return dataclasses.replace(tally, table=table)


def _judge_rows(
  table: types.Table, task: types.Task, tally: Judged
) -> Generator[list[str], list[str], tuple[types.Table, Judged]]:
  """Keys, then the cells of the rows that join."""
  gold = task.table
  keys = [gold.columns.index(name) for name in task.unique_columns]
  aliases, tally = yield from _aliases(
    [
      ([row[i] for row in table.rows], [row[i] for row in gold.rows])
      for i in keys
    ],
    rules.canonical,
    task.language,
    tally,
  )
  for i, alias in zip(keys, aliases, strict=True):
    rows = tuple(
      (*row[:i], alias.get(rules.canonical(row[i]), row[i]), *row[i + 1 :])
      for row in table.rows
    )
    table = types.Table(table.columns, rows)
  right = metrics.rows_by_key(gold, keys)
  rows = metrics.rows_by_key(table, keys)
  pairs = {
    i: list(
      dict.fromkeys(
        (row[i], right[key][i])
        for key, row in rows.items()
        if key in right and rules.decide(row[i], right[key][i]) is None
      )
    )
    for i in range(len(gold.columns))
    if i not in keys
  }
  chunks = [(i, chunk) for i in pairs for chunk in _chunks(pairs[i])]
  replies = yield [
    questions.cells(gold.columns[i], chunk, task.language)
    for i, chunk in chunks
  ]
  same = set()
  for (i, chunk), reply in zip(chunks, replies, strict=True):
    verdicts = _read(reply, len(chunk))
    tally = _add(tally, chunk, verdicts)
    same |= {(i, chunk[place]) for place, yes in verdicts.items() if yes}
  for key in rows.keys() & right.keys():
    cells = enumerate(zip(rows[key], right[key], strict=True))
    rows[key] = tuple(
      gold_cell if (i, (cell, gold_cell)) in same else cell
      for i, (cell, gold_cell) in cells
    )
  return types.Table(table.columns, tuple(rows.values())), tally


def _aliases(
  lists: Sequence[tuple[Sequence[str], Sequence[str]]],
  canonical: Callable[[str], tuple],
  language: str,
  tally: Judged,
) -> Generator[list[str], list[str], tuple[list[dict[tuple, str]], Judged]]:
  """Which written names mean which right ones, for several lists at once.

  Only names without an equal on the other side are asked about.

  Returns:
    Right names by the canonical form of the written ones, a dict a list.
  """
  asked = []
  for place, (written, gold) in enumerate(lists):
    written = _by_form(written, canonical)
    gold = _by_form(gold, canonical)
    missing = [form for form in gold if form not in written]
    strange = [
      form
      for form in written
      if form not in gold
      and form != _NOTHING
      and any(rules.compare(form, other) is None for other in missing)
    ]
    asked += [
      (place, {form: written[form] for form in chunk}, missing, gold)
      for chunk in _chunks(strange[:_MOST_NAMES])
    ]
  replies = yield [
    questions.names(
      list(names.values()), [gold[form] for form in missing], language
    )
    for _, names, missing, gold in asked
  ]
  aliases: list[dict[tuple, str]] = [{} for _ in lists]
  for (place, names, missing, gold), reply in zip(asked, replies, strict=True):
    found = _read(reply, len(names), len(missing))
    tally = _add(tally, names, found)
    for i, form in enumerate(names):
      number = found.get(i, 0)
      # What rules know to be different stays so.
      if number and rules.compare(form, missing[number - 1]) is None:
        aliases[place][form] = gold[missing[number - 1]]
  return aliases, tally


def _by_form(
  names: Sequence[str], canonical: Callable[[str], tuple]
) -> dict[tuple, str]:
  """The names by their canonical form; the first of equal names stays."""
  found: dict[tuple, str] = {}
  for name in names:
    found.setdefault(canonical(name), name)
  return found


def _column(name: str) -> tuple:
  return 'text', rules.column_key(name)


def _renamed(table: types.Table, names: dict[tuple, str]) -> types.Table:
  """The table with right column names; one that is there stays alone."""
  columns: list[str] = []
  for name in table.columns:
    right = names.get(_column(name), name)
    columns.append(name if right in columns else right)
  return types.Table(tuple(columns), table.rows)


def _chunks(items: Sequence) -> list[Sequence]:
  return [items[i : i + _PER_PROMPT] for i in range(0, len(items), _PER_PROMPT)]


def _read(reply: str, count: int, largest: int = 1) -> dict[int, int]:
  return questions.read(tables.after_thought(reply), count, largest)


def _add(tally: Judged, asked: Sized, decided: Sized) -> Judged:
  return dataclasses.replace(
    tally,
    asked=tally.asked + len(asked),
    undecided=tally.undecided + len(asked) - len(decided),
  )
