"""The search server: an index behind HTTP, for many clients at once.

It speaks what WideSeek-R1's retrieval server speaks, so either side can be
exchanged:

  POST /retrieve {queries: [str], topk: int?, return_scores: bool?}
    -> {result: [[payload, …], …]}, or [{document: payload, score}, …] each
  POST /access {urls: [str]} -> {result: [payload or null, …]}

where a payload is {url, title, contents}. GET /health and /metrics (Prometheus'
text format) are for those who run it. Requests wait in a bounded queue and are
searched together; a request beyond it gets 503 with Retry-After at once.
"""

import asyncio
import collections
import contextlib
import json
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import starlette.applications
import starlette.requests
import starlette.responses
import starlette.routing
import uvicorn

from wideseek_jax import types
from wideseek_jax.tools import batcher, retrieval

_MAX_BODY_BYTES = 4 * 2**20
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Request = starlette.requests.Request


class _RefusedError(Exception):
  """A request that gets an answer of another status than 200."""

  def __init__(self, status: int, detail: str):
    super().__init__(detail)
    self.status = status


class SearchServer:
  """An ASGI application; `app` is what an ASGI server runs.

  Args:
    retriever: the index.
    count: hits of a query that does not say how many.
    max_count: hits of a query at most.
    max_queries: queries or urls of a request at most.
    max_waiting: queries or urls of all requests that may wait.
    max_batch: queries that are searched together.
    threads: batches that are searched at the same time.
  """

  def __init__(
    self,
    retriever: retrieval.Retriever,
    *,
    count: int = 3,
    max_count: int = 100,
    max_queries: int = 256,
    max_waiting: int = 4096,
    max_batch: int = 64,
    threads: int = 2,
  ):
    self._retriever = retriever
    self._count, self._max_count = count, max_count
    self._max_queries = max_queries
    sizes = {'max_batch': max_batch, 'max_waiting': max_waiting}
    self._batchers = {
      '/retrieve': batcher.Batcher(self._retrieve, threads=threads, **sizes),
      '/access': batcher.Batcher(self._open, threads=threads, **sizes),
    }
    self._requests: collections.Counter[tuple[str, int]] = collections.Counter()
    self._seconds: collections.Counter[str] = collections.Counter()
    self._buckets: collections.Counter[tuple[str, float]] = (
      collections.Counter()
    )
    route = starlette.routing.Route
    self.app = starlette.applications.Starlette(
      routes=[
        route('/retrieve', self._on_retrieve, methods=['POST']),
        route('/access', self._on_access, methods=['POST']),
        route('/health', self._on_health),
        route('/metrics', self._on_metrics),
      ],
      lifespan=self._lifespan,
    )

  @contextlib.asynccontextmanager
  async def _lifespan(self, app: Any) -> AsyncIterator[None]:
    yield
    for one in self._batchers.values():
      await asyncio.to_thread(one.close)

  def _retrieve(
    self, items: list[tuple[str, int]]
  ) -> list[list[retrieval.Scored]]:
    queries, counts = zip(*items, strict=True)
    found = self._retriever.retrieve(queries, max(counts))
    return [hits[:count] for hits, count in zip(found, counts, strict=True)]

  def _open(self, urls: list[str]) -> list[types.Page | None]:
    pages = self._retriever.pages(urls)
    # Wikipedia's old form of a url, which passages of 2018 have.
    others = [url.replace('index.php/', 'index.php?title=') for url in urls]
    if others != urls:
      again = self._retriever.pages(others)
      pages = [a or b for a, b in zip(pages, again, strict=True)]
    return pages

  async def _on_retrieve(self, request: Request) -> Any:
    async def answer(body: dict[str, Any]) -> list:
      queries = self._texts(body, 'queries')
      count, with_scores = body.get('topk'), body.get('return_scores', False)
      if count is None:
        count = self._count
      if type(count) is not int or not 1 <= count <= self._max_count:
        raise _RefusedError(
          422, f'topk must be a whole number from 1 to {self._max_count}'
        )
      if type(with_scores) is not bool:
        raise _RefusedError(422, 'return_scores must be true or false')
      found = await self._batched(
        '/retrieve', [(query, count) for query in queries]
      )
      return [
        [
          {'document': _payload(page), 'score': score}
          if with_scores
          else _payload(page)
          for page, score in hits
        ]
        for hits in found
      ]

    return await self._answered('/retrieve', request, answer)

  async def _on_access(self, request: Request) -> Any:
    async def answer(body: dict[str, Any]) -> list:
      found = await self._batched('/access', self._texts(body, 'urls'))
      return [page and _payload(page) for page in found]

    return await self._answered('/access', request, answer)

  async def _on_health(self, request: Request) -> Any:
    waiting = {name: one.waiting for name, one in self._batchers.items()}
    return starlette.responses.JSONResponse(
      {'status': 'ok', 'waiting': waiting}
    )

  async def _on_metrics(self, request: Request) -> Any:
    return starlette.responses.PlainTextResponse(
      self._metrics(), media_type='text/plain; version=0.0.4'
    )

  async def _answered(
    self,
    route: str,
    request: Request,
    answer: Callable[[dict[str, Any]], Awaitable[list]],
  ) -> Any:
    start = time.perf_counter()
    status, headers = 200, {}
    try:
      content = {'result': await answer(await _body(request))}
    except _RefusedError as error:
      status, content = error.status, {'detail': str(error)}
    except batcher.FullError:
      status, content = 503, {'detail': 'too many requests wait; come again'}
      headers['Retry-After'] = '1'
    except Exception:
      # Its text may hold paths; the log may, an answer may not.
      logging.exception('%s failed', route)
      status, content = 500, {'detail': 'the search failed'}
    seconds = time.perf_counter() - start
    self._requests[route, status] += 1
    self._seconds[route] += seconds
    for bound in _BUCKETS_S:
      self._buckets[route, bound] += seconds <= bound
    return starlette.responses.JSONResponse(content, status, headers)

  async def _batched(self, route: str, items: list) -> list:
    return await asyncio.wrap_future(self._batchers[route].submit(items))

  def _texts(self, body: dict[str, Any], name: str) -> list[str]:
    texts = body.get(name)
    if not isinstance(texts, list) or not all(
      isinstance(text, str) for text in texts
    ):
      raise _RefusedError(422, f'{name} must be a list of texts')
    if len(texts) > self._max_queries:
      raise _RefusedError(422, f'{name} has more than {self._max_queries}')
    return texts

  def _metrics(self) -> str:
    lines = ['# TYPE wideseek_search_requests_total counter']
    for (route, status), count in sorted(self._requests.items()):
      labels = f'{{route="{route}",status="{status}"}}'
      lines.append(f'wideseek_search_requests_total{labels} {count}')
    lines.append('# TYPE wideseek_search_waiting gauge')
    for route, one in self._batchers.items():
      lines.append(f'wideseek_search_waiting{{route="{route}"}} {one.waiting}')
    name = 'wideseek_search_seconds'
    lines.append(f'# TYPE {name} histogram')
    for route in self._batchers:
      total = sum(n for (r, _), n in self._requests.items() if r == route)
      for bound in _BUCKETS_S:
        count = self._buckets[route, bound]
        lines.append(f'{name}_bucket{{route="{route}",le="{bound}"}} {count}')
      lines.append(f'{name}_bucket{{route="{route}",le="+Inf"}} {total}')
      seconds = float(self._seconds[route])
      lines.append(f'{name}_sum{{route="{route}"}} {seconds:.6f}')
      lines.append(f'{name}_count{{route="{route}"}} {total}')
    return '\n'.join(lines) + '\n'


def serve(search_server: SearchServer, listener: socket.socket) -> None:
  """Serves until SIGTERM or SIGINT, then answers what is under way.

  To be called from the main thread.

  Args:
    search_server: what to serve.
    listener: a bound socket that listens.
  """
  running = make_uvicorn(search_server)

  def stop(*_: Any) -> None:
    running.should_exit = True

  # For a signal before uvicorn listens to them, and since it repeats the one
  # that ended it: to have ended is enough here.
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
  running.run(sockets=[listener])


def make_uvicorn(search_server: SearchServer) -> uvicorn.Server:
  """The ASGI server, for those who run it in a thread of theirs."""
  return uvicorn.Server(
    uvicorn.Config(
      search_server.app,
      log_level='warning',
      access_log=False,
      ws='none',
      timeout_graceful_shutdown=30,
    )
  )


async def _body(request: Request) -> dict[str, Any]:
  body = bytearray()
  async for chunk in request.stream():
    body += chunk
    if len(body) > _MAX_BODY_BYTES:
      raise _RefusedError(413, f'more than {_MAX_BODY_BYTES} bytes')
  try:
    found = json.loads(bytes(body))
  except (ValueError, RecursionError):
    raise _RefusedError(400, 'the body is no JSON') from None
  if not isinstance(found, dict):
    raise _RefusedError(422, 'the body is no JSON object')
  return found


def _payload(page: types.Page) -> dict[str, str]:
  return {'url': page.url, 'title': page.title, 'contents': page.contents}
