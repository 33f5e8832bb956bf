"""Benchmarks: what is asked, and what an answer to it is worth.

In come tasks, or files as they are released; out goes a `Benchmark`, which the
`resumable` evaluation runs and `summaries` reads. It scores kept answers, not
live rollouts, so that an evaluation may stop between a rollout and its score.
"""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from wideseek_jax import files, types
from wideseek_jax.evaluation import qa
from wideseek_jax.evaluation.widesearch import records, released, scoring
from wideseek_jax.judge import rules
from wideseek_jax.tasks import judged as judged_lib
from wideseek_jax.tasks import metrics, tables

Row = dict[str, Any]

# Gold rows of a table → the size it is reported under.
_SIZES = ((5, '1-5'), (10, '6-10'), (20, '11-20'), (50, '21-50'))


@dataclasses.dataclass(frozen=True)
class Attempt:
  """A finished rollout as far as scores depend on it.

  Attributes:
    task_id: what was attempted.
    sample: which attempt at it.
    answer: the final text, '' of a lead that failed.
    parts: what `rewards.score` says of it by rules alone, with its counts.
  """

  task_id: str
  sample: int
  answer: str
  parts: Mapping[str, float]


Scored = tuple[Row, int]  # What an answer is worth; prompts that took.


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """Tasks and how their answers are scored.

  Attributes:
    name: of the benchmark.
    tasks: what is asked.
    metrics: the names to report, the headline first; a task without one, such
      as a question among tables, is left out of its mean.
    score: (attempts, judge) → numbers and prompts of each, all judged at once.
      Without a judge what only it can tell is wrong, or missing.
    problems: lines of the released files that gave no task.
  """

  name: str
  tasks: tuple[types.Task, ...]
  metrics: tuple[str, ...]
  score: Callable[[Sequence[Attempt], types.Judge | None], list[Scored]]
  problems: tuple[str, ...] = ()


def labels(task: types.Task) -> Row:
  """What results are told apart by: language and size, or set."""
  if task.kind == 'deep':
    folder, slash, _ = task.task_id.partition('/')
    return {'language': task.language} | ({'set': folder} if slash else {})
  rows = len(task.table.rows)
  size = next((name for most, name in _SIZES if rows <= most), '51+')
  return {'language': task.language, 'rows': size}


def facts(tasks: Sequence[types.Task]) -> Benchmark:
  """Tables by item F1 and short answers by equality, as in training."""
  by_id = {task.task_id: task for task in tasks}

  def score(attempts, judge):
    if judge is None:
      return [(dict(attempt.parts), 0) for attempt in attempts]
    judged = judged_lib.ask(
      judge,
      [_counted(_judge(a, by_id[a.task_id])) for a in attempts],
    )
    return [
      (dict(a.parts) | _judged_parts(found, by_id[a.task_id]), asked)
      for a, (found, asked) in zip(attempts, judged, strict=True)
    ]

  names = ('item_f1', 'row_f1', 'success') * any(t.table for t in tasks)
  names += ('exact_match',) * any(t.answers for t in tasks)
  return Benchmark('facts', tuple(tasks), (*names, 'format_ok'), score)


def widesearch(
  path: files.Path,
  gold_folder: files.Path | None = None,
  *,
  strict: bool = False,
) -> Benchmark:
  """WideSearch by its official score; see `released.read_queries`.

  Raises:
    OSError: the file cannot be read.
  """
  queries, problems = released.read_queries(path, gold_folder, strict=strict)
  gold = {query.task.task_id: query.gold for query in queries}

  def score(attempts, judge):
    found = judged_lib.ask(
      judge or _silent,
      [
        _counted(_official(gold[a.task_id], a.answer, strict)) for a in attempts
      ],
    )
    return [(dataclasses.asdict(result), asked) for result, asked in found]

  return Benchmark(
    'widesearch strict' if strict else 'widesearch',
    tuple(query.task for query in queries),
    ('f1_by_item', 'f1_by_row', 'score'),
    score,
    tuple(problems),
  )


def questions(paths: Mapping[str, files.Path]) -> Benchmark:
  """QA sets by exact match, F1 and a judge's verdict.

  Args:
    paths: of the test.jsonl of each set, by its name.

  Raises:
    OSError: a file cannot be read.
  """
  tasks, problems = [], []
  for name, path in paths.items():
    found, wrong = qa.read_questions(path, name)
    tasks += found
    problems += wrong
  by_id = {task.task_id: task for task in tasks}

  def score(attempts, judge):
    grades = qa.grade(
      [by_id[a.task_id] for a in attempts],
      [tables.extract_boxed(a.answer) for a in attempts],
      judge or _silent,
    )
    rows = [dataclasses.asdict(grade) for grade in grades]
    if judge is None:
      rows = [{n: row[n] for n in ('exact_match', 'f1')} for row in rows]
      return [(row, 0) for row in rows]
    return [(row, int(row.pop('asked'))) for row in rows]

  names = ('judge', 'exact_match', 'f1')
  return Benchmark('qa', tuple(tasks), names, score, tuple(problems))


def _silent(prompts: Sequence[str]) -> list[str]:
  """Stands for the judge that nobody named: it never replies."""
  return [''] * len(prompts)


def _counted(
  asking: Generator[list[str], list[str], Any],
) -> Generator[list[str], list[str], tuple[Any, int]]:
  """Returns with the result how many prompts it took."""
  asked, replies = 0, None
  while True:
    try:
      prompts = asking.send(replies)
    except StopIteration as ended:
      return ended.value, asked
    asked += len(prompts)
    replies = yield prompts


def _official(
  gold: records.Gold, answer: str, strict: bool
) -> Generator[list[str], list[str], records.Result]:
  """`scoring.steps` with prompts for questions."""
  steps, replies = scoring.steps(gold, answer, strict=strict), None
  while True:
    try:
      asked = steps.send(replies)
    except StopIteration as ended:
      return ended.value
    replies = yield [question.prompt for question in asked]


def _judge(attempt: Attempt, task: types.Task) -> judged_lib.Asking:
  if task.kind == 'deep':
    return judged_lib.judge_boxed(tables.extract_boxed(attempt.answer), task)
  table, _ = tables.parse_markdown_table(attempt.answer)
  return judged_lib.judge_table(table, task)


def _judged_parts(judged: judged_lib.Judged, task: types.Task) -> Row:
  if task.kind == 'wide':
    return metrics.table_metrics(judged.table, task.table, task.unique_columns)
  right = bool(judged.boxed) and any(
    rules.same(judged.boxed, answer) for answer in task.answers
  )
  return {'exact_match': float(right)}
