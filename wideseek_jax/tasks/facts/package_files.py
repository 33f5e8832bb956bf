"""Opens the data files of other packages where the packages put them.

The packages themselves are not imported: importing mendeleev takes seconds.
"""

import importlib.util
import json
import pathlib
import sqlite3
from typing import Any


def find(package: str, relative: str) -> pathlib.Path:
  """A file inside an installed package.

  Raises:
    ModuleNotFoundError: the package is not installed.
  """
  spec = importlib.util.find_spec(package)
  if spec is None or not spec.submodule_search_locations:
    raise ModuleNotFoundError(
      f'the facts are in the package {package!r}, which is not installed; '
      f'install this project again'
    )
  return pathlib.Path(spec.submodule_search_locations[0]) / relative


def read_json(package: str, relative: str) -> Any:
  """What a JSON file inside a package holds."""
  path = find(package, relative)
  return json.loads(path.read_text(encoding='utf-8'))


def read_iso(standard: str) -> list[dict[str, str]]:
  """The records of an ISO standard in pycountry's folder."""
  (records,) = read_json('pycountry', f'databases/iso{standard}.json').values()
  return records


def query_elements(sql: str) -> list[tuple]:
  """Rows out of mendeleev's database, opened read-only."""
  path = find('mendeleev', 'elements.db')
  connection = sqlite3.connect(f'{path.as_uri()}?mode=ro', uri=True)
  try:
    return connection.execute(sql).fetchall()
  finally:
    connection.close()
