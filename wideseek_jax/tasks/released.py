"""Reads the task files that others released, as they are.

In come hybrid_20k.jsonl, width_20k.jsonl, depth_20k.jsonl and WideSearch's
test.jsonl (WideSeek-R1), with the gold CSVs of WideSearch if they are there,
the `test.jsonl` of the seven question sets (ASearcher), or tasks that this
project saved; out go tasks and the problems of lines that give none. What a
line is, its fields say (SPEC C.3, C.4).
"""

import csv
import io
import json
import pathlib
from typing import Any

from wideseek_jax import files, types
from wideseek_jax.judge import rules
from wideseek_jax.tasks import datasets, lines, metrics, tables


def read_tasks(
  path: files.Path, name: str = '', gold_folder: files.Path | None = None
) -> tuple[list[types.Task], list[str]]:
  """The tasks of a file.

  Args:
    path: of lines with `question` or `query`, `answer` (`gt` in some sets) and,
      of a table, `unique_columns`, maybe inside of `evaluation`.
    name: stands before every id, for files whose ids are mere numbers.
    gold_folder: holds `<instance_id>.csv` of each table instead of `answer`.

  Returns:
    (tasks in the order of the file, problems: one sentence a line that gives
    no task, with file and line).

  Raises:
    OSError: the file cannot be read.
  """
  folder = None if gold_folder is None else pathlib.Path(gold_folder)

  def parse(record: dict[str, Any], number: int) -> types.Task:
    if 'kind' in record and 'task_id' in record:
      return datasets.parse_task(record)
    ids = ('instance_id', 'qid', 'idx', 'id')
    task_id = next(
      (record[i] for i in ids if record.get(i) is not None), number
    )
    task_id = f'{name}/{task_id}' if name else str(task_id)
    if record.get(
      'is_markdown', 'evaluation' in record or 'unique_columns' in record
    ):
      return wide_task(record, task_id, folder)
    return deep_task(record, task_id)

  return lines.read(path, parse, key=lambda task: task.task_id)


def wide_task(
  record: dict[str, Any], task_id: str, gold_folder: pathlib.Path | None = None
) -> types.Task:
  """The task of a line whose answer is a table.

  Where the evaluation names the required columns, the gold has just these, by
  their names there.

  Raises:
    ValueError: a field is missing or of another form, the table cannot be read,
      or it lacks a column.
  """
  if gold_folder is None:
    gold = markdown_table(lines.field(record, 'answer', str))
  else:
    path = gold_folder / f'{task_id}.csv'
    try:
      gold = csv_table(path.read_bytes().decode('utf-8-sig'))
    except OSError as error:
      raise ValueError(f'no gold table: {error}') from None
  evaluation = record.get('evaluation') or {}
  if isinstance(evaluation, str):
    evaluation = json.loads(evaluation)
  if not isinstance(evaluation, dict):
    raise ValueError('evaluation is no object')
  if required := evaluation.get('required'):
    table = metrics.align_columns(
      gold, _texts({'required': required}, 'required')
    )
    if table is None:
      raise ValueError(f'of {required} a column is not in {list(gold.columns)}')
    gold = table
  holder = record if 'unique_columns' in record else evaluation
  by_key = {rules.column_key(column): column for column in gold.columns}
  unique = tuple(
    by_key.get(rules.column_key(column), column)
    for column in _texts(holder, 'unique_columns')
  )
  if not gold.rows:
    raise ValueError('the gold table has no rows')
  return types.Task(
    task_id,
    _question(record),
    'wide',
    gold,
    unique,
    language=record.get('language') or 'en',
  )


def deep_task(record: dict[str, Any], task_id: str) -> types.Task:
  """The task of a line whose answer is short.

  Raises:
    ValueError: a field is missing or of another form.
  """
  other = 'gt' in record and 'answer' not in record
  answers = _texts(record, 'gt' if other else 'answer')
  more = _texts(record, 'aug_answer') if record.get('aug_answer') else []
  return types.Task(
    task_id,
    _question(record),
    'deep',
    # The order of the file, each text once.
    answers=tuple(dict.fromkeys([*answers, *more])),
    language=record.get('language') or 'en',
  )


def markdown_table(text: str) -> types.Table:
  """The table of an answer, which may lack the fence.

  Raises:
    ValueError: there is none, or it is broken.
  """
  if '```' not in text:
    text = f'```markdown\n{text}\n```'
  table, reason = tables.parse_markdown_table(text)
  if table is None:
    raise ValueError(f'the answer is no Markdown table. {reason}')
  return table


def csv_table(text: str) -> types.Table:
  """A CSV with its cells as they are written.

  Raises:
    ValueError: there is no header, or a row has more or fewer fields.
  """
  # Newlines are left to the reader, which finds those inside of quotes.
  reader = csv.reader(io.StringIO(text, newline=''))
  header = next(reader, [])
  if not header:
    raise ValueError('the gold table has no header')
  rows = []
  for row in reader:
    if row and len(row) != len(header):
      raise ValueError(
        f'the gold row in line {reader.line_num} has {len(row)} fields; its '
        f'header has {len(header)}'
      )
    rows += [tuple(row)] if row else []
  return types.Table(tuple(header), tuple(rows))


def _question(record: dict[str, Any]) -> str:
  return lines.field(record, 'query' if 'query' in record else 'question', str)


def _texts(record: dict[str, Any], name: str) -> list[str]:
  """The texts of a field; a number is as good as its digits."""
  values = lines.field(record, name, str, list, int, float)
  values = values if isinstance(values, list) else [values]
  if not values or not all(type(v) in (str, int, float) for v in values):
    raise ValueError(f'the field {name!r} is not one text or more')
  return list(map(str, values))
