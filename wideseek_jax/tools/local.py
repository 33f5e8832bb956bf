"""The tools of an offline run: search and open the pages of one corpus."""

import dataclasses

from wideseek_jax import types
from wideseek_jax.tools import corpus, search


@dataclasses.dataclass(frozen=True)
class LocalTools:
  """`types.Tools` over a corpus and its index; safe for many threads."""

  pages: corpus.Corpus
  index: search.SearchIndex

  def search(self, query: str, count: int) -> list[types.Hit]:
    """The best `count` pages for the query, best first."""
    return self.index.search(query, count)

  def access(self, url: str, info: str = '') -> types.Page | None:
    """The page at exactly this url, None if there is none."""
    return self.pages.by_url.get(url)
