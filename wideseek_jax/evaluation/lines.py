"""Reads JSON lines and names every line that cannot be used.

In comes a file with one JSON object a line; out go the records that a parser
makes of them and a list of problems, each one sentence with its file and line.
Nothing raises for a line and no line is dropped without a problem, so one bad
line costs itself only.
"""

import csv
import json
import pathlib
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from wideseek_jax import files

T = TypeVar('T')


def read(
  path: files.Path,
  parse: Callable[[dict[str, Any], int], T],
  *,
  key: Callable[[T], Hashable],
) -> tuple[list[T], list[str]]:
  """Reads what can be read.

  Args:
    path: the file; blank lines are no lines.
    parse: makes a record of an object and the number of its line; raises
      ValueError or TypeError if it cannot.
    key: what no two records share; the first of those that do is kept.

  Returns:
    (records in the order of the file, problems).

  Raises:
    OSError: the file cannot be read.
  """
  records: dict[Hashable, T] = {}
  problems: list[str] = []
  with pathlib.Path(path).open('rb') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        record = parse(_object(line), number)
        if key(record) in records:
          raise ValueError(f'a line above has the id {key(record)!r}, too')
        records[key(record)] = record
      except (ValueError, TypeError, RecursionError, csv.Error) as error:
        problems.append(f'{path}:{number}: {error}')
  return list(records.values()), problems


def cut_torn_end(path: files.Path) -> str | None:
  """Removes a last line without an end, as a killed writer leaves one.

  Returns:
    A sentence with file and line on what was cut; None if nothing was.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  with path.open('rb+') as file:
    number, size, line = 0, 0, b'\n'
    for line in file:
      number, size = number + 1, size + len(line)
    if line.endswith(b'\n'):
      return None
    file.truncate(size - len(line))
  return f'{path}:{number}: the line has no end; it is cut and made again'


def field(record: dict[str, Any], name: str, *kinds: type) -> Any:
  """An entry that has to be there, of one of the kinds.

  Raises:
    ValueError: it is missing or of another type.
  """
  if name not in record:
    raise ValueError(f'the field {name!r} is missing')
  if type(record[name]) not in kinds:
    raise ValueError(
      f'the field {name!r} is {type(record[name]).__name__}, not '
      f'{" or ".join(kind.__name__ for kind in kinds)}'
    )
  return record[name]


def _object(line: bytes) -> dict[str, Any]:
  try:
    found = json.loads(line, object_pairs_hook=_distinct)
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise ValueError(
      f'not a line of JSON, maybe half of one: {error}'
    ) from None
  if not isinstance(found, dict):
    raise ValueError('not a JSON object')
  return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'an object has the key {twice!r} twice')
  return found
