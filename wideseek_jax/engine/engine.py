"""The rollout engine: sequences in, sampled turns out.

Agents open sequences, submit tokens and get a turn back; each sequence reads
only its own page table. A step computes the keys of submitted tokens (several
sequences a call, each distinct token once), then samples one chunk for the
oldest turns that fit. Nothing here knows of text, tools or roles; the contract
is `types.Engine`.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from wideseek_jax import sharding, types
from wideseek_jax.engine import attention, decode, pages, sampling
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

# Stop tokens of a turn; more would be another compilation.
MAX_STOP_IDS = 8


@dataclasses.dataclass(frozen=True)
class Stats:
  """What the engine did since `reset_stats`.

  Attributes:
    prefill_tokens: submitted tokens whose keys were computed, the recomputed
      ones included.
    decode_tokens: tokens sampled.
    shared_tokens: submitted tokens whose keys were found, not computed.
    recomputed_tokens: tokens computed again after a preemption.
    preemptions: sequences that lost their pages to another.
    compile_count: compilations since the engine was made.
    prefill_seconds: wall time of computing keys.
    decode_seconds: wall time of sampling.
  """

  prefill_tokens: int = 0
  decode_tokens: int = 0
  shared_tokens: int = 0
  recomputed_tokens: int = 0
  preemptions: int = 0
  compile_count: int = 0
  prefill_seconds: float = 0.0
  decode_seconds: float = 0.0


@dataclasses.dataclass
class _Turn:
  sampling: types.Sampling
  key_2: np.ndarray
  token_ids: list[int] = dataclasses.field(default_factory=list)
  logprobs: list[float] = dataclasses.field(default_factory=list)


class _Sequence:
  """Tokens and pages of one agent. The last token's keys are always pending:
  they are computed when a turn needs its logits."""

  def __init__(self, handle: int, pool: pages.PagePool, max_context: int):
    self.handle = handle
    self.table = pages.PageTable(pool)
    self.buffer = np.zeros(max_context, np.int32)
    self.count = 0
    self.computed = 0  # most tokens whose keys it ever held
    self.turn: _Turn | None = None

  @property
  def tokens(self) -> np.ndarray:
    return self.buffer[: self.count]

  @property
  def to_read(self) -> int:
    return self.count - 1 - self.table.length

  def append(self, token_ids: np.ndarray) -> None:
    self.buffer[self.count : self.count + len(token_ids)] = token_ids
    self.count += len(token_ids)


def _buckets(page_size: int, max_context: int) -> tuple[int, ...]:
  """Context lengths to compile for: 128 · {1, 2, 3, 4, 6, 8, 12 …}."""
  sizes, size = {max_context}, 128
  while size < max_context:
    sizes |= {size, size + size // 2} if size > 128 else {size}
    size *= 2
  pages_needed = {-(-min(s, max_context) // page_size) for s in sizes}
  return tuple(sorted(n * page_size for n in pages_needed))


class Engine:
  """Samples turns of many sequences with one paged cache (types.Engine).

  A request's tokens depend on its sequence, its sampling and its key, not on
  the rows beside it. The last token of a turn is read at the start of the
  sequence's next turn, with the tokens submitted then.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    params: transformer.Params,
    mesh: jax.sharding.Mesh | None = None,
    *,
    num_rows: int = 64,
    num_pages: int = 2048,
    page_size: int = 32,
    max_context: int = 1024,
    chunk_len: int = 32,
    prefill_len: int = 128,
    prefill_rows: int = 8,
    dtype: jnp.dtype = jnp.float32,
  ):
    """Makes an engine with an empty cache.

    Args:
      config: the model's shape.
      params: the policy; see `set_params`.
      mesh: where to decode; the first local device if None.
      num_rows: turns that sample at the same time.
      num_pages: pages of the cache.
      page_size: tokens a page.
      max_context: most tokens a sequence holds.
      chunk_len: tokens that a turn samples in one step.
      prefill_len: tokens that a sequence reads in one call; a multiple of
        page_size.
      prefill_rows: sequences that read in one call.
      dtype: type of weights, activations and cache.

    Raises:
      ValueError: num_pages cannot hold one sequence of max_context, or a size
        does not fit another.
    """
    if num_pages * page_size < max_context:
      raise ValueError(
        f'{num_pages} pages of {page_size} tokens cannot hold one sequence of '
        f'max_context={max_context}'
      )
    if prefill_len % page_size:
      raise ValueError(
        f'prefill_len={prefill_len} is no multiple of page_size={page_size}'
      )
    self.config = config
    self.max_context = max_context
    self._mesh = mesh or sharding.make_mesh((1, 1, 1), jax.local_devices()[:1])
    self._num_rows = num_rows
    self._num_pages = num_pages
    self._page_size = page_size
    self._chunk_len = chunk_len
    self._dtype = dtype
    self._contexts = _buckets(page_size, max_context)
    # The last agents of a task sample nearly alone: a second, small batch.
    self._row_buckets = tuple(sorted({num_rows // 8 or num_rows, num_rows}))
    self._read_lens = tuple(sorted({page_size, prefill_len}))
    self._prefill_rows = min(prefill_rows, num_rows)
    self._replicated = sharding.named_sharding(self._mesh, (), (), {})
    self._next_handle = 0
    self._stale_below = 0
    self._compile_count = 0
    self._pages = self._empty_pages()
    self.reset_stats()
    self.set_params(params)

  @property
  def compile_count(self) -> int:
    """Compilations since the engine was made."""
    return self._compile_count

  def set_params(self, params: transformer.Params) -> None:
    """Takes new weights and closes every sequence: their keys are stale.

    Args:
      params: as from `transformer.init_params`, any float type and sharding.
    """
    axes = transformer.logical_axes(self.config)
    target = sharding.param_shardings(
      self._mesh, params, axes, sharding.DECODE_TABLE
    )
    params = jax.tree.map(lambda x: jnp.asarray(x, self._dtype), params)
    # A copy: the training step may donate what it handed over.
    self._params = jax.device_put(params, target, may_alias=False)
    self._pool = pages.PagePool(self._num_pages, self._page_size)
    self._sequences: dict[int, _Sequence] = {}
    self._active: dict[int, _Sequence] = {}
    self._refused: list[int] = []
    self._stale_below = self._next_handle

  def open(self) -> int:
    """Starts an empty sequence; returns its handle, never used again."""
    handle = self._next_handle
    self._next_handle += 1
    self._sequences[handle] = _Sequence(handle, self._pool, self.max_context)
    return handle

  def submit(
    self,
    sequence: int,
    token_ids: np.ndarray,
    sampling: types.Sampling,
    key: tuple[int, ...],
  ) -> None:
    """Appends tokens and asks for one turn (`types.Engine.submit`).

    Tokens that leave no room for one more are not appended: the next step
    returns a turn without tokens, finish_reason 'context'.

    Raises:
      ValueError: no such sequence, one that is still sampling, no tokens, ids
        outside of the vocabulary, or sampling values without meaning.
    """
    state = self._lookup(sequence)
    if state.turn is not None:
      raise ValueError(f'sequence {sequence} still samples its last turn')
    token_ids = np.asarray(token_ids)
    if token_ids.ndim != 1 or not len(token_ids):
      raise ValueError(f'token_ids of shape {token_ids.shape}, not [n ≥ 1]')
    if token_ids.min() < 0 or token_ids.max() >= self.config.vocab_size:
      raise ValueError(
        f'token ids from {token_ids.min()} to {token_ids.max()} for a '
        f'vocabulary of {self.config.vocab_size}'
      )
    _check_sampling(sampling)
    state.turn = _Turn(sampling, _address_key(key))
    if state.count + len(token_ids) >= self.max_context:
      self._refused.append(sequence)
      return
    state.append(token_ids.astype(np.int32))
    self._active[sequence] = state

  def step(self) -> list[tuple[int, types.Generation]]:
    """Reads what was submitted, samples one chunk; returns turns that ended."""
    ended = []
    for handle in self._refused:
      state = self._sequences[handle]
      ended.append((handle, _end_turn(state, 'context')))
    self._refused = []
    # In the order in which turns were submitted: the oldest is never held up
    # by a younger one, so every turn ends.
    serving = list(self._active.values())[: self._num_rows]
    start = time.perf_counter()
    while self._read_some(serving):
      pass
    jax.block_until_ready(self._pages)
    middle = time.perf_counter()
    ended += self._sample_chunk(serving)
    self._add(
      prefill_seconds=middle - start,
      decode_seconds=time.perf_counter() - middle,
    )
    return ended

  def close(self, sequence: int) -> None:
    """Frees the sequence; a turn that it still samples is dropped.

    Raises:
      ValueError: no such sequence.
    """
    state = self._lookup(sequence)
    state.table.clear()
    del self._sequences[sequence]
    self._active.pop(sequence, None)
    if sequence in self._refused:
      self._refused.remove(sequence)

  def stats(self) -> Stats:
    """What the engine did since `reset_stats`."""
    return dataclasses.replace(self._stats, compile_count=self._compile_count)

  def reset_stats(self) -> None:
    """Starts the counts of `stats` again."""
    self._stats = Stats()

  def warm_up(self) -> int:
    """Compiles every shape that a step can meet; returns compile_count."""
    for context in self._contexts:
      for rows in self._row_buckets:
        self._decode(self._decode_rows([], rows, context))
    for context in (0, *self._contexts):
      for read_len in self._read_lens:
        self._prefill(self._prefill_inputs([], read_len, context))
    return self._compile_count

  def _lookup(self, handle: int) -> _Sequence:
    if handle in self._sequences:
      return self._sequences[handle]
    if 0 <= handle < self._stale_below:
      raise ValueError(f'sequence {handle} was closed by set_params')
    if 0 <= handle < self._next_handle:
      raise ValueError(f'sequence {handle} is closed')
    raise ValueError(f'there is no sequence {handle}')

  def _add(self, **more) -> None:
    now = {name: getattr(self._stats, name) + n for name, n in more.items()}
    self._stats = dataclasses.replace(self._stats, **now)

  def _reserve(self, state: _Sequence, end: int) -> bool:
    """Finds pages for tokens up to `end`, at the cost of younger turns."""
    while state.table.missing(end) > self._pool.available:
      victim = self._victim(state)
      if victim is None:
        return False
      # What it leaves can be found again, until somebody needs the pages.
      victim.table.publish(victim.tokens)
      victim.table.clear()
      self._add(preemptions=1)
    state.table.reserve(end)
    return True

  def _victim(self, state: _Sequence) -> _Sequence | None:
    order = list(self._active.values())
    younger = order[order.index(state) + 1 :]
    for other in reversed(younger):
      if other.table.pages or other.table.borrowed:
        return other
    # A waiting agent's pages go last, and only to the oldest turn: any other
    # turn can wait for older ones to end.
    if state is order[0]:
      for other in reversed(self._sequences.values()):
        if other.turn is None and other.table.pages:
          return other
    return None

  def _read_some(self, serving: list[_Sequence]) -> bool:
    """One prefill call; False if there was nothing to do."""
    chosen, begun = [], set()
    longest = 0
    for state in serving:
      if len(chosen) == self._prefill_rows:
        break
      if state.to_read <= 0:
        continue
      shared = state.table.match(state.tokens[:-1])
      self._add(shared_tokens=shared)
      if not state.to_read:
        continue
      # Who is about to compute the same token waits, and finds it then.
      signature = state.table.signature(state.tokens)
      if signature in begun:
        continue
      count = min(state.to_read, self._read_lens[-1])
      if not self._reserve(state, state.table.length + count):
        continue
      begun.add(signature)
      chosen.append((state, count))
      longest = max(longest, count)
    if not chosen:
      return False
    read_len = _bucket(self._read_lens, longest)
    held = max(state.table.length for state, _ in chosen)
    context = _bucket((0, *self._contexts), held)
    self._prefill(self._prefill_inputs(chosen, read_len, context))
    for state, count in chosen:
      first = state.table.length
      state.table.advance(count)
      state.table.publish(state.tokens)
      again = min(count, max(0, state.computed - first))
      state.computed = max(state.computed, first + count)
      self._add(prefill_tokens=count, recomputed_tokens=again)
    return True

  def _prefill_inputs(self, chosen, read_len, context) -> decode.PrefillRows:
    R, page = self._prefill_rows, self._page_size
    rows = decode.PrefillRows(
      read_RN=np.zeros((R, context // page), np.int32),
      write_RW=np.zeros((R, read_len // page + 1), np.int32),
      start_R=np.zeros(R, np.int32),
      tokens_RT=np.zeros((R, read_len), np.int32),
    )
    for row, (state, count) in enumerate(chosen):
      first = state.table.length
      state.table.fill_read(rows.read_RN[row])
      state.table.fill_write(rows.write_RW[row])
      rows.start_R[row] = first
      rows.tokens_RT[row, :count] = state.tokens[first : first + count]
    return rows

  def _prefill(self, rows: decode.PrefillRows) -> None:
    before = decode.num_traces()
    rows = jax.device_put(rows, self._replicated)
    self._pages = decode.prefill(
      self.config, self._mesh, self._params, self._pages, rows
    )
    self._compile_count += decode.num_traces() - before

  def _sample_chunk(self, serving) -> list[tuple[int, types.Generation]]:
    chosen = []
    longest = 0
    for state in serving:
      if state.to_read:
        continue
      left = state.turn.sampling.max_tokens - len(state.turn.token_ids)
      room = self.max_context - state.count
      limit = min(left, room, self._chunk_len)
      if self._reserve(state, state.table.length + limit):
        chosen.append((state, limit))
        longest = max(longest, state.table.length + limit + 1)
    if not chosen:
      return []
    rows = _bucket(self._row_buckets, len(chosen))
    context = _bucket(self._contexts, min(longest, self.max_context))
    sampled = self._decode(self._decode_rows(chosen, rows, context))
    ended = []
    for row, (state, _) in enumerate(chosen):
      count = int(sampled.count_R[row])
      new = sampled.token_RC[row, :count]
      state.append(new)
      state.turn.token_ids.extend(new.tolist())
      state.turn.logprobs.extend(sampled.logprob_RC[row, :count].tolist())
      state.table.advance(count)
      state.computed = max(state.computed, state.table.length)
      self._add(decode_tokens=count)
      reason = None
      if sampled.stopped_R[row]:
        reason = 'stop'
      elif len(state.turn.token_ids) == state.turn.sampling.max_tokens:
        reason = 'length'
      elif state.count == self.max_context:
        reason = 'context'
      if reason is not None:
        state.table.trim()
        del self._active[state.handle]
        ended.append((state.handle, _end_turn(state, reason)))
    return ended

  def _decode_rows(self, chosen, R, context) -> decode.DecodeRows:
    page = self._page_size
    touched = (self._chunk_len - 1) // page + 2
    rows = decode.DecodeRows(
      read_RN=np.zeros((R, context // page), np.int32),
      write_RW=np.zeros((R, touched), np.int32),
      length_R=np.zeros(R, np.int32),
      token_R=np.zeros(R, np.int32),
      limit_R=np.zeros(R, np.int32),
      key_R2=np.zeros((R, 2), np.uint32),
      index_R=np.zeros(R, np.int32),
      temperature_R=np.ones(R, np.float32),
      top_k_R=np.zeros(R, np.int32),
      top_p_R=np.ones(R, np.float32),
      stop_RI=np.full((R, MAX_STOP_IDS), -1, np.int32),
    )
    for row, (state, limit) in enumerate(chosen):
      turn = state.turn
      state.table.fill_read(rows.read_RN[row])
      state.table.fill_write(rows.write_RW[row])
      rows.length_R[row] = state.table.length
      rows.token_R[row] = state.tokens[-1]
      rows.limit_R[row] = limit
      rows.key_R2[row] = turn.key_2
      rows.index_R[row] = len(turn.token_ids)
      rows.temperature_R[row] = turn.sampling.temperature
      rows.top_k_R[row] = turn.sampling.top_k
      rows.top_p_R[row] = turn.sampling.top_p
      stop_ids = turn.sampling.stop_ids
      rows.stop_RI[row, : len(stop_ids)] = stop_ids
    return rows

  def _decode(self, rows: decode.DecodeRows) -> decode.Sampled:
    before = decode.num_traces()
    rows = jax.device_put(rows, self._replicated)
    self._pages, sampled = decode.decode_chunk(
      self.config,
      self._mesh,
      self._chunk_len,
      self._params,
      self._pages,
      rows,
    )
    self._compile_count += decode.num_traces() - before
    return jax.device_get(sampled)

  def _empty_pages(self) -> attention.Pages:
    c = self.config
    # One page more than can be held: page 0 is scratch.
    shape = (self._num_pages + 1, self._page_size, c.num_kv_heads, c.head_dim)
    target = sharding.named_sharding(
      self._mesh, shape, attention.PAGES_AXES, sharding.DECODE_TABLE
    )

    def empty() -> jax.Array:
      return jnp.zeros(shape, self._dtype, device=target)

    return tuple((empty(), empty()) for _ in range(c.num_layers))


def _address_key(key: tuple[int, ...]) -> np.ndarray:
  # Its own function: `sampling` is also the name of submit's argument.
  return sampling.address_key(key)


def _bucket(sizes: tuple[int, ...], needed: int) -> int:
  return next(size for size in sizes if size >= needed)


def _check_sampling(s: types.Sampling) -> None:
  if s.temperature < 0 or s.top_k < 0 or not 0 < s.top_p <= 1:
    raise ValueError(f'{s}: temperature ≥ 0, top_k ≥ 0, 0 < top_p ≤ 1')
  if s.max_tokens < 1:
    raise ValueError(f'max_tokens={s.max_tokens} is below 1')
  if len(s.stop_ids) > MAX_STOP_IDS:
    raise ValueError(f'{len(s.stop_ids)} stop ids; at most {MAX_STOP_IDS}')


def _end_turn(state: _Sequence, reason: types.FinishReason):
  turn, state.turn = state.turn, None
  return types.Generation(
    token_ids=np.asarray(turn.token_ids, np.int32),
    logprobs=np.asarray(turn.logprobs, np.float32),
    finish_reason=reason,
  )
