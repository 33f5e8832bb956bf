"""Files of cases: an answer, its gold table and what a judge replied.

In come JSON lines with `id`, `evaluation`, `gold_csv`, `response` and
`judge_replies`, where each of the last has `kind`, `column` and `reply`; out go
scores that need no judge, since the recorded replies stand in for it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wideseek_jax import files
from wideseek_jax.evaluation.widesearch import (
  asking,
  reading,
  records,
  scoring,
)
from wideseek_jax.tasks import lines


@dataclasses.dataclass(frozen=True)
class Case:
  """An answer to be scored.

  Attributes:
    id: unique in its file.
    gold: what is right.
    response: the answer's text.
    replies: what the judge said, by `asking.Question`'s kind and column; one
      that is missing or None stands for no reply.
  """

  id: str
  gold: records.Gold
  response: str
  replies: Mapping[tuple[str, str | None], str | None]


def read_cases(
  path: files.Path, *, strict: bool = False
) -> tuple[list[Case], list[str]]:
  """The cases of a file and what is wrong with its other lines.

  Args:
    path: of the file.
    strict: whether what strict scoring refuses is wrong.

  Raises:
    OSError: the file cannot be read.
  """

  def parse(record: dict[str, Any], _: int) -> Case:
    case = _case(record)
    if strict:
      scoring.check(case.gold)
    return case

  return lines.read(path, parse, key=lambda case: case.id)


def score_case(case: Case, *, strict: bool = False) -> records.Result:
  """Scores a case; see `scoring.score`."""

  def replies(questions: list[asking.Question]) -> list[str | None]:
    return [case.replies.get((q.kind, q.column)) for q in questions]

  steps = scoring.steps(case.gold, case.response, strict=strict)
  return scoring.run(steps, replies)


def _case(record: dict[str, Any]) -> Case:
  csv = lines.field(record, 'gold_csv', str)
  gold = records.make_gold(
    lines.field(record, 'evaluation', dict),
    lambda required: reading.read_gold(csv, required),
  )
  replies = {}
  for reply in lines.field(record, 'judge_replies', list):
    if not isinstance(reply, dict):
      raise ValueError('an entry of judge_replies is no object')
    place = lines.field(reply, 'kind', str), reply.get('column')
    if place in replies:
      raise ValueError(f'judge_replies has {place} twice')
    replies[place] = lines.field(reply, 'reply', str, type(None))
  return Case(
    lines.field(record, 'id', str),
    gold,
    lines.field(record, 'response', str),
    replies,
  )
