"""BM25 over a corpus, in memory, by tantivy.

`SearchIndex(corpus).search(query, count)` is what a policy's search call
becomes. Queries are written by a model, so they are only ever cut into plain
words: there is no query language that they could break or abuse. How pages are
ranked is said here once; `text_index` keeps the same index on disk.

A page has three fields. Its head is its title and the first line of its
contents, in words; `pairs` are the head's neighbouring words, which tell
2013-09-03 from 2013-03-09 and 'New York' from 'York Newquay'; the rest of its
contents counts least. Words are runs of letters and digits, in lower case,
without accents and unstemmed.
"""

import itertools
from collections.abc import Sequence

import tantivy

from wideseek_jax import types
from wideseek_jax.tools import corpus, retrieval

_MAX_QUERY_CHARS = 1000
_MAX_QUERY_WORDS = 64
# Chosen on 2,000 entities and 500 lists of the real facts, whose pages come
# first in at least 99.5 % of searches for '<type> <name>', '<name> (<type>)'
# and 'list <plural> with <attribute> <value>'.
HEAD_BOOST = 5.0
PAIR_BOOST = 3.0
# So large that one segment holds the index: equal scores go by page order.
_HEAP_BYTES = 256_000_000


def _analyzer(*filters: tantivy.Filter) -> tantivy.TextAnalyzer:
  builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
  for one in filters:
    builder = builder.filter(one)
  return builder.build()


_WORDS = _analyzer(tantivy.Filter.lowercase(), tantivy.Filter.ascii_fold())


def schema_builder() -> tantivy.SchemaBuilder:
  """The fields that are searched; a caller adds what it stores."""
  builder = tantivy.SchemaBuilder()
  for field, analyzer in (
    ('head', 'words'),
    ('pairs', 'spaces'),
    ('rest', 'words'),
  ):
    builder.add_text_field(field, tokenizer_name=analyzer, index_option='freq')
  return builder


def register(index: tantivy.Index) -> None:
  """Gives an index the tokenizers of the schema, which no file holds."""
  spaces = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
  index.register_tokenizer('words', _WORDS)
  index.register_tokenizer('spaces', spaces.build())


def searched_fields(page: types.Page) -> dict[str, str]:
  """What the fields of the schema hold of a page."""
  first, _, rest = page.contents.partition('\n')
  pairs = (_pairs(_WORDS.analyze(plain(text))) for text in (page.title, first))
  return {
    'head': plain(f'{page.title} {first}'),
    'pairs': ' '.join(itertools.chain(*pairs)),
    'rest': plain(rest),
  }


def parse(
  schema: tantivy.Schema,
  query: str,
  head_boost: float = HEAD_BOOST,
  pair_boost: float = PAIR_BOOST,
) -> tantivy.Query | None:
  """Any text as a query, None if no word is in it.

  Args:
    schema: with the fields of `schema_builder`.
    query: its first 1,000 characters and 64 words count.
    head_boost: how often a word in the head counts, beside one in the rest.
    pair_boost: how often a pair in the head does.
  """
  words = _WORDS.analyze(plain(query[:_MAX_QUERY_CHARS]))
  words = words[:_MAX_QUERY_WORDS]
  clauses = []
  for field, terms, boost in (
    ('head', words, head_boost),
    ('pairs', _pairs(words), pair_boost),
    ('rest', words, 1.0),
  ):
    for term in dict.fromkeys(terms):
      clause = tantivy.Query.term_query(schema, field, term)
      clauses.append(
        (tantivy.Occur.Should, tantivy.Query.boost_query(clause, boost))
      )
  return tantivy.Query.boolean_query(clauses) if clauses else None


class SearchIndex:
  """An index of a corpus; safe to be used by many threads at once.

  The same query always gives the same hits: equal scores go by page order.
  It is a `retrieval.Retriever`, too.
  """

  def __init__(self, pages: corpus.Corpus, snippet_chars: int = 60):
    """Indexes the pages: about 0.6 s for 37,000 short ones.

    Args:
      pages: what to search.
      snippet_chars: length of a hit's snippet at most.
    """
    self._corpus = pages
    self._snippet_chars = snippet_chars
    builder = schema_builder()
    builder.add_unsigned_field('page', stored=True)
    self._schema = builder.build()
    index = tantivy.Index(self._schema)
    register(index)
    writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
    for number, page in enumerate(pages.pages):
      writer.add_document(
        tantivy.Document(page=number, **searched_fields(page))
      )
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    self._searcher = index.searcher()

  def search(self, query: str, count: int) -> list[types.Hit]:
    """The best pages for a query, best first.

    Args:
      query: any text; its first 1,000 characters and 64 words count.
      count: how many hits at most; < 1 gives none.
    """
    return [
      types.Hit(
        page.url, page.title, snippet(page.contents, self._snippet_chars)
      )
      for page, _ in self._best(query, count)
    ]

  def retrieve(
    self, queries: Sequence[str], count: int
  ) -> list[list[retrieval.Scored]]:
    """See `retrieval.Retriever`."""
    return [self._best(query, count) for query in queries]

  def pages(self, urls: Sequence[str]) -> list[types.Page | None]:
    """See `retrieval.Retriever`."""
    return [self._corpus.by_url.get(url) for url in urls]

  def _best(self, query: str, count: int) -> list[retrieval.Scored]:
    parsed = parse(self._schema, query)
    # tantivy reserves room for `count` hits, however absurd the number.
    count = min(count, len(self._corpus.pages))
    if parsed is None or count < 1:
      return []
    hits = self._searcher.search(parsed, count, count=False).hits
    return [
      retrieval.Scored(
        self._corpus.pages[self._searcher.doc(address)['page'][0]], score
      )
      for score, address in hits
    ]


def snippet(contents: str, max_chars: int) -> str:
  """The start of a page after its first line (if it has more), on one line."""
  first, _, rest = contents.partition('\n')
  text = '; '.join(line for line in rest.split('\n') if line) or first
  return text if len(text) <= max_chars else text[: max_chars - 1] + '…'


def plain(text: str) -> str:
  """Lone surrogates become '?': they cannot be handed to tantivy."""
  return text.encode('utf-8', 'replace').decode('utf-8')


def _pairs(words: list[str]) -> list[str]:
  return [f'{one}_{other}' for one, other in itertools.pairwise(words)]
