import functools

import hypothesis
import pytest
import tantivy
from hypothesis import strategies as st

from wideseek_jax import types
from wideseek_jax.tools import corpus, retrieval, search, text_index

_PAGES = (
  types.Page('facts/0', 'São Tomé (city)', 'city: São Tomé\ncountry: 利马'),
  types.Page('facts/1', 'Lima (city)', 'city: Lima\ncountry: Peru'),
  types.Page('facts/2', 'Peru (country)', 'country: Peru\ncapital: Lima'),
  types.Page('wiki/Lima', 'Lima', 'Lima\nfirst passage of the coast'),
  types.Page('wiki/Ica', 'Ica', 'Ica\nanother coast'),
  types.Page('wiki/Lima', 'Lima', 'Lima\nsecond passage'),
)


@pytest.fixture(scope='module')
def index(tmp_path_factory):
  folder = tmp_path_factory.mktemp('text') / 'index'
  assert text_index.build(iter(_PAGES), folder) == 6
  assert [folder] == list(folder.parent.iterdir())
  return text_index.TextIndex(str(folder), search.HEAD_BOOST, search.PAIR_BOOST)


@functools.cache
def _oracle():
  """The index in memory ranks by the same rules; urls there are unique."""
  return search.SearchIndex(
    corpus.Corpus(
      tuple(
        types.Page(str(i), page.title, page.contents)
        for i, page in enumerate(_PAGES)
      )
    )
  )


_WORDS = ('peru', 'Lima', 'city', 'coast', 'passage', 'tome', '"', '\ud800')


@hypothesis.given(
  st.lists(st.sampled_from(_WORDS), max_size=6).map(' '.join),
  st.integers(-1, 9),
)
@hypothesis.settings(
  deadline=None,
  max_examples=60,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_the_index_on_disk_ranks_like_the_one_in_memory(index, query, count):
  (found,) = index.retrieve([query], count)
  (expected,) = _oracle().retrieve([query], count)
  assert [(page.title, page.contents) for page, _ in found] == [
    (page.title, page.contents) for page, _ in expected
  ]
  assert [s for _, s in found] == pytest.approx([s for _, s in expected])


def test_boosts_weigh_title_against_text(tmp_path):
  pages = [
    types.Page('title', 'coast', 'coast\n' + 'a b c ' * 9),
    types.Page('text', 'other', 'other\ncliffs of the coast, coast road'),
  ]
  text_index.build(pages, tmp_path / 'index')
  firsts = []
  for boost in (5.0, 0.1):
    index = text_index.TextIndex(str(tmp_path / 'index'), boost, 0.0)
    firsts.append(index.retrieve(['coast'], 1)[0][0].page.url)
  assert firsts == ['title', 'text']


def test_a_batch_is_what_its_queries_are_alone(index):
  queries = ['peru', '', 'coast']
  assert index.retrieve(queries, 2) == [
    index.retrieve([query], 2)[0] for query in queries
  ]


def test_a_page_is_opened_by_its_exact_url(index):
  one, missing, empty, odd = index.pages(['facts/1', 'Facts/1', '', '\ud800'])
  assert one == _PAGES[1]
  assert missing is empty is odd is None


def test_passages_of_one_url_are_one_page(index):
  (page,) = index.pages(['wiki/Lima'])
  assert page == types.Page(
    'wiki/Lima',
    'Lima',
    'Lima\nfirst passage of the coast\nLima\nsecond passage',
  )


def test_tools_show_the_start_of_a_page(index):
  tools = retrieval.RetrieverTools(index, snippet_chars=9)
  (hit,) = tools.search('tome', 3)
  assert hit == types.Hit('facts/0', 'São Tomé (city)', 'city: São')
  assert tools.access(hit.url) == _PAGES[0]
  assert tools.access('none') is None


def test_lone_surrogates_of_a_corpus_do_not_stop_the_build(tmp_path):
  page = types.Page('u\ud800', 't', 'odd \udc00 text')
  text_index.build([page], tmp_path / 'index')
  index = text_index.TextIndex(str(tmp_path / 'index'))
  assert index.pages([page.url]) == [types.Page('u?', 't', 'odd ? text')]


def test_a_build_replaces_nothing_and_leaves_nothing_half_done(tmp_path):
  folder = tmp_path / 'index'

  def broken():
    yield _PAGES[0]
    raise OSError('the disk is gone')

  with pytest.raises(OSError, match='disk is gone'):
    text_index.build(broken(), folder)
  assert not folder.exists()
  with pytest.raises(ValueError, match='no page'):
    text_index.build([], folder)
  text_index.build(_PAGES, folder)  # What a failed one left is cleared away.
  with pytest.raises(FileExistsError, match='there already'):
    text_index.build(_PAGES, folder)


def test_a_folder_without_index_is_refused(tmp_path):
  for folder in (tmp_path, tmp_path / 'none'):
    with pytest.raises(FileNotFoundError, match='build_index'):
      text_index.TextIndex(str(folder))
  builder = tantivy.SchemaBuilder()
  builder.add_text_field('other')
  tantivy.Index(builder.build(), path=str(tmp_path))
  with pytest.raises(ValueError, match='did not make'):
    text_index.TextIndex(str(tmp_path))


def _page(name):
  return types.Page(name, name, name)


class _Ranking:
  def __init__(self, *names):
    self._found = [retrieval.Scored(_page(name), 9.0) for name in names]

  def retrieve(self, queries, count):
    return [self._found[:count] for _ in queries]

  def pages(self, urls):
    return [_page(url) for url in urls]


def test_hybrid_ranking_adds_reciprocal_ranks():
  hybrid = retrieval.HybridIndex(
    _Ranking('a', 'b', 'c'), _Ranking('c', 'd'), damping=1.0
  )
  found, again = hybrid.retrieve(['x', 'y'], 3)
  # a 1/2; b 1/3; c 1/4 + 1/2 = 3/4; d 1/3, after b, which the text ranks.
  assert (
    found
    == again
    == [
      (_page('c'), 0.75),
      (_page('a'), 0.5),
      (_page('b'), pytest.approx(1 / 3)),
    ]
  )
  assert hybrid.retrieve(['x'], 0) == [[]]
  assert hybrid.pages(['a']) == [_page('a')]
