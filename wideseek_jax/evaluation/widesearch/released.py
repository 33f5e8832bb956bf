"""Reads and writes the files that WideSearch and WideSeek-R1 release.

In come `test.jsonl`, gold CSVs and response files; out go tasks with their
gold, responses, and what is wrong with the lines that give none. Responses are
written as the official loader reads them: one JSON object a line, with no other
fields than `Response` has.
"""

import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Collection, Iterable
from typing import Any

from wideseek_jax import files, types
from wideseek_jax.evaluation import lines
from wideseek_jax.evaluation.widesearch import reading, records, scoring
from wideseek_jax.tasks import metrics, tables

# An id becomes part of file names.
_ID = re.compile(r'[\w.-]+')
_TRIAL = re.compile(r'_(\d+)_response\.jsonl$')


@dataclasses.dataclass(frozen=True)
class Query:
  """A task of the benchmark.

  Attributes:
    task: what the agents get; its gold cells are texts as they were written.
    gold: what the official score is made from.
  """

  task: types.Task
  gold: records.Gold


@dataclasses.dataclass(frozen=True)
class Response:
  """A final answer, with the fields of the official loader.

  Attributes:
    instance_id: of the task.
    response: the text of the answer.
    messages: the conversation that led to it, if it is kept.
    trial_idx: which attempt at the task it is.
  """

  instance_id: str
  response: str
  messages: list[dict[str, Any]] | None = None
  trial_idx: int | None = None


def read_queries(
  path: files.Path,
  gold_folder: files.Path | None = None,
  *,
  strict: bool = False,
) -> tuple[list[Query], list[str]]:
  """Reads a test.jsonl and its gold tables.

  Args:
    path: of lines with `instance_id`, `query`, `language` and `evaluation` (an
      object or its JSON); without a gold folder also `answer`, a Markdown
      table.
    gold_folder: holds `<instance_id>.csv` of each task.
    strict: whether what strict scoring refuses is a problem.

  Returns:
    (tasks in the order of the file, problems).

  Raises:
    OSError: the file cannot be read.
  """
  folder = None if gold_folder is None else pathlib.Path(gold_folder)

  def parse(record: dict[str, Any], _: int) -> Query:
    query = _query(record, folder)
    if strict:
      scoring.check(query.gold)
    return query

  return lines.read(path, parse, key=lambda query: query.task.task_id)


def read_responses(
  path: files.Path, task_ids: Collection[str]
) -> tuple[list[Response], list[str]]:
  """Reads a response file of a task set.

  Args:
    path: of lines as `write_responses` makes them.
    task_ids: of the task set; a response to another task is a problem.

  Returns:
    (responses, one a task and trial, in the order of the file; problems).

  Raises:
    OSError: the file cannot be read.
  """
  task_ids = set(task_ids)

  def parse(record: dict[str, Any], _: int) -> Response:
    none = type(None)
    response = Response(
      lines.field(record, 'instance_id', str),
      lines.field(record, 'response', str),
      lines.field({'messages': None} | record, 'messages', list, none),
      lines.field({'trial_idx': None} | record, 'trial_idx', int, none),
    )
    if response.instance_id not in task_ids:
      raise ValueError(
        f'a response to {response.instance_id!r}, which is not in this task set'
      )
    return response

  return lines.read(path, parse, key=lambda r: (r.instance_id, r.trial_idx))


def read_trials(
  path: files.Path, task_ids: Collection[str]
) -> tuple[dict[str, list[Response]], list[str]]:
  """Reads the response files of a folder, or one file.

  Args:
    path: of files with names as by `response_file`, or of one of any name.
    task_ids: as in `read_responses`.

  Returns:
    (the responses by task, in the order of their trials; problems). The trial
    of a response that does not tell it is that of its file's name, or 0.

  Raises:
    OSError: there is no file, or one cannot be read.
  """
  path = pathlib.Path(path)
  paths = sorted(path.glob('*_response.jsonl')) if path.is_dir() else [path]
  if not paths:
    raise FileNotFoundError(f'{path} holds no file *_response.jsonl')
  by_task: dict[str, dict[int, Response]] = {}
  problems = []
  for file in paths:
    found, wrong = read_responses(file, task_ids)
    problems += wrong
    named = _TRIAL.search(file.name)
    for response in found:
      trial = response.trial_idx
      if trial is None:
        trial = int(named[1]) if named else 0
      trials = by_task.setdefault(response.instance_id, {})
      if trials.setdefault(trial, response) is not response:
        problems.append(
          f'{file}: another file has trial {trial} of {response.instance_id!r}'
        )
  return {
    task_id: [trials[trial] for trial in sorted(trials)]
    for task_id, trials in by_task.items()
  }, problems


def write_responses(path: files.Path, responses: Iterable[Response]) -> None:
  """Writes a response file, all of it or nothing."""
  files.write_jsonl(path, map(dataclasses.asdict, responses))


def response_file(model: str, instance_id: str, trial: int) -> str:
  """The name that the official scorer looks for."""
  return f'{model}_{instance_id}_{trial}_response.jsonl'


def _query(record: dict[str, Any], folder: pathlib.Path | None) -> Query:
  task_id = lines.field(record, 'instance_id', str)
  if not _ID.fullmatch(task_id):
    raise ValueError(f'instance_id {task_id!r} cannot be part of a file name')
  if folder is None:
    text = _as_csv(lines.field(record, 'answer', str))
  else:
    try:
      text = (folder / f'{task_id}.csv').read_bytes().decode('utf-8-sig')
    except OSError as error:
      raise ValueError(f'no gold table: {error}') from None
  # The evaluation is an object in some releases and its JSON in others.
  gold = records.make_gold(
    lines.field(record, 'evaluation', dict, str),
    lambda required: reading.read_gold(text, required),
  )
  table = metrics.align_columns(reading.read_rows(text), gold.table.columns)
  if table is None or not table.rows:
    raise ValueError('the gold table has no rows or a required column twice')
  task = types.Task(
    task_id,
    lines.field(record, 'query', str),
    'wide',
    table,
    gold.unique_columns,
    language=lines.field(record, 'language', str),
  )
  return Query(task, gold)


def _as_csv(markdown: str) -> str:
  if '```' not in markdown:
    markdown = f'```markdown\n{markdown}\n```'
  table, reason = tables.parse_markdown_table(markdown)
  if table is None:
    raise ValueError(f'the answer is no Markdown table. {reason}')
  text = io.StringIO()
  csv.writer(text).writerows([table.columns, *table.rows])
  return text.getvalue()
