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
from wideseek_jax.engine import device, pages, sequences
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer


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
    attention: str = 'auto',
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
      attention: who reads the pages, one of `kernels.IMPLEMENTATIONS`; 'auto'
        takes the best for the devices.

    Raises:
      ValueError: num_pages cannot hold one sequence of max_context, or a size
        does not fit another or the attention asked for.
    """
    # A sequence of full length may copy a page that it shares: one more.
    if (num_pages - 1) * page_size < max_context:
      raise ValueError(
        f'{num_pages} pages of {page_size} tokens cannot hold one sequence of '
        f'max_context={max_context} and a page to copy'
      )
    if prefill_len % page_size:
      raise ValueError(
        f'prefill_len={prefill_len} is no multiple of page_size={page_size}'
      )
    self.config = config
    self.max_context = max_context
    self._num_pages = num_pages
    self._page_size = page_size
    self._device = device.Device(
      config,
      mesh or sharding.make_mesh((1, 1, 1), jax.local_devices()[:1]),
      num_rows=num_rows,
      num_pages=num_pages,
      page_size=page_size,
      max_context=max_context,
      chunk_len=chunk_len,
      prefill_len=prefill_len,
      prefill_rows=prefill_rows,
      dtype=dtype,
      attention=attention,
    )
    self._next_handle = 0
    self.reset_stats()
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
    self._pool = pages.PagePool(self._num_pages, self._page_size)
    self._sequences: dict[int, sequences.Sequence] = {}
    self._active: dict[int, sequences.Sequence] = {}
    self._refused: list[int] = []
    self._stale_below = self._next_handle

  def open(self) -> int:
    """Starts an empty sequence; returns its handle, never used again."""
    handle = self._next_handle
    self._next_handle += 1
    self._sequences[handle] = sequences.Sequence(
      handle, self._pool, self.max_context
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
    token_ids = np.asarray(token_ids)
    whole = np.issubdtype(token_ids.dtype, np.integer)
    if not whole or token_ids.ndim != 1 or not len(token_ids):
      raise ValueError(
        f'token_ids are {token_ids.dtype} {token_ids.shape}, not integers '
        '[n ≥ 1]'
      )
    if token_ids.min() < 0 or token_ids.max() >= self.config.vocab_size:
      raise ValueError(
        f'token ids from {token_ids.min()} to {token_ids.max()} for a '
        f'vocabulary of {self.config.vocab_size}'
      )
    sequences.check_sampling(sampling)
    state.begin_turn(sampling, key)
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
      ended.append((handle, state.end_turn('context')))
    self._refused = []
    # In the order in which turns were submitted: the oldest is never held up
    # by a younger one, so every turn ends.
    serving = list(self._active.values())[: self._device.num_rows]
    start = time.perf_counter()
    while self._read_some(serving):
      pass
    self._device.wait()
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
    return dataclasses.replace(self._stats, compile_count=self.compile_count)

  def reset_stats(self) -> None:
    """Starts the counts of `stats` again."""
    self._stats = Stats()

  def warm_up(self) -> int:
    """Compiles every shape that a step can meet; returns compile_count."""
    self._device.warm_up()
    return self.compile_count

  def _lookup(self, handle: int) -> sequences.Sequence:
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

  def _reserve(self, state: sequences.Sequence, end: int) -> bool:
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

  def _victim(self, state: sequences.Sequence) -> sequences.Sequence | None:
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

  def _read_some(self, serving: list[sequences.Sequence]) -> bool:
    """One prefill call; False if there was nothing to do."""
    chosen, begun = [], set()
    for state in serving:
      if len(chosen) == self._device.prefill_rows:
        break
      if not state.to_read:
        continue
      shared = state.table.match(state.tokens[:-1])
      self._add(shared_tokens=shared)
      if not state.to_read:
        continue
      # Who is about to compute the same token waits, and finds it then.
      signature = state.table.signature(state.tokens)
      if signature in begun:
        continue
      count = min(state.to_read, self._device.prefill_len)
      if not self._reserve(state, state.table.length + count):
        continue
      begun.add(signature)
      chosen.append((state, count))
    if not chosen:
      return False
    self._device.read(chosen)
    for state, count in chosen:
      again = state.advance(count)
      state.table.publish(state.tokens)
      self._add(prefill_tokens=count, recomputed_tokens=again)
    return True

  def _sample_chunk(self, serving) -> list[tuple[int, types.Generation]]:
    chosen = []
    for state in serving:
      if state.to_read:
        continue
      left = state.turn.how.max_tokens - len(state.turn.token_ids)
      room = self.max_context - state.count
      limit = min(left, room, self._device.chunk_len)
      if self._reserve(state, state.table.length + limit):
        chosen.append((state, limit))
    if not chosen:
      return []
    sampled = self._device.sample(chosen)
    ended = []
    for row, (state, _) in enumerate(chosen):
      count = int(sampled.count_R[row])
      new = sampled.token_RC[row, :count]
      state.append(new)
      state.turn.token_ids.extend(new.tolist())
      state.turn.logprobs.extend(sampled.logprob_RC[row, :count].tolist())
      state.advance(count)
      self._add(decode_tokens=count)
      reason = None
      if sampled.stopped_R[row]:
        reason = 'stop'
      elif len(state.turn.token_ids) == state.turn.how.max_tokens:
        reason = 'length'
      elif state.count == self.max_context:
        reason = 'context'
      if reason is not None:
        del self._active[state.handle]
        ended.append((state.handle, state.end_turn(reason)))
    return ended
