"""Files are written beside their place and moved there whole.

Whoever reads finds the old file or the new one, never a part of it, whatever
killed the writer.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Path = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
  """Yields where to write; what stands there at the end becomes `path`.

  Makes the folder if it is missing. If the block raises, `path` stays as it
  was and what was written is removed.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Two processes that write the same file do not share a partial one.
  partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
  try:
    yield partial
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
  """Writes a UTF-8 text, all of it or nothing."""
  with replacing(path) as partial:
    partial.write_text(text, encoding='utf-8')


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
  """Writes one JSON object a line, all of them or nothing."""
  with replacing(path) as partial, partial.open('w', encoding='utf-8') as file:
    for row in rows:
      file.write(json.dumps(row, ensure_ascii=False) + '\n')
