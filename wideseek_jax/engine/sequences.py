"""One agent's tokens, pages and turn, and the rows they become on the device.

Host side: the engine decides who is served, this module turns those sequences
into the fixed arrays of `decode.prefill` and `decode.decode_chunk`.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from wideseek_jax import types
from wideseek_jax.engine import attention, decode, pages, sampling

# Stop tokens of a turn; more would be another compilation.
MAX_STOP_IDS = 256


@dataclasses.dataclass
class Turn:
  """A turn in the making: how to sample, its key (uint32 [2]), what so far."""

  how: types.Sampling
  key_2: np.ndarray
  token_ids: list[int] = dataclasses.field(default_factory=list)
  logprobs: list[float] = dataclasses.field(default_factory=list)


class Sequence:
  """What the engine holds of one agent.

  The keys of the last token are always pending: they are computed when a turn
  needs its logits.

  Attributes:
    handle: the engine's name for it.
    table: its pages; table.length tokens have keys.
    count: tokens read or sampled.
    turn: what it samples, None while its agent waits for tools.
  """

  def __init__(self, handle: int, pool: pages.PagePool, max_context: int):
    self.handle = handle
    self.table = pages.PageTable(pool)
    self.count = 0
    self.turn: Turn | None = None
    self._buffer = np.zeros(max_context, np.int32)

  @property
  def tokens(self) -> np.ndarray:
    """All its tokens, int32 [count]."""
    return self._buffer[: self.count]

  @property
  def to_read(self) -> int:
    """Tokens whose keys prefill has to compute before a turn can sample."""
    return self.count - 1 - self.table.length

  def append(self, token_ids: np.ndarray) -> None:
    """Adds tokens at the end, without keys."""
    self._buffer[self.count : self.count + len(token_ids)] = token_ids
    self.count += len(token_ids)

  def begin_turn(self, how: types.Sampling, key: tuple[int, ...]) -> None:
    """Asks for a turn; `end_turn` closes it."""
    self.turn = Turn(how, sampling.address_key(key))

  def end_turn(self, reason: types.FinishReason) -> types.Generation:
    """Closes the turn; the sequence waits for the next."""
    turn, self.turn = self.turn, None
    self.table.trim()
    return types.Generation(
      token_ids=np.asarray(turn.token_ids, np.int32),
      logprobs=np.asarray(turn.logprobs, np.float32),
      finish_reason=reason,
    )


def check_sampling(how: types.Sampling, vocab_size: int) -> None:
  """Raises ValueError for values without meaning."""
  warm = 0 <= how.temperature < math.inf
  if not warm or how.top_k < 0 or not 0 < how.top_p <= 1:
    raise ValueError(f'{how}: 0 ≤ temperature < inf, top_k ≥ 0, 0 < top_p ≤ 1')
  if how.max_tokens < 1:
    raise ValueError(f'max_tokens={how.max_tokens} is below 1')
  if len(how.stop_ids) > MAX_STOP_IDS:
    raise ValueError(f'{len(how.stop_ids)} stop ids; at most {MAX_STOP_IDS}')
  if any(not 0 <= token < vocab_size for token in how.stop_ids):
    raise ValueError(
      f'stop_ids {how.stop_ids} for a vocabulary of {vocab_size}'
    )


# (sequence, tokens to read or most tokens to sample), pages reserved.
Chosen = list[tuple[Sequence, int]]

T = TypeVar('T')


def numbered(shards: list[list[T]], num_rows: int) -> Iterator[tuple[int, T]]:
  """Gives each entry its row: every shard has an equal block of the rows.

  Args:
    shards: what each shard has, at most its share of the rows.
    num_rows: rows of the call.
  """
  for shard, entries in enumerate(shards):
    for place, entry in enumerate(entries):
      yield shard * (num_rows // len(shards)) + place, entry


def check_tokens(token_ids: np.ndarray, vocab_size: int) -> np.ndarray:
  """The tokens as int32 [n].

  Raises:
    ValueError: they are no integers [n ≥ 1], or lie outside of the vocabulary.
  """
  token_ids = np.asarray(token_ids)
  whole = np.issubdtype(token_ids.dtype, np.integer)
  if not whole or token_ids.ndim != 1 or not len(token_ids):
    raise ValueError(
      f'token_ids are {token_ids.dtype} {token_ids.shape}, not integers [n ≥ 1]'
    )
  if token_ids.min() < 0 or token_ids.max() >= vocab_size:
    raise ValueError(
      f'token ids from {token_ids.min()} to {token_ids.max()} for a '
      f'vocabulary of {vocab_size}'
    )
  return token_ids.astype(np.int32)


def prefill_rows(
  chosen: list[Chosen],
  num_rows: int,
  read_len: int,
  context: int,
  page_size: int,
) -> decode.PrefillRows:
  """The device's view of sequences that read.

  Args:
    chosen: for every data shard (sequence, how many of its next tokens to
      read), pages reserved.
    num_rows: rows of the call; those left over are idle.
    read_len: tokens a row.
    context: tokens that a row can hold already.
    page_size: tokens a page; divides read_len and context.
  """
  tokens_RT = np.zeros((num_rows, read_len), np.int32)
  for row, (sequence, count) in numbered(chosen, num_rows):
    first = sequence.table.length
    tokens_RT[row, :count] = sequence.tokens[first : first + count]
  # Room for the new tokens behind the longest row.
  num_pages = (context + read_len) // page_size
  touched = read_len // page_size + 1
  return decode.PrefillRows(
    _row_tables(chosen, num_rows, num_pages, touched), tokens_RT
  )


def _row_tables(
  chosen: list[Chosen],
  num_rows: int,
  num_pages: int,
  touched: int,
) -> attention.RowTables:
  tables = attention.RowTables(
    read_RN=np.zeros((num_rows, num_pages), np.int32),
    write_RW=np.zeros((num_rows, touched), np.int32),
    start_R=np.zeros(num_rows, np.int32),
  )
  for row, (sequence, _) in numbered(chosen, num_rows):
    sequence.table.fill_read(tables.read_RN[row])
    sequence.table.fill_write(tables.write_RW[row])
    tables.start_R[row] = sequence.table.length
  return tables


def decode_rows(
  chosen: list[Chosen],
  num_rows: int,
  chunk_len: int,
  context: int,
  page_size: int,
) -> decode.DecodeRows:
  """The device's view of sequences that sample.

  Args:
    chosen: for every data shard (sequence, most tokens to sample), pages
      reserved.
    num_rows: rows of the call; those left over are idle.
    chunk_len: tokens that the call samples a row.
    context: tokens that a row can hold, the chunk included.
    page_size: tokens a page; divides context.
  """
  R = num_rows
  touched = (chunk_len - 1) // page_size + 2
  rows = decode.DecodeRows(
    tables=_row_tables(chosen, R, context // page_size, touched),
    token_R=np.zeros(R, np.int32),
    limit_R=np.zeros(R, np.int32),
    key_R2=np.zeros((R, 2), np.uint32),
    index_R=np.zeros(R, np.int32),
    temperature_R=np.ones(R, np.float32),
    top_k_R=np.zeros(R, np.int32),
    top_p_R=np.ones(R, np.float32),
    stop_RI=np.full((R, MAX_STOP_IDS), -1, np.int32),
  )
  for row, (sequence, limit) in numbered(chosen, num_rows):
    turn = sequence.turn
    rows.token_R[row] = sequence.tokens[-1]
    rows.limit_R[row] = limit
    rows.key_R2[row] = turn.key_2
    rows.index_R[row] = len(turn.token_ids)
    rows.temperature_R[row] = turn.how.temperature
    rows.top_k_R[row] = turn.how.top_k
    rows.top_p_R[row] = turn.how.top_p
    stop_ids = turn.how.stop_ids
    rows.stop_RI[row, : len(stop_ids)] = stop_ids
  return rows
