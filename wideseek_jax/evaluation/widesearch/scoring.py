"""Scores an answer against a gold table as the official scorer does.

In come a `Gold` and an answer's text; out goes a `Result`. What only a language
model can tell is asked of a judge: names of columns that differ, key cells that
may differ in wording, and columns whose metric is llm_judge.

Official mode repeats the official scorer, faults included: one crash costs the
whole table; keys that become equal multiply rows, so that numbers exceed 1;
several metrics of a column count as several cells; a judge that does not answer
means 0. Strict mode is for reading the numbers as what they are named after:

- rows whose keys become equal count once, as the first of them;
- a column has one cell a row, its lowest metric (see `cells.strict`);
- success is nothing but six numbers that are all 1;
- a reply without a 0 or 1 for every cell it was asked about gives the status
  'judge_error' and no numbers to go by;
- what the gold data lack (a rule, a criterion) is a ValueError.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pandas as pd

from wideseek_jax import types
from wideseek_jax.evaluation.widesearch import (
  asking,
  cells,
  reading,
  records,
)

_Replies = list[str | None]
_Steps = Generator[list[asking.Question], _Replies, records.Result]
# Key columns with one of these have their cells aligned by a judge.
_ALIGNED = {'exact_match', cells.LLM_JUDGE}
_EPSILON = 1e-9


def score(
  gold: records.Gold, answer: str, judge: types.Judge, *, strict: bool = False
) -> records.Result:
  """Scores an answer.

  Args:
    gold: what is right.
    answer: the final text of an agent.
    judge: asked at most three times, with all prompts of a stage at once.
    strict: see the head of the module.

  Raises:
    types.JudgeUnavailable: there is no judge, in either mode.
    ValueError: see `check`; in strict mode only.
  """
  return run(
    steps(gold, answer, strict=strict),
    lambda questions: judge([question.prompt for question in questions]),
  )


def run(
  steps: _Steps, ask: Callable[[list[asking.Question]], Sequence[str | None]]
) -> records.Result:
  """Goes through `steps`; `ask` replies, with None or '' for no reply."""
  try:
    questions = next(steps)
    while True:
      questions = steps.send(list(ask(questions)))
  except StopIteration as ended:
    return ended.value


def steps(gold: records.Gold, answer: str, *, strict: bool = False) -> _Steps:
  """Yields questions, receives replies in their order, returns a `Result`."""
  if strict:
    check(gold)
  try:
    return (yield from _steps(gold, answer, strict))
  except _UnreadableReply as error:
    return records.Result(status='judge_error', error=str(error))
  # The official scorer lets anything that goes wrong cost the whole table.
  except Exception as error:
    message = f'{type(error).__name__}: {error}'
    return records.Result(status='evaluator_error', error=message)


class _UnreadableReply(Exception):
  """A judge's reply holds no verdict; raised in strict mode only."""


def _steps(gold: records.Gold, answer: str, strict: bool) -> _Steps:
  required = list(gold.table.columns)
  keys = list(gold.unique_columns)
  found = reading.read_answer(answer)
  if found is None:
    return records.Result(status='no_table', error='the answer holds no table')
  if set(found.columns) != set(required):
    question = asking.alignment('columns', None, list(found.columns), required)
    (reply,) = yield [question]
    found = found.rename(columns=asking.read(reply) or {})
  if set(found.columns) != set(required):
    return records.Result(
      status='columns_mismatch',
      error=f'columns {list(found.columns)} instead of {required}',
    )
  wanted, found = _texts(gold.table, found)
  for frame in (wanted, found):
    frame.drop_duplicates(subset=keys, inplace=True)

  aligned = [c for c in keys if _ALIGNED & set(_rule(gold, c).metrics)]
  if aligned:
    replies = yield [
      asking.alignment('keys', c, found[c].tolist(), wanted[c].tolist())
      for c in aligned
    ]
    for column, reply in zip(aligned, replies, strict=True):
      names = asking.read(reply) or {}
      # Makes the two frames differ in shape, which forbids the short way to
      # success below.
      found[f'{column}_before_map'] = found[column]
      found[column] = found[column].apply(lambda x, n=names: n.get(x, x))
  preprocess = cells.STRICT_PREPROCESS if strict else cells.PREPROCESS
  for column, rule in gold.rules.items():
    for name in rule.preprocess:
      found[column] = found[column].apply(preprocess[name])
      wanted[column] = wanted[column].apply(preprocess[name])
  if strict:
    for frame in (wanted, found):
      frame.drop_duplicates(subset=keys, inplace=True)

  both = pd.merge(wanted, found, on=keys, suffixes=('_query', '_response'))
  others = [column for column in required if column not in keys]
  judged = [c for c in others if cells.LLM_JUDGE in _rule(gold, c).metrics]
  replies = []
  if judged and len(both):
    replies = yield [
      asking.comparison(
        c,
        both[f'{c}_response'].tolist(),
        both[f'{c}_query'].tolist(),
        _rule(gold, c).criterion,
      )
      for c in judged
    ]
  replies = dict(zip(judged, replies, strict=False))
  points = pd.DataFrame(index=both.index)
  for column in required:
    if column in keys:
      points[f'{column}_exact_match'] = 1.0
      continue
    rule = gold.rules[column]
    found_points = {}
    for metric in rule.metrics:
      found_points[f'{column}_{metric}'] = (
        _verdicts(replies.get(column), both.index, strict)
        if metric == cells.LLM_JUDGE
        else _points(both, column, metric, rule.criterion, strict)
      )
    if strict:
      found_points = {column: pd.DataFrame(found_points).min(axis=1)}
    for name, column_points in found_points.items():
      points[name] = column_points
  same = not strict and _same(wanted, found, required)
  return _result(points, len(found), len(wanted), len(required), same)


def _rule(gold: records.Gold, column: str) -> records.Rule:
  return gold.rules.get(column, records.Rule())


def check(gold: records.Gold) -> None:
  """Refuses what strict scoring cannot use.

  Raises:
    ValueError: two gold rows have equal keys, a column that is no key lacks a
      metric, or number_near its criterion.
  """
  twice = gold.table[gold.table.duplicated(list(gold.unique_columns))]
  if len(twice):
    row = twice[list(gold.unique_columns)].iloc[0].tolist()
    raise ValueError(f'two gold rows have the key {row}')
  for column in gold.table.columns:
    rule = _rule(gold, column)
    if column in gold.unique_columns:
      continue
    if not rule.metrics:
      raise ValueError(f'column {column!r} has no metric')
    if cells.NUMBER_NEAR in rule.metrics and rule.criterion is None:
      raise ValueError(f'column {column!r} has number_near and no criterion')


def _texts(
  wanted: pd.DataFrame, found: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
  """Both frames as texts; integers meet floats as floats, 2 as 2.0."""
  wanted, found = wanted.copy(), found.copy()
  for column in wanted.columns:
    types_ = {str(frame[column].dtypes) for frame in (wanted, found)}
    for frame in (wanted, found):
      if types_ == {'int64', 'float64'}:
        frame[column] = frame[column].astype(float)
      frame[column] = frame[column].astype(str)
  return wanted, found


def _points(
  both: pd.DataFrame, column: str, metric: str, criterion: Any, strict: bool
) -> pd.DataFrame | pd.Series:
  """A point a row; without rows a frame, which cannot be a column."""
  if strict:
    pairs = zip(
      both[f'{column}_response'], both[f'{column}_query'], strict=True
    )
    points = [cells.strict(metric, a, b, criterion) for a, b in pairs]
    return pd.Series(points, both.index, dtype=float)
  return both.apply(
    lambda row: cells.official(
      metric, row[f'{column}_response'], row[f'{column}_query'], criterion
    ),
    axis=1,
  )


def _verdicts(reply: str | None, index: pd.Index, strict: bool) -> pd.Series:
  """The judge's points of a column, of whatever type they are."""
  found = asking.read(reply) or {}
  points = [
    found.get(f'idx_{i}', None if strict else 0) for i in range(len(index))
  ]
  if strict and not all(type(p) is int and p in (0, 1) for p in points):
    raise _UnreadableReply(f'no 0 or 1 for every pair in the reply {reply!r}')
  # As objects first: pandas then infers a type as it does for official scores.
  return pd.Series(points, index, dtype=object).apply(lambda point: point)


def _same(
  wanted: pd.DataFrame, found: pd.DataFrame, required: list[str]
) -> bool:
  """Whether the frames are equal but for the order of their rows."""
  if wanted.shape != found.shape:
    return False
  a, b = (
    frame.sort_values(by=required).reset_index(drop=True)
    for frame in (wanted, found)
  )
  return a.equals(b)


def _result(
  points: pd.DataFrame, n_found: int, n_wanted: int, width: int, same: bool
) -> records.Result:
  numbers = []
  right_rows = points.min(axis=1).sum()
  right_items = points.sum().sum()
  for right, size in ((right_rows, 1), (right_items, width)):
    precision = right / (n_found * size) if n_found else 0.0
    recall = right / (n_wanted * size) if n_wanted else 0.0
    total = precision + recall
    f1 = 2 * precision * recall / total if total > _EPSILON else 0.0
    numbers += [precision, recall, f1]
  success = same or all(number == 1.0 for number in numbers)
  return records.Result(float(success), *map(float, numbers))
