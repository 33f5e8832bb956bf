"""Laying segments of tokens into rows of one length, rows into micro-batches.

In: segments (one trajectory each). Out: arrays [M, B, T] in which each segment
lies whole in one row, and the number of micro-batches that hold any.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Segment:
  """One trajectory, cut after its last trained token; arrays are [t]."""

  tokens: np.ndarray
  targets: np.ndarray
  weights: np.ndarray
  advantages: np.ndarray
  old_logprobs: np.ndarray


def assign_rows(lengths: Sequence[int], row_len: int) -> list[list[int]]:
  """Best-fit decreasing: indices of the segments of each row.

  The longest segment first, each into the fullest row that still has room; at
  most 11/9 of the fewest rows possible, and one more (Johnson et al., 1974).
  """
  rows, rooms = [], np.zeros(0, np.int64)
  for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
    length = lengths[index]
    if length > row_len:
      raise ValueError(
        f'a trajectory needs {length} places, a row has {row_len}: raise '
        'row_len or lower the limits of the rollout'
      )
    fits = np.where(rooms >= length, rooms, row_len + 1)
    best = int(fits.argmin()) if len(rows) else -1
    if best < 0 or fits[best] > row_len:
      rows.append([])
      rooms = np.append(rooms, row_len)
      best = len(rows) - 1
    rows[best].append(index)
    rooms[best] -= length
  return rows


def pack(
  segments: Sequence[Segment],
  *,
  row_len: int,
  rows_per_micro_batch: int,
  min_micro_batches: int,
) -> tuple[dict[str, np.ndarray], int]:
  """Packs segments, filled micro-batches first.

  Args:
    segments: in any order.
    row_len: T.
    rows_per_micro_batch: B.
    min_micro_batches: least M; M is a power of two.

  Returns:
    (arrays [M, B, T] by name: the fields of `Segment`, 'positions' inside each
    segment and 'segment_ids' from 1 within each row, all 0 in padding; how many
    of the M hold anything).

  Raises:
    ValueError: a segment is longer than row_len.
  """
  rows = assign_rows([len(s.tokens) for s in segments], row_len)
  needed = -(-len(rows) // rows_per_micro_batch)
  bucket = 1 << (max(needed, min_micro_batches, 1) - 1).bit_length()
  shape = (bucket * rows_per_micro_batch, row_len)
  ints = ('tokens', 'targets', 'positions', 'segment_ids')
  floats = ('weights', 'advantages', 'old_logprobs')
  arrays = {name: np.zeros(shape, np.int32) for name in ints}
  arrays |= {name: np.zeros(shape, np.float32) for name in floats}
  for row, indices in enumerate(rows):
    start = 0
    for segment_id, index in enumerate(indices, start=1):
      segment = segments[index]
      stop = start + len(segment.tokens)
      arrays['segment_ids'][row, start:stop] = segment_id
      arrays['positions'][row, start:stop] = np.arange(stop - start)
      for name in ('tokens', 'targets', *floats):
        arrays[name][row, start:stop] = getattr(segment, name)
      start = stop
  arrays = {
    name: array.reshape(bucket, rows_per_micro_batch, row_len)
    for name, array in arrays.items()
  }
  return arrays, needed
