"""What every index of pages can do, and the agents' tools on top of it.

In come queries, a batch at a time; out go pages with scores. `HybridIndex`
puts two rankings together, `RetrieverTools` makes any index the `types.Tools`
of a run.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wideseek_jax import types


class Scored(NamedTuple):
  """A page that was found; a higher score is better."""

  page: types.Page
  score: float


class Retriever(Protocol):
  """An index of pages; safe for many threads."""

  def retrieve(self, queries: Sequence[str], count: int) -> list[list[Scored]]:
    """The best `count` pages of each query, best first; count < 1: none."""

  def pages(self, urls: Sequence[str]) -> list[types.Page | None]:
    """The page at exactly each url, None where there is none."""


@dataclasses.dataclass(frozen=True)
class HybridIndex:
  """Reciprocal rank fusion of a ranking by words and one by meaning.

  A page scores Σ 1 / (damping + its rank from 1) over the rankings that have
  it (Cormack, Clarke and Büttcher, SIGIR 2009, damping 60).

  Attributes:
    text: ranks by words and opens pages.
    dense: ranks by meaning.
    depth: how much of each ranking counts at least.
    damping: the larger, the less the first ranks stand out.
  """

  text: Retriever
  dense: Retriever
  depth: int = 50
  damping: float = 60.0

  def retrieve(self, queries: Sequence[str], count: int) -> list[list[Scored]]:
    """See `Retriever`; passages of one page stand for themselves."""
    depth = max(count, self.depth) if count > 0 else 0
    rankings = (
      self.text.retrieve(queries, depth),
      self.dense.retrieve(queries, depth),
    )
    return [
      self._fuse(of_query)[: max(count, 0)]
      for of_query in zip(*rankings, strict=True)
    ]

  def pages(self, urls: Sequence[str]) -> list[types.Page | None]:
    """See `Retriever`."""
    return self.text.pages(urls)

  def _fuse(self, rankings: Sequence[list[Scored]]) -> list[Scored]:
    scores: dict[types.Page, float] = {}
    for ranking in rankings:
      for rank, (page, _) in enumerate(ranking, start=1):
        scores[page] = scores.get(page, 0.0) + 1 / (self.damping + rank)
    # Stable: of equals the first ranking's comes first.
    best = sorted(scores.items(), key=lambda item: -item[1])
    return [Scored(*item) for item in best]


@dataclasses.dataclass(frozen=True)
class RetrieverTools:
  """`types.Tools` over any index.

  Attributes:
    retriever: the index.
    snippet_chars: so much of a page a hit shows at most.
  """

  retriever: Retriever
  snippet_chars: int = 5000

  def search(self, query: str, count: int) -> list[types.Hit]:
    """The best `count` pages for the query, best first."""
    (found,) = self.retriever.retrieve([query], count)
    return [
      types.Hit(page.url, page.title, page.contents[: self.snippet_chars])
      for page, _ in found
    ]

  def access(self, url: str, info: str = '') -> types.Page | None:
    """The page at exactly this url, None if there is none."""
    (page,) = self.retriever.pages([url])
    return page


def joined(passages: Sequence[types.Page]) -> types.Page | None:
  """The page that passages of one url make up, in their order."""
  if not passages:
    return None
  contents = '\n'.join(passage.contents for passage in passages)
  return dataclasses.replace(passages[0], contents=contents)
