"""BM25 over any number of pages, on disk, by tantivy.

`build` streams a corpus into a folder in constant memory; `TextIndex` maps that
folder into memory, which takes milliseconds however large it is. Pages are
ranked as `search` ranks them, but for the boosts: those of the facts, where
nearly every query is of titles, bury what only a page's text says.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Sequence

import tantivy

from wideseek_jax import types
from wideseek_jax.tools import retrieval, search

# Postings that are not on disk yet; what building takes in memory.
_HEAP_BYTES = 256_000_000
# Lines that share a url, such as the passages of one page.
_MAX_LINES = 1000


def build(pages: Iterable[types.Page], folder: str | os.PathLike[str]) -> int:
  """Indexes pages into a new folder, all of them or none.

  Pages that share a url are passages of one page: each is found by itself,
  and opening the url gives all of them in their order.

  Args:
    pages: read once, one after the other.
    folder: of the index; must not be there yet. It is built in
      `<folder>.partial`, which a later call clears away.

  Returns:
    how many pages there are.

  Raises:
    FileExistsError: the folder is there already.
    ValueError: there is no page.
  """
  folder = pathlib.Path(folder)
  if folder.exists():
    raise FileExistsError(
      f'{folder} is there already; remove it or name another one'
    )
  partial = folder.with_name(folder.name + '.partial')
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  builder = search.schema_builder()
  builder.add_text_field('url', tokenizer_name='raw', index_option='basic')
  # What is kept to be shown is not searched: JSON [line, url, title, contents].
  builder.add_bytes_field('kept', stored=True, indexed=False)
  index = tantivy.Index(builder.build(), path=str(partial))
  search.register(index)
  writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
  number = -1
  for number, page in enumerate(pages):
    texts = map(search.plain, (page.url, page.title, page.contents))
    kept = [number, *texts]
    writer.add_document(
      tantivy.Document(
        url=kept[1],
        kept=json.dumps(kept).encode(),
        **search.searched_fields(page),
      )
    )
  if number < 0:
    raise ValueError('there is no page to index')
  writer.commit()
  writer.wait_merging_threads()
  os.replace(partial, folder)
  return number + 1


class TextIndex:
  """A built index, opened; safe for many threads and processes.

  Equal scores go by the order of the index, which is fixed once it is built.
  It is a `retrieval.Retriever`.
  """

  def __init__(
    self, folder: str, head_boost: float = 1.0, pair_boost: float = 1.0
  ):
    """Maps the index into memory.

    Args:
      folder: where `build` put it.
      head_boost: see `search.parse`.
      pair_boost: see `search.parse`.

    Raises:
      FileNotFoundError: there is none.
      ValueError: the folder holds another index.
    """
    if not os.path.isdir(folder) or not tantivy.Index.exists(folder):
      raise FileNotFoundError(
        f'no index in {folder!r}; make one with python -m '
        f'experiments.build_index --corpus=PAGES.jsonl --out={folder}'
      )
    index = tantivy.Index.open(folder)
    search.register(index)
    self._boosts = head_boost, pair_boost
    self._schema = index.schema
    self._searcher = index.searcher()
    try:
      search.parse(self._schema, 'a')
      self._of_url('a')
    except ValueError as error:
      raise ValueError(
        f'{folder} holds an index that build_index did not make ({error})'
      ) from None

  def __len__(self) -> int:
    return self._searcher.num_docs

  def retrieve(
    self, queries: Sequence[str], count: int
  ) -> list[list[retrieval.Scored]]:
    """See `retrieval.Retriever`."""
    count = min(count, len(self))
    if count < 1:
      return [[] for _ in queries]
    return [self._best(query, count) for query in queries]

  def pages(self, urls: Sequence[str]) -> list[types.Page | None]:
    """See `retrieval.Retriever`; lines that share a url are one page."""
    return [self._page(url) for url in urls]

  def _best(self, query: str, count: int) -> list[retrieval.Scored]:
    parsed = search.parse(self._schema, query, *self._boosts)
    if parsed is None:
      return []
    hits = self._searcher.search(parsed, count, count=False).hits
    return [
      retrieval.Scored(types.Page(*self._kept(address)[1:]), score)
      for score, address in hits
    ]

  def _page(self, url: str) -> types.Page | None:
    query = self._of_url(search.plain(url))
    hits = self._searcher.search(query, _MAX_LINES, count=False).hits
    lines = sorted(self._kept(address) for _, address in hits)
    return retrieval.joined([types.Page(*line[1:]) for line in lines])

  def _kept(self, address: tantivy.DocAddress) -> list:
    """[line, url, title, contents]."""
    return json.loads(bytes(self._searcher.doc(address)['kept'][0]))

  def _of_url(self, url: str) -> tantivy.Query:
    return tantivy.Query.term_query(self._schema, 'url', url)
