import concurrent.futures
import functools

import hypothesis
import pytest
from hypothesis import strategies as st

from wideseek_jax import types
from wideseek_jax.tools import corpus, local, search


def _corpus(*pages):
  return corpus.Corpus(
    tuple(
      types.Page(f'facts/{i}', title, contents)
      for i, (title, contents) in enumerate(pages)
    )
  )


_PAGES = _corpus(
  ('São Tomé (city)', 'city: São Tomé\ncountry: Sao Tome and Principe'),
  ('2013-09-03 (day)', 'day: 2013-09-03\nhigh c: 21.1'),
  ('2013-03-09 (day)', 'day: 2013-03-09\nhigh c: 9.4'),
  (
    'List: every city with country Peru',
    'cities with country Peru\nNames: Lima',
  ),
  ('Lima (city)', 'city: Lima\ncountry: Peru'),
  ('Peru (country)', 'country: Peru\ncapital: Lima'),
)


@functools.cache
def _index():
  return search.SearchIndex(_PAGES)


@pytest.fixture
def index():
  return _index()


@pytest.mark.parametrize(
  ('query', 'title'),
  [
    ('sao tome city', 'São Tomé (city)'),
    ('SÃO TOMÉ', 'São Tomé (city)'),
    # The same words as its neighbour's: only their order tells.
    ('day 2013-09-03', '2013-09-03 (day)'),
    ('2013-03-09', '2013-03-09 (day)'),
    ('list city with country Peru', 'List: every city with country Peru'),
    ('list cities with country Peru', 'List: every city with country Peru'),
    ('country Peru', 'Peru (country)'),
    ('city Lima', 'Lima (city)'),
    ('title:Lima^99 AND "(', 'Lima (city)'),
  ],
)
def test_page_that_is_meant_comes_first(index, query, title):
  assert index.search(query, 3)[0].title == title


def test_hits_are_at_most_count_and_only_pages_with_a_word_of_the_query(index):
  assert len(index.search('peru', 10)) == 3
  assert len(index.search('peru', 2)) == 2
  assert len(index.search('peru', 10**12)) == 3
  assert index.search('peru', 0) == []
  assert index.search('peru', -1) == []
  assert index.search('Chile', 5) == []


def test_equal_scores_go_by_page_order():
  twins = _corpus(*[('Lima (city)', 'city: Lima\ncountry: Peru')] * 40)
  found = search.SearchIndex(twins).search('lima', 25)
  assert [hit.url for hit in found] == [f'facts/{i}' for i in range(25)]


def test_empty_corpus_has_no_hits():
  assert search.SearchIndex(corpus.Corpus(())).search('lima', 3) == []


@pytest.mark.parametrize(
  'query', ['', ' \n\t', '"', '*:*', '()', '\x00', '\ud800', '🦆', '+-!{}[]^~']
)
def test_query_without_words_has_no_hits(index, query):
  assert index.search(query, 5) == []


@hypothesis.given(
  st.one_of(
    st.text(max_size=40),
    # Lone surrogates, controls and query operators between real words.
    st.lists(
      st.sampled_from(
        ['peru', 'Lima', ' ', '"', 'AND', 'title:', '\ud83d', '\x00', '(', '~9']
      ),
      max_size=300,
    ).map(''.join),
  ),
  st.integers(-2, 9),
)
@hypothesis.settings(deadline=None, max_examples=150)
def test_any_query_gives_known_pages_and_the_same_ones_again(query, count):
  index = _index()
  found = index.search(query, count)
  assert len(found) <= max(count, 0)
  assert len({hit.url for hit in found}) == len(found)
  assert all(_PAGES.by_url[hit.url].title == hit.title for hit in found)
  assert index.search(query, count) == found


def test_long_query_counts_up_to_its_limit_only(index):
  # 995 filler characters leave room for 'Lima' to be read, 999 do not.
  assert index.search('x' * 995 + ' Lima', 1)[0].title == 'Lima (city)'
  assert index.search('x' * 999 + ' Lima' * 2000, 1) == []
  assert index.search('word ' * 63 + 'Lima', 1)[0].title == 'Lima (city)'
  assert index.search('word ' * 64 + 'Lima', 1) == []


def test_threads_get_what_one_thread_gets(index):
  queries = ['peru', 'lima city', '2013', 'tome', 'country', ''] * 20
  alone = [index.search(query, 3) for query in queries]
  with concurrent.futures.ThreadPoolExecutor(8) as executor:
    together = list(executor.map(lambda query: index.search(query, 3), queries))
  assert together == alone


def test_snippet_is_one_line_of_what_follows_the_first():
  assert (
    search.snippet('lake: A\ndepth: 3\n\nland: B', 60) == 'depth: 3; land: B'
  )
  assert search.snippet('only line', 60) == 'only line'
  assert search.snippet('', 60) == ''
  # 9 characters and the mark that there is more: 10 in all.
  assert search.snippet('t\n0123456789ab', 10) == '012345678…'
  assert search.snippet('t\n0123456789', 10) == '0123456789'


def test_local_tools_search_and_open(index):
  tools = local.LocalTools(_PAGES, index)
  (hit,) = tools.search('Lima city', 1)
  assert hit == types.Hit('facts/4', 'Lima (city)', 'country: Peru')
  assert tools.access(hit.url) == _PAGES.pages[4]
  assert tools.access('facts/4#top') is None
  assert tools.access('') is None
