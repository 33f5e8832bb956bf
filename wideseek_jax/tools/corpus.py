"""The documents that offline tools search and open, and their file form.

A corpus is read from JSON lines {"id", "url", "title", "contents"} (the form
of the Wiki-2018 corpus) or written by a task family; `search` indexes it.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from wideseek_jax import files, types


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Pages in a fixed order.

  Raises:
    ValueError: two pages share a url.
  """

  pages: tuple[types.Page, ...]

  def __post_init__(self):
    if len(self.by_url) != len(self.pages):
      seen = set()
      for page in self.pages:
        if page.url in seen:
          raise ValueError(f'two pages have the url {page.url!r}')
        seen.add(page.url)

  @functools.cached_property
  def by_url(self) -> Mapping[str, types.Page]:
    """Each page by its url."""
    return {page.url: page for page in self.pages}


def save_jsonl(pages: Corpus, path: str | os.PathLike[str]) -> None:
  """Writes a corpus, all of it or nothing."""
  files.write_jsonl(
    path,
    (
      {'id': str(number), **dataclasses.asdict(page)}
      for number, page in enumerate(pages.pages)
    ),
  )


def load_jsonl(path: str | os.PathLike[str]) -> Corpus:
  """Reads a corpus; further fields of a line are ignored.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is broken (`iter_jsonl`), two pages share a url, or
      there is no line at all.
  """
  pages = {}
  for number, page in enumerate(iter_jsonl(path), start=1):
    if page.url in pages:
      raise ValueError(
        f'{path}:{number}: a page above has the url {page.url!r} too; keep one'
      )
    pages[page.url] = page
  if not pages:
    raise ValueError(f'{path}: no pages in it; write one JSON object a line')
  return Corpus(tuple(pages.values()))


def iter_jsonl(
  path: str | os.PathLike[str], start: int = 0
) -> Iterator[types.Page]:
  """Yields the page of each line, one in memory at a time.

  Args:
    path: of the file.
    start: how many lines to pass over unread.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is not a JSON object with text fields url, title and
      contents; names file and line.
  """
  with pathlib.Path(path).open(encoding='utf-8', errors='replace') as file:
    for number, line in enumerate(file, start=1):
      if number <= start:
        continue
      place = f'{path}:{number}'
      try:
        record = json.loads(line)
      except ValueError as error:
        raise ValueError(
          f'{place}: not JSON ({error}); write one object a line'
        ) from None
      yield _page(record, place)


def _page(record: object, place: str) -> types.Page:
  fields = ('url', 'title', 'contents')
  if not isinstance(record, dict):
    raise ValueError(f'{place}: not an object; write {{"url": …}}')
  for field in fields:
    if not isinstance(record.get(field), str):
      raise ValueError(
        f'{place}: field {field!r} is missing or no text; a page needs '
        f'{", ".join(fields)}'
      )
  return types.Page(*(record[field] for field in fields))
