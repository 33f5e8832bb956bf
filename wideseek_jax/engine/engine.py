"""The rollout engine: sequences in, sampled turns out.

Agents open sequences, submit tokens and get a turn back; each sequence reads
only its own page table. A step takes what the device sampled since the last
one, then at once begins the next chunk for the oldest turns that fit: agents
and tools work on the turns that ended while the device works on the others.
Nothing here knows of text, tools or roles; the contract is `types.Engine`.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from wideseek_jax import sharding, types
from wideseek_jax.engine import decode, device, memory, queue, sequences, stats
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

# Prefill calls of a step while turns sample, unless more turns read than
# sample: a long prompt then holds up nobody for long.
READS_PER_STEP = 4
# Whose turn has just ended is back soon, and should not wait for a whole chunk
# of the others: the next one has this part of its length.
HANDOVER = 4


@dataclasses.dataclass(frozen=True)
class _Chunk:
  """What the device works on between two steps.

  Attributes:
    rows: who samples, row by row, and in which turn.
    read: ready when the keys that the step computed first are there; None if
      it computed none.
    sampled: what will have been sampled.
    begun: when it was called, as time.perf_counter tells it.
  """

  rows: list[tuple[sequences.Sequence, sequences.Turn]]
  read: jax.Array | None
  sampled: decode.Sampled
  begun: float


class Engine:
  """Samples turns of many sequences with one paged cache (types.Engine).

  A request's tokens depend on its sequence, its sampling and its key, not on
  the rows beside it. The last token of a turn is read at the start of the
  sequence's next turn, with the tokens submitted then.

  Attributes:
    config: the model's shape.
    max_context: most tokens a sequence holds.
    plan: rows, pages and the memory they take; str() is one line.
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
    memory_bytes: int = 0,
    dtype: jnp.dtype = jnp.float32,
  ):
    """Makes an engine with an empty cache.

    Args:
      config: the model's shape.
      params: the policy; see `set_params`.
      mesh: where to decode; the first local device if None.
      num_rows: turns that sample at the same time; 0 for as many as fit.
      num_pages: pages of the cache; 0 for as many as fit (`memory.plan`).
      page_size: tokens a page.
      max_context: most tokens a sequence holds.
      chunk_len: tokens that a turn samples in one step.
      prefill_len: tokens that a sequence reads in one call; a multiple of
        page_size.
      prefill_rows: sequences that read in one call.
      memory_bytes: what the engine may take of each device; 0 for nearly all
        that is free, where the device tells how much that is.
      dtype: type of weights, activations and cache.

    Raises:
      ValueError: a size is below 1 or does not fit another, or the engine does
        not fit its memory.
    """
    for name, least, size in (
      ('num_rows', 0, num_rows),
      ('num_pages', 0, num_pages),
      ('page_size', 1, page_size),
      ('max_context', 2, max_context),
      ('chunk_len', 1, chunk_len),
      ('prefill_len', 1, prefill_len),
      ('prefill_rows', 1, prefill_rows),
      ('memory_bytes', 0, memory_bytes),
    ):
      if size < least:
        raise ValueError(f'{name}={size} is below {least}')
    if prefill_len % page_size:
      raise ValueError(
        f'prefill_len={prefill_len} is no multiple of page_size={page_size}'
      )
    mesh = mesh or sharding.make_mesh((1, 1, 1), jax.local_devices()[:1])
    self.config = config
    self.max_context = max_context
    self.plan = memory.plan(
      config,
      mesh,
      dtype=dtype,
      budget=memory_bytes or memory.device_budget(mesh),
      num_rows=num_rows,
      num_pages=num_pages,
      page_size=page_size,
      max_context=max_context,
      prefill_len=prefill_len,
      prefill_rows=prefill_rows,
      copies_context=True,
    )
    self._device = device.Device(
      config,
      mesh,
      num_rows=self.plan.num_rows,
      num_pages=self.plan.num_pages,
      page_size=page_size,
      max_context=max_context,
      chunk_len=chunk_len,
      prefill_len=prefill_len,
      prefill_rows=prefill_rows,
      dtype=dtype,
    )
    self._next_handle = 0
    self._meter = stats.Meter()
    self.set_params(params)

  @property
  def compile_count(self) -> int:
    """Compilations since the engine was made."""
    return self._device.compile_count

  def set_params(self, params: transformer.Params) -> None:
    """Takes new weights and closes every sequence: their keys are stale.

    Args:
      params: as from `transformer.init_params`, any float type and sharding.
    """
    self._device.set_params(params)
    self._queue = queue.Queue(
      self.plan.num_pages, self.plan.page_size, self._meter
    )
    self._refused: list[int] = []
    # What the device may still be sampling is of no use to anybody.
    self._chunk: _Chunk | None = None
    self._stale_below = self._next_handle

  def open(self) -> int:
    """Starts an empty sequence; returns its handle, never used again."""
    handle = self._next_handle
    self._next_handle += 1
    self._queue.sequences[handle] = sequences.Sequence(
      handle, self._queue.pool, self.max_context
    )
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
    token_ids = sequences.check_tokens(token_ids, self.config.vocab_size)
    sequences.check_sampling(sampling, self.config.vocab_size)
    state.begin_turn(sampling, key)
    if state.count + len(token_ids) >= self.max_context:
      self._refused.append(sequence)
      return
    state.append(token_ids)
    self._queue.active[sequence] = state

  def step(self) -> list[tuple[int, types.Generation]]:
    """Takes the chunk that the last step began, and begins the next one.

    Returns:
      The turns that ended in the former; none if nothing was begun before. The
      next step takes up what is submitted until then.
    """
    start = time.perf_counter()
    waited = self._meter.wait_seconds
    ended = [
      (handle, self._queue.sequences[handle].end_turn('context'))
      for handle in self._refused
    ]
    self._refused = []
    ended += self._collect()
    self._begin(HANDOVER if ended else 1)
    waited = self._meter.wait_seconds - waited
    self._meter.host_seconds += time.perf_counter() - start - waited
    return ended

  def close(self, sequence: int) -> None:
    """Frees the sequence; a turn that it still samples is dropped.

    Its pages may be handed out at once, though the device still writes to
    them: whatever uses them next is called later, and comes later.

    Raises:
      ValueError: no such sequence.
    """
    state = self._lookup(sequence)
    state.table.clear()
    state.turn = None
    del self._queue.sequences[sequence]
    self._queue.active.pop(sequence, None)
    if sequence in self._refused:
      self._refused.remove(sequence)

  def stats(self) -> stats.Stats:
    """What the engine did since `reset_stats`."""
    return self._meter.stats(self.compile_count)

  def reset_stats(self) -> None:
    """Starts the counts of `stats` again."""
    self._meter.reset()

  def warm_up(self) -> int:
    """Compiles every shape that a step can meet; returns compile_count."""
    self._device.warm_up()
    return self.compile_count

  def _lookup(self, handle: int) -> sequences.Sequence:
    if handle in self._queue.sequences:
      return self._queue.sequences[handle]
    if 0 <= handle < self._stale_below:
      raise ValueError(f'sequence {handle} was closed by set_params')
    if 0 <= handle < self._next_handle:
      raise ValueError(f'sequence {handle} is closed')
    raise ValueError(f'there is no sequence {handle}')

  def _collect(self) -> list[tuple[int, types.Generation]]:
    """Waits for the chunk in flight; returns the turns that it ended."""
    chunk, self._chunk = self._chunk, None
    if chunk is None:
      return []
    start, since = time.perf_counter(), chunk.begun
    if chunk.read is not None:
      jax.block_until_ready(chunk.read)
      now = time.perf_counter()
      self._meter.prefill_seconds += now - since
      since = now
    sampled = jax.device_get(chunk.sampled)
    now = time.perf_counter()
    self._meter.decode_seconds += now - since
    self._meter.wait_seconds += now - start
    self._meter.row_steps += self._device.num_rows * int(sampled.count_R.max())
    ended = []
    for row, (state, turn) in enumerate(chunk.rows):
      if state.turn is not turn:
        continue  # closed meanwhile
      count = int(sampled.count_R[row])
      new = sampled.token_RC[row, :count]
      state.append(new)
      state.table.advance(count)
      turn.token_ids.extend(new.tolist())
      turn.logprobs.extend(sampled.logprob_RC[row, :count].tolist())
      self._meter.decode_tokens += count
      reason = None
      if sampled.stopped_R[row]:
        reason = 'stop'
      elif len(turn.token_ids) == turn.how.max_tokens:
        reason = 'length'
      elif state.count == self.max_context:
        reason = 'context'
      if reason is not None:
        del self._queue.active[state.handle]
        ended.append((state.handle, state.end_turn(reason)))
    return ended

  def _begin(self, part: int) -> None:
    """Calls for keys of submitted tokens and a chunk; waits for neither.

    Args:
      part: the chunk is chunk_len / part long.
    """
    begun = time.perf_counter()
    serving = self._queue.serving(self._device.num_rows)
    read = self._device.mark() if self._read(serving) else None
    chunk_len = max(1, self._device.chunk_len // part)
    chosen = self._queue.samplers(serving, chunk_len, self.max_context)
    if not chosen:
      return
    rows = [(state, state.turn) for state, _ in chosen]
    self._chunk = _Chunk(rows, read, self._device.sample(chosen), begun)
    held = self.plan.num_pages - self._queue.pool.available
    self._meter.page_chunks += self.plan.num_pages
    self._meter.held_page_chunks += held

  def _read(self, serving: list[sequences.Sequence]) -> bool:
    """Calls for keys; whether there was anything to read."""
    calls = 0
    while True:
      reading = sum(state.to_read > 0 for state in serving)
      if calls >= READS_PER_STEP and reading <= len(serving) - reading:
        return True
      chosen = self._queue.readers(
        serving, self._device.prefill_rows, self._device.prefill_len
      )
      if not chosen:
        return calls > 0
      self._device.read(chosen)
      self._queue.note_read(chosen)
      calls += 1
