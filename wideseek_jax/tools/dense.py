"""Passages by meaning: vectors in Qdrant, in the collection of WideSeek-R1.

In come texts and a function that makes vectors of them (`models.bert`), out go
the nearest passages. Queries of many threads are encoded together. A point's id
is the line of its passage, so a build that was killed goes on where the
collection ends.
"""

import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import qdrant_client
from qdrant_client import models

from wideseek_jax import keys, types
from wideseek_jax.tools import batcher, retrieval

# HNSW as released (SPEC E.1): links of a node, candidates while it is built.
HNSW_M, HNSW_EF_CONSTRUCT = 32, 512
# Where Qdrant builds graphs by itself again, once everything is there.
_INDEXING_THRESHOLD = 20_000
_MAX_PASSAGES = 1000

Encode = Callable[[Sequence[str]], np.ndarray]


def open_client(
  url: str, api_key_env: str = 'QDRANT_API_KEY', seconds: float = 60.0
) -> qdrant_client.QdrantClient:
  """Qdrant at a url, or embedded: ':memory:' or a folder, for small corpora.

  Args:
    url: http or https, or where the embedded one lives.
    api_key_env: the environment variable that holds its key, if it wants one.
    seconds: deadline of a call.
  """
  if url.startswith(('http://', 'https://')):
    return qdrant_client.QdrantClient(
      url=url,
      api_key=keys.read(api_key_env) or None,
      timeout=max(1, round(seconds)),
      # Vectors are numbers: JSON makes them four times as long.
      prefer_grpc=True,
      check_compatibility=False,
    )
  place = {'location': url} if url == ':memory:' else {'path': url}
  return qdrant_client.QdrantClient(
    **place, force_disable_check_same_thread=True
  )


def connect(
  encode: Encode,
  *,
  url: str,
  collection: str,
  hnsw_ef: int = 256,
  api_key_env: str = 'QDRANT_API_KEY',
  seconds: float = 60.0,
) -> 'DenseIndex':
  """The index of a collection that `build` filled.

  Args:
    encode: queries -> float32 [n, width].
    url: see `open_client`.
    collection: its name.
    hnsw_ef: candidates of a search: more find more and take longer.
    api_key_env: see `open_client`.
    seconds: see `open_client`.

  Raises:
    ConnectionError: there is no Qdrant.
    FileNotFoundError: it has no such collection.
  """
  client = open_client(url, api_key_env, seconds)
  with _explained(f'Qdrant at {url}'):
    found = client.collection_exists(collection)
  if not found:
    raise FileNotFoundError(
      f'Qdrant at {url} has no collection {collection!r}; make it with python '
      f'-m experiments.build_index --dense'
    )
  return DenseIndex(client, collection, encode, hnsw_ef)


class DenseIndex:
  """A `retrieval.Retriever` over a collection; safe for many threads."""

  def __init__(
    self,
    client: qdrant_client.QdrantClient,
    collection: str,
    encode: Encode,
    hnsw_ef: int = 256,
  ):
    """See `connect`."""
    self._client, self._collection = client, collection
    self._params = models.SearchParams(hnsw_ef=hnsw_ef)
    # Threads wait for the answer, so there are never more of them than that.
    self._encoding = batcher.Batcher(encode, max_batch=64, max_waiting=2**20)

  def retrieve(
    self, queries: Sequence[str], count: int
  ) -> list[list[retrieval.Scored]]:
    """See `retrieval.Retriever`; a score is a cosine."""
    if count < 1 or not queries:
      return [[] for _ in queries]
    vectors = self._encoding.submit(queries).result()
    with _explained('the index of passages'):
      answers = self._client.query_batch_points(
        self._collection,
        [
          models.QueryRequest(
            query=vector.tolist(),
            limit=count,
            params=self._params,
            with_payload=True,
          )
          for vector in vectors
        ],
      )
    return [
      [
        retrieval.Scored(_page(point.payload), point.score)
        for point in answer.points
      ]
      for answer in answers
    ]

  def pages(self, urls: Sequence[str]) -> list[types.Page | None]:
    """See `retrieval.Retriever`; the passages of a url are one page."""
    return [self._open(url) for url in urls]

  def _open(self, url: str) -> types.Page | None:
    match = models.FieldCondition(
      key='url', match=models.MatchValue(value=_plain(url))
    )
    with _explained('the index of passages'):
      found, _ = self._client.scroll(
        self._collection,
        scroll_filter=models.Filter(must=[match]),
        limit=_MAX_PASSAGES,
        with_payload=True,
      )
    found = sorted(found, key=lambda point: point.id)
    return retrieval.joined([_page(point.payload) for point in found])


def build(
  client: qdrant_client.QdrantClient,
  collection: str,
  passages: Callable[[int], Iterable[types.Page]],
  encode: Encode,
  width: int,
  batch: int = 512,
  on_batch: Callable[[int], None] = lambda done: None,
) -> int:
  """Fills a collection with passages; one that was begun goes on.

  Vectors are made while those before them are sent, and the graph is built
  when all are there.

  Args:
    client: see `open_client`.
    collection: made if it is not there.
    passages: (number) -> the passages from that one on; the same ones in the
      same order at every call.
    encode: passages' contents -> float32 [n, width].
    width: of a vector.
    batch: passages that are encoded and sent together.
    on_batch: called with how many passages are in the collection.

  Returns:
    how many passages it holds.

  Raises:
    ConnectionError: Qdrant did not answer; what it has is kept.
    ValueError: the collection holds vectors of another width.
  """
  with _explained('Qdrant'):
    _prepare(client, collection, width)
    done = client.count(collection, exact=True).count
  on_batch(done)

  def send(start: int, pages: list[types.Page], vectors: np.ndarray) -> int:
    client.upsert(
      collection,
      models.Batch(
        ids=list(range(start, start + len(pages))),
        vectors=vectors.tolist(),
        payloads=[_payload(page) for page in pages],
      ),
      wait=True,
    )
    return start + len(pages)

  # One at a time, or a killed build would leave gaps.
  with concurrent.futures.ThreadPoolExecutor(1) as sender:
    sent, start = None, done
    rest = iter(passages(done))
    while pages := list(itertools.islice(rest, batch)):
      vectors = encode([page.contents for page in pages])
      if sent is not None:
        with _explained('Qdrant'):
          done = sent.result()
        on_batch(done)
      sent = sender.submit(send, start, pages, vectors)
      start += len(pages)
    with _explained('Qdrant'):
      done = sent.result() if sent is not None else done
      client.update_collection(
        collection,
        optimizers_config=models.OptimizersConfigDiff(
          indexing_threshold=_INDEXING_THRESHOLD
        ),
      )
  on_batch(done)
  return done


def plan(
  passages: int, passage_bytes: float, width: int, passage_seconds: float
) -> str:
  """What a collection takes, as text.

  Args:
    passages: how many.
    passage_bytes: of one, as JSON.
    width: of a vector.
    passage_seconds: to encode one.
  """
  vectors = passages * width * 4
  # Two m links on the lowest level, where nearly all of them are (Malkov and
  # Yashunin, arXiv 1603.09320 §4), four bytes each.
  links = passages * 2 * HNSW_M * 4
  texts = passages * passage_bytes
  gigabytes = {
    'vectors (float32)': vectors,
    'graph': links,
    'texts': texts,
    'disk in all': vectors + links + texts,
    'memory of the server, all of vectors and graph in it': vectors + links,
    'memory of the server at least, vectors on a fast disk': links,
  }
  lines = [f'{passages:,} passages, vectors of {width} numbers']
  lines += [f'  {name}: {n / 1e9:.1f} GB' for name, n in gigabytes.items()]
  hours = passages * passage_seconds / 3600
  lines.append(
    f'  encoding on this machine: {hours:.1f} hours '
    f'({1 / passage_seconds:.0f} passages a second); the graph comes on top'
  )
  return '\n'.join(lines)


def _prepare(
  client: qdrant_client.QdrantClient, collection: str, width: int
) -> None:
  if client.collection_exists(collection):
    found = client.get_collection(collection).config.params.vectors
    size = getattr(found, 'size', None)
    if size != width:
      raise ValueError(
        f'the collection {collection!r} holds vectors of {size} numbers, the '
        f"encoder's have {width}; name another one with "
        f'config.tools.dense.collection'
      )
    return
  client.create_collection(
    collection,
    vectors_config=models.VectorParams(
      size=width, distance=models.Distance.COSINE, on_disk=True
    ),
    hnsw_config=models.HnswConfigDiff(m=HNSW_M, ef_construct=HNSW_EF_CONSTRUCT),
    optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
    on_disk_payload=True,
  )
  client.create_payload_index(
    collection, 'url', models.PayloadSchemaType.KEYWORD
  )


def _payload(page: types.Page) -> dict[str, str]:
  return {
    'url': _plain(page.url),
    'title': _plain(page.title),
    'contents': _plain(page.contents),
  }


def _page(payload: dict | None) -> types.Page:
  """Payloads of the released collection have no title."""
  texts = ((payload or {}).get(n) for n in ('url', 'title', 'contents'))
  return types.Page(*(t if isinstance(t, str) else '' for t in texts))


def _plain(text: str) -> str:
  return text.encode('utf-8', 'replace').decode('utf-8')


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
  """The client's errors, of many kinds, hold addresses and whole requests."""
  try:
    yield
  except ValueError:
    raise
  except Exception as error:
    raise ConnectionError(
      f'{what} did not answer ({type(error).__name__})'
    ) from error
