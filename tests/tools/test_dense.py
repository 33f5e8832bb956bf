"""Vectors in an embedded Qdrant, from an encoder that a pencil can follow."""

import threading

import numpy as np
import pytest

from wideseek_jax import types

dense = pytest.importorskip(
  'wideseek_jax.tools.dense', reason='needs wideseek_jax[dense]'
)
# The embedded Qdrant compares with every vector.
pytestmark = [
  pytest.mark.filterwarnings('ignore:Payload indexes have no effect'),
  pytest.mark.filterwarnings('ignore:Local mode performs exact'),
]

_WORDS = ('peru', 'river', 'city')
_PAGES = [
  types.Page('wiki/Lima', 'Lima', 'city peru'),
  types.Page('wiki/Rimac', 'Rimac', 'river'),
  types.Page('wiki/Lima', 'Lima', 'peru peru river'),
  types.Page('wiki/Ica', 'Ica', 'city'),
]


def encode(texts):
  """Counts of three words, and a little of each."""
  counts = [[text.split().count(w) + 0.01 for w in _WORDS] for text in texts]
  vectors = np.array(counts, np.float32)
  return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def client():
  client = dense.open_client(':memory:')
  yield client
  client.close()


def pages_from(start):
  return iter(_PAGES[start:])


def build(client, passages=pages_from, **options):
  return dense.build(
    client, 'wiki', passages, encode, len(_WORDS), batch=2, **options
  )


def test_the_nearest_passages_come_first(client):
  seen = []
  assert build(client, on_batch=seen.append) == 4
  assert seen == [0, 2, 4]
  index = dense.DenseIndex(client, 'wiki', encode)
  found, other, nothing = index.retrieve(['peru', 'city city', 'river'], 2)
  # peru with [1 0 1], [2 1 0]: cosines 0.71 and 0.89, all others near 0.
  assert [page for page, _ in found] == [_PAGES[2], _PAGES[0]]
  assert found[0].score == pytest.approx(2 / 5**0.5, abs=0.02)
  assert other[0].page == _PAGES[3] and nothing[0].page == _PAGES[1]
  assert index.retrieve(['peru'], 0) == [[]] and index.retrieve([], 3) == []


def test_passages_of_one_url_are_one_page_in_their_order(client):
  build(client)
  index = dense.DenseIndex(client, 'wiki', encode)
  page, missing = index.pages(['wiki/Lima', 'none'])
  assert page == types.Page('wiki/Lima', 'Lima', 'city peru\nperu peru river')
  assert missing is None


def test_a_killed_build_goes_on_where_it_was(client):
  asked = []

  def dying(start):
    yield _PAGES[0]
    yield _PAGES[1]
    yield _PAGES[2]
    raise KeyboardInterrupt

  def counted(start):
    asked.append(start)
    return pages_from(start)

  with pytest.raises(KeyboardInterrupt):
    build(client, dying)
  assert build(client, counted) == 4
  # What was sent before the end is there: a batch of two.
  assert asked == [2]
  found = client.retrieve('wiki', [0, 1, 2, 3], with_payload=True)
  assert [p.payload['contents'] for p in found] == [p.contents for p in _PAGES]
  assert build(client, counted) == 4 and asked == [2, 4]


def test_vectors_of_another_width_are_refused(client):
  build(client)
  with pytest.raises(ValueError, match='vectors of 3 numbers'):
    dense.build(client, 'wiki', pages_from, encode, 5)


def test_queries_of_many_threads_are_encoded_together(client):
  build(client)
  batches, entered, go = [], threading.Event(), threading.Event()

  def slow(texts):
    batches.append(len(texts))
    entered.set()
    assert go.wait(60)
    return encode(texts)

  index = dense.DenseIndex(client, 'wiki', slow)
  found = {}

  def ask(query):
    found[query] = index.retrieve([query], 1)[0][0].page.title

  threads = [threading.Thread(target=ask, args=('river',))]
  threads[0].start()
  assert entered.wait(60)
  for query in ('peru', 'city', 'city peru'):
    threads.append(threading.Thread(target=ask, args=(query,)))
    threads[-1].start()
  while index._encoding.waiting < 3:
    pass
  go.set()
  for thread in threads:
    thread.join()
  assert batches == [1, 3]
  assert found == {
    'river': 'Rimac',
    'peru': 'Lima',
    'city': 'Ica',
    'city peru': 'Lima',
  }


def test_what_is_not_there_is_told():
  with pytest.raises(FileNotFoundError, match='build_index --dense'):
    dense.connect(encode, url=':memory:', collection='none')
  with pytest.raises(ConnectionError, match=r'Qdrant at http.* did not answer'):
    dense.connect(
      encode, url='http://127.0.0.1:1', collection='none', seconds=1.0
    )


def test_the_plan_of_the_released_corpus():
  text = dense.plan(26_134_257, 900.0, 768, 0.01)
  # 26,134,257 · 768 · 4 bytes, as published; · 64 · 4; · 900.
  assert 'vectors (float32): 80.3 GB' in text
  assert 'graph: 6.7 GB' in text and 'texts: 23.5 GB' in text
  assert 'disk in all: 110.5 GB' in text
  assert '72.6 hours (100 passages a second)' in text
