"""HTTP to servers that may do anything, within a time and a size.

In come requests from any thread, out go whole answers or one short `WebError`
that an agent can read. A call ends at its deadline whatever the server does;
what another try can mend is tried again within the same deadline.

All requests live on one event loop in a thread of its own: only there can a
deadline end a request in whatever state it is.
"""

import asyncio
import contextlib
import dataclasses
import functools
import ipaddress
import itertools
import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import cookiejar
from typing import Any

import httpcore
import httpx

from wideseek_jax import event_loop
from wideseek_jax.tools import addresses

# These may pass: a timeout, too many requests, a server's fault.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_CONNECT_S = 10.0


class WebError(Exception):
  """An answer that did not come; the message says why, in a line.

  Attributes:
    status: of the answer, 0 if none came.
    passing: another try may help.
    wait: seconds until another try, as the server asks.
  """

  def __init__(
    self,
    message: str,
    *,
    status: int = 0,
    passing: bool = False,
    wait: float = 0.0,
  ):
    super().__init__(message)
    self.status, self.passing, self.wait = status, passing, wait


@dataclasses.dataclass(frozen=True)
class Answer:
  """A whole answer with a status below 400.

  Attributes:
    url: where it came from, after redirects.
    content_type: of the body, without parameters, in lower case.
    charset: what the server calls the body's encoding, '' if it says nothing.
    body: unpacked.
  """

  url: str
  content_type: str
  charset: str
  body: bytes


class Web:
  """A client for many threads; close it after use.

  Proxies of the environment are not used: they would resolve names themselves.
  Cookies are not kept.

  Args:
    seconds: deadline of a call, waiting and retries included.
    retries: further tries after a dropped connection or a status that passes.
    concurrency: requests in flight.
    per_second: requests that begin in a second; 0 for no limit.
    max_bytes: of an answer, unpacked.
    public_only: refuse hosts that are not on the public internet, but for
      those of the networks in `allowed`. An address that was checked is the
      one that is connected to, on every hop.
    allowed: such as '10.1.0.0/16'.
    resolve: (host, port) -> addresses; the system's resolver by default.
    jitter: a factor of each wait, drawn from [0, 1).
  """

  def __init__(
    self,
    *,
    seconds: float,
    retries: int,
    concurrency: int,
    per_second: float = 0.0,
    max_bytes: int = 4 * 2**20,
    public_only: bool = False,
    allowed: Sequence[str] = (),
    resolve: addresses.Resolve | None = None,
    jitter: Callable[[], float] = random.random,
  ):
    if seconds <= 0 or retries < 0 or concurrency < 1 or max_bytes < 1:
      raise ValueError(
        'seconds, concurrency and max_bytes of a web client must be above 0, '
        'retries at least 0'
      )
    self._seconds, self._retries = seconds, retries
    self._per_second, self._max_bytes = per_second, max_bytes
    self._jitter = jitter
    self._room = asyncio.Semaphore(concurrency)
    self._next = 0.0
    context = httpx.create_ssl_context(trust_env=False)
    # A pool without a limit: httpcore 1.0 loses places of a full one when
    # requests are cancelled.
    transport = httpx.AsyncHTTPTransport(
      verify=context,
      trust_env=False,
      limits=httpx.Limits(
        max_connections=None, max_keepalive_connections=concurrency
      ),
    )
    self._resolve = resolve or functools.partial(
      addresses.resolve, allowed=[ipaddress.ip_network(n) for n in allowed]
    )
    if public_only:
      # httpx has no other place for a network of one's own.
      transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=context,
        max_connections=None,
        max_keepalive_connections=concurrency,
        keepalive_expiry=5.0,
        http2=True,
        network_backend=addresses.CheckedNetwork(self._resolve),
      )
    self._http = httpx.AsyncClient(
      transport=transport,
      # The deadline of a call bounds the rest.
      timeout=httpx.Timeout(None, connect=min(seconds, _CONNECT_S)),
      headers={
        'User-Agent': 'Mozilla/5.0 (compatible; wideseek_jax)',
        'Accept-Encoding': 'gzip',
      },
      cookies=cookiejar.CookieJar(
        cookiejar.DefaultCookiePolicy(allowed_domains=[])
      ),
      trust_env=False,
    )
    self._loop = event_loop.LoopThread('web')

  def fetch(
    self,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    redirects: int = 0,
    accept: Callable[[str], bool] = lambda content_type: True,
  ) -> Answer:
    """One answer, whatever it takes within the deadline.

    Args:
      method: 'GET' or 'POST'.
      url: http or https.
      headers: further ones; they, a body and redirects exclude each other.
      body: sent as JSON; None for none.
      redirects: how many to follow.
      accept: whether the body of a content type is to be read.

    Raises:
      WebError: no answer, one that is too large, or a status of 400 or more.
    """
    if redirects and (headers or body):
      raise ValueError('what is sent must not follow a redirect elsewhere')
    headers = dict(headers or {})
    content = b''
    if body is not None:
      # httpx would not escape what is no UTF-8, such as lone surrogates.
      content = json.dumps(body).encode()
      headers['Content-Type'] = 'application/json'
    return self._loop.run(
      self._bounded(method, url, headers, content, redirects, accept)
    )

  def check(self, url: str) -> None:
    """Raises WebError unless this url may be opened, without opening it."""
    self._loop.run(self._check(url))

  def close(self) -> None:
    """Ends what is in flight."""
    self._loop.close(self._end())

  async def _end(self) -> None:
    await event_loop.cancel_others()
    await self._http.aclose()

  async def _check(self, url: str) -> None:
    try:
      async with asyncio.timeout(self._seconds):
        with _explained():
          target = _target(httpx.URL(url))
          await self._resolve(target.host, target.port or 443)
    except TimeoutError:
      raise self._late() from None

  def _late(self) -> WebError:
    return WebError(f'no answer within {self._seconds:g} s')

  async def _bounded(self, method: str, url: str, *rest: Any) -> Answer:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + self._seconds
    try:
      async with asyncio.timeout_at(deadline):
        for attempt in itertools.count():
          try:
            async with self._room:
              await self._pace()
              return await self._follow(method, url, *rest)
          except WebError as error:
            wait = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
            wait = max(wait * (1 + self._jitter()) / 2, error.wait)
            late = loop.time() + wait >= deadline
            if not error.passing or attempt >= self._retries or late:
              raise
          await asyncio.sleep(wait)
    except TimeoutError:
      raise self._late() from None

  async def _pace(self) -> None:
    if self._per_second:
      now = asyncio.get_running_loop().time()
      start = max(self._next, now)
      self._next = start + 1 / self._per_second
      await asyncio.sleep(start - now)

  async def _follow(
    self,
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    redirects: int,
    accept: Callable[[str], bool],
  ) -> Answer:
    with _explained():
      target = httpx.URL(url)
      for _ in range(redirects + 1):
        async with self._http.stream(
          method, _target(target), headers=headers, content=content
        ) as response:
          if response.status_code in _REDIRECTS and redirects:
            target = target.join(response.headers.get('location', ''))
          else:
            return await self._read(target, response, accept)
    raise WebError(f'more than {redirects} redirects')

  async def _read(
    self,
    url: httpx.URL,
    response: httpx.Response,
    accept: Callable[[str], bool],
  ) -> Answer:
    status = response.status_code
    if status >= 300:
      wait = response.headers.get('retry-after', '')
      raise WebError(
        f'the server answered with status {status}',
        status=status,
        passing=status in _PASSING,
        wait=float(wait) if wait.isdecimal() and len(wait) < 9 else 0.0,
      )
    kind = response.headers.get('content-type', '')
    kind = kind.partition(';')[0].strip().lower()
    if not accept(kind):
      raise WebError(f'a page of type {kind[:50]} cannot be read')
    return Answer(
      str(url),
      kind,
      response.charset_encoding or '',
      await self._body(response),
    )

  async def _body(self, response: httpx.Response) -> bytes:
    large = WebError(f'the answer is larger than {self._max_bytes:,} bytes')
    length = response.headers.get('content-length', '')
    if length.isdecimal() and int(length[:15]) > self._max_bytes:
      raise large
    packing = response.headers.get('content-encoding', 'identity').lower()
    if packing not in ('identity', 'gzip', 'deflate'):
      raise WebError('the answer is packed in an unknown way')
    # Either of gzip and zlib. What a small answer unpacks to has no bound of
    # its own, so no more is unpacked than may be kept.
    unpack = None if packing == 'identity' else zlib.decompressobj(47)
    body = bytearray()
    async for chunk in response.aiter_raw():
      if unpack:
        try:
          chunk = unpack.decompress(chunk, self._max_bytes + 1 - len(body))
        except zlib.error:
          raise WebError('the answer is packed wrongly') from None
      body += chunk
      if len(body) > self._max_bytes:
        raise large
    if unpack and not unpack.eof:
      raise WebError('the answer breaks off', passing=True)
    return bytes(body)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
  try:
    yield
  except WebError:
    raise
  except (httpx.InvalidURL, UnicodeError):
    raise WebError('that is no url') from None
  except addresses.RefusedError as error:
    raise WebError(str(error)) from None
  except Exception as error:  # What a server sends can break any library.
    raise WebError(
      f'the connection failed ({type(error).__name__})', passing=True
    ) from None


def _target(url: httpx.URL) -> httpx.URL:
  """The url, if it may be asked for at all."""
  if url.scheme not in ('http', 'https') or not url.host:
    raise WebError('only http and https pages can be read')
  if url.userinfo:
    raise WebError('a url with a password in it is not opened')
  return url
