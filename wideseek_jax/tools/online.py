"""The tools of an online run: a search service and the pages of the web.

Searches go to Serper or what speaks like it, pages are read by Jina's reader or
what speaks like it, or directly. Whatever comes is data: bounded in size and
time, and kept in a cache that many processes share. A failure is never kept.

Nothing private can be opened. Pages that are read directly come from addresses
that were checked when connecting; the url of a page that a service reads is
checked before it is told.
"""

import concurrent.futures
import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from wideseek_jax import cache as cache_lib
from wideseek_jax import keys, types
from wideseek_jax.tools import addresses, extract, web

_MAX_QUERY_CHARS = 2000
_MAX_HITS = 100
_MAX_REDIRECTS = 5
_DAY_S = 86400.0
# Jina's head of a page, before its text.
_JINA_BODY = 'Markdown Content:\n'
_JINA_TITLE = re.compile(r'^Title: (.*)$', re.MULTILINE)
_JINA_FAILURE = re.compile(
  r'^Warning: Target URL returned error (\d+)', re.MULTILINE
)
_GONE = (404, 410)


class OnlineTools:
  """`types.Tools` over the web; close it after use.

  Args:
    search_url: of a Serper-compatible service.
    search_key_env: the environment variable that holds its key.
    reader_url: of a Jina-compatible service, such as https://r.jina.ai/; ''
      reads pages directly.
    reader_key_env: the environment variable that holds its key; it may need
      none.
    seconds: deadline of a call, retries included.
    retries: further tries of what may pass.
    concurrency: requests in flight, of searches and pages each.
    per_second: searches and pages that begin in a second each; 0: no limit.
    max_bytes: of a page or answer, unpacked.
    max_chars: of a page's text.
    cache: file of what came, '' for none.
    max_days: after which it is asked for again; 0 for never.
    allowed: networks such as '10.1.0.0/16' that pages may be read from though
      they are private.
    resolve: (host, port) -> addresses; for tests.

  Raises:
    ValueError: there is no key for the search, or an argument has no meaning.
    OSError: the cache cannot be used.
  """

  def __init__(
    self,
    *,
    search_url: str = 'https://google.serper.dev/search',
    search_key_env: str = 'SERPER_API_KEY',
    reader_url: str = '',
    reader_key_env: str = 'JINA_API_KEY',
    seconds: float = 60.0,
    retries: int = 2,
    concurrency: int = 20,
    per_second: float = 10.0,
    max_bytes: int = 4 * 2**20,
    max_chars: int = 200_000,
    cache: str = 'runs/web.sqlite',
    max_days: float = 30.0,
    allowed: Sequence[str] = (),
    resolve: addresses.Resolve | None = None,
  ):
    self._search_url, self._reader_url = search_url, reader_url
    self._search_key = keys.read(search_key_env)
    self._reader_key = keys.read(reader_key_env) if reader_url else ''
    if not self._search_key:
      raise ValueError(f'online search needs a key: export {search_key_env}=…')
    self._seconds, self._max_chars = seconds, max_chars
    self._cache = cache and cache_lib.TextCache(
      cache,
      'config.tools.online.cache',
      max_age=max_days * _DAY_S,
      patience=min(seconds, 5.0),
    )
    limits = {
      'seconds': seconds,
      'retries': retries,
      'concurrency': concurrency,
      'per_second': per_second,
      'max_bytes': max_bytes,
    }
    # The services are whom the user names; pages are whom anyone names.
    self._services = web.Web(**limits)
    self._pages = web.Web(
      public_only=True, allowed=allowed, resolve=resolve, **limits
    )
    self._lock = threading.Lock()
    self._flights: dict[str, concurrent.futures.Future] = {}

  def close(self) -> None:
    """Ends what is in flight and closes the cache."""
    self._services.close()
    self._pages.close()
    if self._cache:
      self._cache.close()

  def search(self, query: str, count: int) -> list[types.Hit]:
    """The best `count` hits for the query, best first.

    Raises:
      web.WebError: the service did not answer, or with nonsense.
    """
    count = min(count, _MAX_HITS)
    if count < 1:
      return []
    query = query[:_MAX_QUERY_CHARS]
    found = self._kept(
      ['search', self._search_url, query, count],
      lambda: self._search(query, count),
    )
    return [types.Hit(*hit) for hit in found]

  def access(self, url: str, info: str = '') -> types.Page | None:
    """The page at this url, None if the web has none there.

    Raises:
      web.WebError: it cannot be had, or must not.
    """
    url = url.partition('#')[0]
    read = self._ask_reader if self._reader_url else self._read
    try:
      found = self._kept(['page', self._reader_url, url], lambda: read(url))
    except web.WebError as error:
      if error.status in _GONE:
        return None
      raise
    return types.Page(*found)

  def _search(self, query: str, count: int) -> list[list[str]]:
    answer = self._services.fetch(
      'POST',
      self._search_url,
      headers={'X-API-KEY': self._search_key},
      body={'q': query, 'num': count},
    )
    try:
      found = json.loads(self._text(answer, self._search_key))
      hits = found.get('organic', [] if 'searchParameters' in found else None)
      return [
        [hit['link'], str(hit.get('title', '')), str(hit.get('snippet', ''))]
        for hit in hits[:count]
        if isinstance(hit['link'], str)
      ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
      raise web.WebError('the search service answered nonsense') from None

  def _ask_reader(self, url: str) -> list[str]:
    # A reader inside the own network must not be led to its neighbours.
    self._pages.check(url)
    headers = {'Accept': 'text/plain'}
    if self._reader_key:
      headers['Authorization'] = f'Bearer {self._reader_key}'
    answer = self._services.fetch(
      'GET', self._reader_url + url, headers=headers
    )
    text = self._text(answer, self._reader_key)
    head, mark, body = text.partition(_JINA_BODY)
    if not mark:
      head, body = '', text
    failure = _JINA_FAILURE.search(head)
    if failure:
      status = int(failure[1][:3])
      raise web.WebError(f'the page has status {status}', status=status)
    if not body.strip():
      raise web.WebError('the page has no text')
    title = _JINA_TITLE.search(head)
    return self._page(url, title[1] if title else '', body)

  def _read(self, url: str) -> list[str]:
    start = time.monotonic()
    answer = self._pages.fetch(
      'GET', url, redirects=_MAX_REDIRECTS, accept=extract.is_readable
    )
    left = self._seconds - (time.monotonic() - start)
    return self._page(url, *_within(left, lambda: extract.read(answer)))

  def _page(self, url: str, title: str, text: str) -> list[str]:
    return [url, title.strip(), text.strip()[: self._max_chars]]

  def _text(self, answer: web.Answer, key: str) -> str:
    text = answer.body.decode('utf-8', 'replace')
    # Servers like to repeat what they were sent.
    return text.replace(key, '***') if key else text

  def _kept(self, asked: list, fetch: Callable[[], list]) -> list:
    """What was asked for before, is being asked for now, or is fetched."""
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    kept = self._cached(lambda cache: cache.get(key))
    if kept is not None:
      return json.loads(kept)
    with self._lock:
      flight = self._flights.get(key)
      if mine := flight is None:
        flight = self._flights[key] = concurrent.futures.Future()
    if mine:
      try:
        found = fetch()
        self._cached(lambda cache: cache.put(key, json.dumps(found)))
        flight.set_result(found)
      except BaseException as error:
        flight.set_exception(error)
      finally:
        with self._lock:
          del self._flights[key]
    return flight.result()

  def _cached(self, use: Callable[[cache_lib.TextCache], Any]) -> Any:
    try:
      return use(self._cache) if self._cache else None
    except OSError as error:  # It saves money; a run goes on without it.
      logging.warning('%s', error)
      return None


def _within(seconds: float, function: Callable[[], Any]) -> Any:
  """What the function returns; it is left behind when its time is over."""
  future: concurrent.futures.Future = concurrent.futures.Future()

  def work() -> None:
    try:
      future.set_result(function())
    except Exception as error:
      future.set_exception(error)

  threading.Thread(target=work, daemon=True).start()
  try:
    return future.result(timeout=max(seconds, 0.0))
  except TimeoutError:
    raise web.WebError('the page takes too long to be read') from None
