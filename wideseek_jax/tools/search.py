"""BM25 over a corpus, in memory, by tantivy.

`SearchIndex(corpus).search(query, count)` is what a policy's search call
becomes. Queries are written by a model, so they are only ever cut into plain
words: there is no query language that they could break or abuse.

A page has three fields. Its head is its title and the first line of its
contents, in words; `pairs` are the head's neighbouring words, which tell
2013-09-03 from 2013-03-09 and 'New York' from 'York Newquay'; the rest of its
contents counts least. Words are runs of letters and digits, in lower case,
without accents and unstemmed.
"""

import itertools

import tantivy

from wideseek_jax import types
from wideseek_jax.tools import corpus

_MAX_QUERY_CHARS = 1000
_MAX_QUERY_WORDS = 64
# Chosen on 2,000 entities and 500 lists of the real facts, whose pages come
# first in at least 99.5 % of searches for '<type> <name>', '<name> (<type>)'
# and 'list <plural> with <attribute> <value>'.
_HEAD_BOOST = 5.0
_PAIR_BOOST = 3.0
# So large that one segment holds the index: equal scores go by page order.
_HEAP_BYTES = 256_000_000


class SearchIndex:
  """An index of a corpus; safe to be used by many threads at once.

  The same query always gives the same hits: equal scores go by page order.
  """

  def __init__(self, pages: corpus.Corpus, snippet_chars: int = 60):
    """Indexes the pages: about 0.6 s for 37,000 short ones.

    Args:
      pages: what to search.
      snippet_chars: length of a hit's snippet at most.
    """
    self._pages = pages.pages
    self._snippet_chars = snippet_chars
    words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    words = words.filter(tantivy.Filter.lowercase())
    self._words = words.filter(tantivy.Filter.ascii_fold()).build()
    spaces = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
    builder = tantivy.SchemaBuilder()
    for field, analyzer in (
      ('head', 'words'),
      ('pairs', 'spaces'),
      ('rest', 'words'),
    ):
      builder.add_text_field(
        field, tokenizer_name=analyzer, index_option='freq'
      )
    builder.add_unsigned_field('page', stored=True)
    self._schema = builder.build()
    index = tantivy.Index(self._schema)
    index.register_tokenizer('words', self._words)
    index.register_tokenizer('spaces', spaces.build())
    writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
    for number, page in enumerate(self._pages):
      first, _, rest = page.contents.partition('\n')
      pairs = (
        _pairs(self._words.analyze(_plain(text)))
        for text in (page.title, first)
      )
      writer.add_document(
        tantivy.Document(
          head=_plain(f'{page.title} {first}'),
          pairs=' '.join(itertools.chain(*pairs)),
          rest=_plain(rest),
          page=number,
        )
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
    words = self._words.analyze(_plain(query[:_MAX_QUERY_CHARS]))
    words = words[:_MAX_QUERY_WORDS]
    # tantivy reserves room for `count` hits, however absurd the number.
    count = min(count, len(self._pages))
    if not words or count < 1:
      return []
    clauses = []
    for field, terms, boost in (
      ('head', words, _HEAD_BOOST),
      ('pairs', _pairs(words), _PAIR_BOOST),
      ('rest', words, 1.0),
    ):
      for term in dict.fromkeys(terms):
        clause = tantivy.Query.term_query(self._schema, field, term)
        clauses.append(
          (tantivy.Occur.Should, tantivy.Query.boost_query(clause, boost))
        )
    found = self._searcher.search(
      tantivy.Query.boolean_query(clauses), count, count=False
    )
    return [self._hit(address) for _, address in found.hits]

  def _hit(self, address: tantivy.DocAddress) -> types.Hit:
    page = self._pages[self._searcher.doc(address)['page'][0]]
    return types.Hit(
      page.url, page.title, snippet(page.contents, self._snippet_chars)
    )


def snippet(contents: str, max_chars: int) -> str:
  """The start of a page after its first line (if it has more), on one line."""
  first, _, rest = contents.partition('\n')
  text = '; '.join(line for line in rest.split('\n') if line) or first
  return text if len(text) <= max_chars else text[: max_chars - 1] + '…'


def _pairs(words: list[str]) -> list[str]:
  return [f'{one}_{other}' for one, other in itertools.pairwise(words)]


def _plain(text: str) -> str:
  """Lone surrogates become '?': they cannot be handed to tantivy."""
  return text.encode('utf-8', 'replace').decode('utf-8')
