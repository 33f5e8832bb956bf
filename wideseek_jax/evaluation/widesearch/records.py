"""What the official score is made from, and the score itself.

In come a task's `evaluation` (columns, keys and rules, as WideSearch releases
them) and its gold table; out goes a `Gold`. A `Result` is what `scoring` makes
of it and an answer. A name that stands for no rule is an error here, before
anything is scored.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from wideseek_jax.evaluation.widesearch import cells
from wideseek_jax.tasks import lines

NUMBERS = (
  'score',
  'precision_by_row',
  'recall_by_row',
  'f1_by_row',
  'precision_by_item',
  'recall_by_item',
  'f1_by_item',
)
Status = Literal[
  'scored', 'no_table', 'columns_mismatch', 'evaluator_error', 'judge_error'
]


@dataclasses.dataclass(frozen=True)
class Rule:
  """How the cells of a column are compared.

  Attributes:
    preprocess: names from `cells.PREPROCESS`, applied to both sides in order.
    metrics: names from `cells.METRICS`, or 'llm_judge'.
    criterion: the relative error that number_near allows, or what the judge
      is told.
  """

  preprocess: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ()
  criterion: Any = None

  def __post_init__(self):
    for name in self.preprocess:
      if name not in cells.PREPROCESS:
        raise ValueError(f'there is no preprocessing {name!r}')
    for name in self.metrics:
      if name not in cells.METRICS and name != cells.LLM_JUDGE:
        raise ValueError(f'there is no metric {name!r}')


@dataclasses.dataclass(frozen=True)
class Gold:
  """What an answer is held against.

  Attributes:
    table: typed by pandas; its columns are the required ones, in their order.
    unique_columns: those of them whose cells name a row.
    rules: of a column by its name; key columns may have none.
  """

  table: pd.DataFrame
  unique_columns: tuple[str, ...]
  rules: Mapping[str, Rule]

  def __post_init__(self):
    unknown = set(self.unique_columns) - set(self.table.columns)
    if unknown or not self.unique_columns:
      raise ValueError(
        f'unique_columns {list(self.unique_columns)} must name columns of '
        f'{list(self.table.columns)}'
      )


@dataclasses.dataclass(frozen=True)
class Result:
  """The score of an answer.

  Attributes:
    score: 1.0 for success, else 0.0.
    precision_by_row … f1_by_item: of rows and of cells, in [0, 1] unless
      official mode errs; all are 0.0 unless the status is 'scored'.
    status: 'scored'; 'no_table' or 'columns_mismatch' of the answer;
      'evaluator_error' where the official scorer crashes; 'judge_error'.
    error: what went wrong, '' if nothing did.
  """

  score: float = 0.0
  precision_by_row: float = 0.0
  recall_by_row: float = 0.0
  f1_by_row: float = 0.0
  precision_by_item: float = 0.0
  recall_by_item: float = 0.0
  f1_by_item: float = 0.0
  status: Status = 'scored'
  error: str = ''


def make_gold(
  evaluation: object, read: Callable[[Sequence[str]], pd.DataFrame]
) -> Gold:
  """Puts a gold table and its rules together.

  Args:
    evaluation: `{unique_columns, required, eval_pipeline}`, or its JSON.
    read: makes the table of the required columns, in their order.

  Raises:
    ValueError: a field is missing or of another form, a name stands for no
      rule, or what `read` raises.
  """
  if isinstance(evaluation, str):
    evaluation = json.loads(evaluation)
  if not isinstance(evaluation, dict):
    raise ValueError('evaluation is no object')
  required, unique = (
    _texts(lines.field(evaluation, name, list), name)
    for name in ('required', 'unique_columns')
  )
  pipeline = lines.field(evaluation, 'eval_pipeline', dict)
  rules = {name: _rule(name, rule) for name, rule in pipeline.items()}
  return Gold(read(required), unique, rules)


def _rule(column: str, rule: object) -> Rule:
  if not isinstance(rule, dict):
    raise ValueError(f'the rule of column {column!r} is no object')
  try:
    return Rule(
      _texts(rule.get('preprocess', []), 'preprocess', distinct=False),
      _texts(rule.get('metric', []), 'metric', distinct=False),
      rule.get('criterion'),
    )
  except ValueError as error:
    raise ValueError(f'column {column!r}: {error}') from None


def _texts(
  values: object, name: str, *, distinct: bool = True
) -> tuple[str, ...]:
  if not isinstance(values, list) or not all(
    isinstance(value, str) for value in values
  ):
    raise ValueError(f'{name} is no list of texts')
  if distinct and len(set(values)) < len(values):
    raise ValueError(f'{name} names a column twice')
  return tuple(values)
