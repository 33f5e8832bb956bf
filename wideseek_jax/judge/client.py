"""A judge behind any endpoint that speaks OpenAI's chat completions.

In come prompts from any thread; out go replies at temperature 0. A reply is
paid for once: what was asked before is on disk, and what is being asked by one
caller is waited for by the others. What helps against a passing fault (patience
and another try) is done here; what is left is one error, JudgeUnavailable.

All requests live on one event loop in a thread of its own: only there can a
deadline end a request in whatever state it is.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence

import httpx

from wideseek_jax import cache as cache_lib
from wideseek_jax import event_loop, keys, types
from wideseek_jax.judge import completions, meter

# These may pass, as may a server's fault (5xx): a timeout, too many requests.
_TRANSIENT = frozenset({408, 429})
_TOO_MANY = 429
# What any judge answers; tells a refused prompt from a dead judge.
_HARMLESS = 'Reply with the word yes.'
_MOST_BYTES = 8 * 2**20
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


class _FailedError(Exception):
  """A try that failed; the message says how.

  Attributes:
    passing: another try may help.
    of_prompt: the prompt may be to blame.
    wait: seconds until another try, as the server asks.
  """

  def __init__(
    self,
    message: str,
    *,
    passing: bool = True,
    of_prompt: bool = True,
    wait: float = 0.0,
  ):
    super().__init__(message)
    self.passing, self.of_prompt, self.wait = passing, of_prompt, wait


class HttpJudge:
  """A `types.Judge` that is asked over HTTP; close it after use.

  A prompt that fails for good, in an answer other than 429, where a harmless
  one passes is refused: it gets the empty reply, which is not kept. A client
  that raised JudgeUnavailable raises it ever after.

  Args:
    base_url: of the endpoint, such as http://localhost:30000/v1.
    model: its name there.
    api_key_env: the environment variable that holds the key; an endpoint
      without a key needs none.
    max_tokens: most tokens of a reply.
    concurrency: requests in flight.
    connect_timeout: seconds until a connection stands.
    read_timeout: seconds without a byte.
    total_timeout: seconds of one try in all.
    retries: further tries after a dropped connection, a timeout, 429 (after
      the time that it asks for, a minute at most), 5xx or an answer that is no
      chat completion; the wait doubles from a second to a minute.
    max_calls: the budget of this client in requests; 0 for no limit.
    max_total_tokens: its budget in tokens; 0 for no limit. Requests that are
      in flight when it is spent are paid for still.
    cache: file of the replies, '' for none.
    jitter: a factor of each wait, drawn from [0, 1).
    sleep: waits for seconds.

  Raises:
    ValueError: an argument without meaning.
    types.JudgeUnavailable: the cache cannot be used.
  """

  def __init__(
    self,
    *,
    base_url: str,
    model: str,
    api_key_env: str = 'WIDESEEK_JUDGE_KEY',
    max_tokens: int = 2048,
    concurrency: int = 64,
    connect_timeout: float = 10.0,
    read_timeout: float = 120.0,
    total_timeout: float = 300.0,
    retries: int = 6,
    max_calls: int = 0,
    max_total_tokens: int = 0,
    cache: str = '',
    jitter: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
  ):
    if not base_url.startswith(('http://', 'https://')):
      raise ValueError(
        f'judge.base_url must be an endpoint such as '
        f'http://localhost:30000/v1, not {base_url!r}'
      )
    if not model:
      raise ValueError('judge.model must name a model of the endpoint')
    if concurrency < 1 or retries < 0 or max_tokens < 1:
      raise ValueError(
        'judge.concurrency and judge.max_tokens must be at least 1, '
        'judge.retries at least 0'
      )
    try:
      self._url = httpx.URL(base_url.rstrip('/') + '/chat/completions')
    except httpx.InvalidURL as error:
      raise ValueError(f'judge.base_url {base_url!r}: {error}') from None
    self._key = keys.read(api_key_env)
    self._model, self._max_tokens = model, max_tokens
    self._total_timeout, self._retries = total_timeout, retries
    self._jitter, self._sleep = jitter, sleep
    self._meter = meter.Meter(max_calls, max_total_tokens)
    self._dead = ''
    self._flights: dict[str, asyncio.Task[str]] = {}
    self._cache = (
      cache_lib.TextCache(cache, 'config.judge.cache', types.JudgeUnavailable)
      if cache
      else None
    )
    self._room = asyncio.Semaphore(concurrency)
    # Compressed replies are not asked for, since a small one may unpack to
    # any size. The pool has no limit of its own: httpcore 1.0 loses places of
    # a full one when requests are cancelled.
    headers = {'Accept-Encoding': 'identity'}
    if self._key:
      headers['Authorization'] = f'Bearer {self._key}'
    self._http = httpx.AsyncClient(
      headers=headers,
      timeout=httpx.Timeout(read_timeout, connect=connect_timeout),
      limits=httpx.Limits(
        max_connections=None, max_keepalive_connections=concurrency
      ),
    )
    self._loop = event_loop.LoopThread('judge')

  def __call__(self, prompts: Sequence[str]) -> list[str]:
    """Asks all prompts; see `types.Judge`."""
    if self._loop.closed:
      raise types.JudgeUnavailable(self._dead)
    return self._loop.run(self._ask(prompts))

  def stats(self) -> meter.JudgeStats:
    """What the client did so far."""
    return self._meter.stats

  def close(self) -> None:
    """Ends what is in flight and closes connections and cache."""
    self._loop.close(self._shut())
    if self._cache:
      self._cache.close()

  async def _shut(self) -> None:
    self._dead = 'this client is closed'
    for flight in self._flights.values():
      flight.cancel()
    # Those who wait for a flight must hear of its end.
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await self._http.aclose()

  async def _ask(self, prompts: Sequence[str]) -> list[str]:
    try:
      return await asyncio.gather(*(self._flight(p) for p in prompts))
    except asyncio.CancelledError:  # Another request found the judge dead.
      raise types.JudgeUnavailable(self._dead) from None

  def _flight(self, prompt: str) -> asyncio.Task[str]:
    """The request of a prompt, the one that is under way if there is one."""
    body = self._request(prompt)
    key = hashlib.sha256(body).hexdigest()
    if key not in self._flights:
      flight = asyncio.create_task(self._reply(key, body))
      self._flights[key] = flight
      flight.add_done_callback(lambda _: self._flights.pop(key))
    return self._flights[key]

  def _request(self, prompt: str) -> bytes:
    return completions.request(prompt, self._model, self._max_tokens)

  async def _reply(self, key: str, body: bytes) -> str:
    if self._dead:
      raise types.JudgeUnavailable(self._dead)
    try:
      reply = self._cache and self._cache.get(key)
      if reply is not None:
        self._meter.add(cached=1)
        return reply
      async with self._room:
        reply = await self._persist(body)
      if reply is None:
        return ''
      if self._cache:
        self._cache.put(key, reply)
      return reply
    except types.JudgeUnavailable as error:
      self._dead = str(error)
      for flight in self._flights.values():
        if flight is not asyncio.current_task():
          flight.cancel()
      raise

  async def _persist(self, body: bytes) -> str | None:
    """Tries until there is a reply; None if the prompt is refused."""
    failure = _FailedError('')
    for attempt in range(self._retries + 1):
      if attempt:
        wait = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S)
        # At least half of it, so that a crowd parts and a server rests.
        wait *= (1 + self._jitter()) / 2
        await self._sleep(min(max(wait, failure.wait), _LONGEST_WAIT_S))
        self._meter.add(retries=1)
      try:
        return await self._try(body)
      except _FailedError as error:
        failure = error
      if not failure.passing:
        break
    if failure.of_prompt and await self._is_alive():
      self._meter.add(refused=1)
      return None
    raise self._unavailable(f'{failure} ({attempt + 1} times)')

  async def _is_alive(self) -> bool:
    try:
      await self._try(self._request(_HARMLESS))
    except _FailedError:
      return False
    return True

  async def _try(self, body: bytes) -> str:
    self._meter.check()
    self._meter.add(calls=1)
    try:
      async with asyncio.timeout(self._total_timeout):
        status, headers, answer = await self._post(body)
    except TimeoutError:
      message = f'no answer in {self._total_timeout:g} s'
      raise _FailedError(message, of_prompt=False) from None
    except (httpx.HTTPError, OSError) as error:
      message = f'the connection failed, {type(error).__name__}'
      raise _FailedError(message, of_prompt=False) from error
    if status != 200:
      raise _FailedError(
        f'status {status}, {answer.decode("utf-8", "replace")}',
        passing=status in _TRANSIENT or status >= 500,
        of_prompt=status != _TOO_MANY,
        wait=completions.retry_after(headers.get('retry-after', '')),
      )
    try:
      reply, tokens = completions.read(answer)
    except ValueError as error:
      raise _FailedError(str(error)) from None
    if tokens is None:  # About four characters each.
      tokens = (len(body) + len(reply)) // 4
    self._meter.add(tokens=tokens)
    return reply

  async def _post(self, body: bytes) -> tuple[int, httpx.Headers, bytes]:
    async with self._http.stream(
      'POST',
      self._url,
      content=body,
      headers={'Content-Type': 'application/json'},
    ) as response:
      answer = bytearray()
      async for chunk in response.aiter_raw():
        answer += chunk
        if len(answer) > _MOST_BYTES:
          raise _FailedError(f'the answer is longer than {_MOST_BYTES} bytes')
      return response.status_code, response.headers, bytes(answer)

  def _unavailable(self, reason: str) -> types.JudgeUnavailable:
    if self._key:
      # Servers like to repeat a key that they do not know.
      reason = reason.replace(self._key, '***')
    reason = ' '.join(reason[:400].split())
    where = f'{self._url.host}:{self._url.port or self._url.scheme}'
    return types.JudgeUnavailable(
      f'the judge {self._model} at {where} is not available: {reason}'
    )
