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
from wideseek_jax.engine import (
  decode,
  device,
  kernels,
  memory,
  sequences,
  shards,
  stats,
)
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
    rows: who samples, and in which turn, for every data shard.
    read: ready when the keys that the step computed first are there; None if
      it computed none.
    sampled: what will have been sampled.
    begun: when it was called, as time.perf_counter tells it.
  """

  rows: list[list[tuple[sequences.Sequence, sequences.Turn]]]
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
    attention: str = 'auto',
    fixed_shapes: bool = False,
  ):
    """Makes an engine with an empty cache.

    Args:
      config: the model's shape.
      params: the policy; see `set_params`.
      mesh: where to decode; the first local device if None.
      num_rows: turns that sample at the same time; 0 for as many as fit. Data
        shards have equal shares, as of all that is counted here.
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
      attention: who reads the pages, one of `kernels.IMPLEMENTATIONS`; 'auto'
        takes the best for the devices.
      fixed_shapes: pad every call to the largest shape. Programs of other
        shapes round otherwise: with one shape, what a turn samples does not
        depend to the last bit on who shares its batch. Slower where rows or
        contexts are mostly short.

    Raises:
      ValueError: a size is below 1 or does not fit another or the attention
        asked for, or the engine does not fit its memory.
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
    mesh = mesh or sharding.make_mesh(jax.local_devices()[:1])
    num_shards = sharding.ways(mesh, 'batch', sharding.DECODE_TABLE)
    prefill_rows += -prefill_rows % num_shards
    platform = mesh.devices.flat[0].platform
    how = kernels.choose(attention, platform, config.head_dim, page_size)
    self.config = config
    self.max_context = max_context
    self.plan = memory.plan(
      config,
      mesh,
      how,
      dtype=dtype,
      budget=memory_bytes or memory.device_budget(mesh),
      num_rows=num_rows,
      num_pages=num_pages,
      page_size=page_size,
      max_context=max_context,
      prefill_len=prefill_len,
      prefill_rows=prefill_rows,
    )
    self._device = device.Device(
      config,
      mesh,
      how,
      num_rows=self.plan.num_rows,
      num_pages=self.plan.num_pages,
      page_size=page_size,
      max_context=max_context,
      chunk_len=chunk_len,
      prefill_len=prefill_len,
      prefill_rows=prefill_rows,
      dtype=dtype,
      fixed_shapes=fixed_shapes,
    )
    self._meter = stats.Meter()
    self._shards = shards.Shards(self.plan, max_context, self._meter)
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
    self._shards.clear()
    # Turns that the next step returns as they are.
    self._ended: list[tuple[sequences.Sequence, types.FinishReason]] = []
    # What the device may still be sampling is of no use to anybody.
    self._chunk: _Chunk | None = None

  def open(self) -> int:
    """Starts an empty sequence; returns its handle, never used again."""
    return self._shards.open()

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
    home = self._shards.home(sequence)
    if home and home.sequences[sequence].turn is not None:
      raise ValueError(f'sequence {sequence} still samples its last turn')
    token_ids = sequences.check_tokens(token_ids, self.config.vocab_size)
    sequences.check_sampling(sampling, self.config.vocab_size)
    home = home or self._shards.place(sequence, token_ids)
    state = home.sequences[sequence]
    state.begin_turn(sampling, key)
    if state.count + len(token_ids) >= self.max_context:
      self._ended.append((state, 'context'))
      return
    state.append(token_ids)
    home.active[sequence] = state

  def step(self) -> list[tuple[int, types.Generation]]:
    """Takes the chunk that the last step began, and begins the next one.

    Returns:
      The turns that ended in the former; none if nothing was begun before. The
      next step takes up what is submitted until then.
    """
    start = time.perf_counter()
    waited = self._meter.wait_seconds
    ended = [
      (state.handle, state.end_turn(reason)) for state, reason in self._ended
    ]
    self._ended = []
    ended += self._collect()
    self._begin(HANDOVER if ended else 1)
    waited = self._meter.wait_seconds - waited
    self._meter.host_seconds += time.perf_counter() - start - waited
    return ended

  def cut(self, sequence: int) -> None:
    """Ends a turn with the tokens that `step` has seen (`types.Engine.cut`).

    Raises:
      ValueError: no such sequence.
    """
    home = self._shards.home(sequence)
    state = home and home.active.pop(sequence, None)
    if state:
      self._ended.append((state, 'cut'))

  def close(self, sequence: int) -> None:
    """Frees the sequence; a turn that it still samples is dropped.

    Its pages may be handed out at once, though the device still writes to
    them: whatever uses them next is called later, and comes later.

    Raises:
      ValueError: no such sequence.
    """
    self._shards.close(sequence)
    self._ended = [one for one in self._ended if one[0].handle != sequence]

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
    num_rows = len(sampled.count_R)
    for row, (state, turn) in sequences.numbered(chunk.rows, num_rows):
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
        del self._shards.home(state.handle).active[state.handle]
        ended.append((state.handle, state.end_turn(reason)))
    return ended

  def _begin(self, part: int) -> None:
    """Calls for keys of submitted tokens and a chunk; waits for neither.

    Args:
      part: the chunk is chunk_len / part long.
    """
    begun = time.perf_counter()
    serving = [queue.serving() for queue in self._shards.queues]
    read = self._device.mark() if self._read(serving) else None
    chunk_len = max(1, self._device.chunk_len // part)
    chosen = [
      queue.samplers(turns, chunk_len, self.max_context)
      for queue, turns in zip(self._shards.queues, serving, strict=True)
    ]
    if not any(chosen):
      return
    rows = [[(state, state.turn) for state, _ in shard] for shard in chosen]
    self._chunk = _Chunk(rows, read, self._device.sample(chosen), begun)
    self._meter.page_chunks += self.plan.num_pages
    self._meter.held_page_chunks += self._shards.held_pages

  def _read(self, serving: list[list[sequences.Sequence]]) -> bool:
    """Calls for keys; whether there was anything to read."""
    calls, total = 0, sum(map(len, serving))
    rows = self._device.prefill_rows // self._device.num_shards
    while True:
      reading = sum(state.to_read > 0 for shard in serving for state in shard)
      if calls >= READS_PER_STEP and reading <= total - reading:
        return True
      chosen = [
        queue.readers(turns, rows, self._device.prefill_len)
        for queue, turns in zip(self._shards.queues, serving, strict=True)
      ]
      if not any(chosen):
        return calls > 0
      if 2 * max(map(len, chosen)) < rows:
        # One after the other costs less than a call that is mostly padding.
        chosen = [shard[:1] for shard in chosen]
      self._device.read(chosen)
      for queue, shard in zip(self._shards.queues, chosen, strict=True):
        queue.note_read(shard)
      calls += 1
