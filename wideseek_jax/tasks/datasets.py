"""Tasks as files: JSON lines, one task each, what `types.Task` holds.

Task families build tasks; what is saved here is read by training and
evaluation, unchanged: `load_tasks(path)` equals what was saved, as long as
metadata are JSON values.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from wideseek_jax import files, types


def save_tasks(
  path: str | os.PathLike[str], tasks: Iterable[types.Task]
) -> None:
  """Writes tasks, all of them or nothing."""
  files.write_jsonl(path, map(dataclasses.asdict, tasks))


def load_tasks(path: str | os.PathLike[str]) -> list[types.Task]:
  """Reads tasks in the order of the file.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is no task, two tasks share an id, or the file is empty.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}: no such file of tasks; write it with save_tasks or correct '
      f'the path'
    )
  tasks: dict[str, types.Task] = {}
  with path.open(encoding='utf-8') as file:
    for number, line in enumerate(file, start=1):
      place = f'{path}:{number}'
      try:
        task = parse_task(json.loads(line))
      except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
          f'{place}: not a task ({error!r}); correct the line or build the '
          f'file again'
        ) from error
      if task.task_id in tasks:
        raise ValueError(
          f'{place}: a task above has the id {task.task_id!r} too; keep one'
        )
      tasks[task.task_id] = task
  if not tasks:
    raise ValueError(f'{path}:1: the file holds no task; build it again')
  return list(tasks.values())


def parse_task(record: dict[str, Any]) -> types.Task:
  """The task of a line that `save_tasks` wrote.

  Raises:
    KeyError, TypeError, ValueError: it is none.
  """
  record = dict(record)
  if record.get('kind') not in ('wide', 'deep'):
    raise ValueError("kind is neither 'wide' nor 'deep'")
  if record.get('table') is not None:
    table = record['table']
    record['table'] = types.Table(
      _texts(table['columns']), tuple(map(_texts, table['rows']))
    )
  for field in ('unique_columns', 'answers'):
    record[field] = _texts(record.get(field, []))
  return types.Task(**record)


def _texts(values: object) -> tuple[str, ...]:
  # A lone text would fall apart into its letters.
  if not isinstance(values, list) or not all(
    isinstance(value, str) for value in values
  ):
    raise TypeError(f'{values!r} is no list of texts')
  return tuple(values)
