"""Laying segments of tokens into rows of one length, rows into micro-batches.

In: segments (one trajectory each). Out: arrays [M, B, T] in which each segment
lies whole in one row, after a prefix that it may share with others there, and
the number of micro-batches that hold any.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from wideseek_jax.training import prefix_tree


@dataclasses.dataclass(frozen=True)
class Segment:
  """One trajectory, cut after its last trained token; arrays are [t]."""

  tokens: np.ndarray
  targets: np.ndarray
  weights: np.ndarray
  advantages: np.ndarray
  old_logprobs: np.ndarray

  @property
  def prefix(self) -> np.ndarray:
    """The tokens that it may share: those before the first trained place.

    The place that is asked for the first trained token has a loss term, and so
    belongs to this segment alone, like all that follows.
    """
    return self.tokens[: np.flatnonzero(self.weights)[0]]


_FIELDS = tuple(field.name for field in dataclasses.fields(Segment))
_INTS = ('tokens', 'targets')


def assign_rows(
  lengths: Sequence[int],
  row_len: int,
  tree: prefix_tree.PrefixTree,
  *,
  by_node: bool,
) -> list[list[int]]:
  """Best fit where a segment needs room only for what its row does not hold.

  Each segment goes to a row that holds as much of its prefix as any with room
  does, of these to the fullest, and opens a row if none has room. The longest
  come first. Without common prefixes this is best-fit decreasing: at most 11/9
  of the fewest rows possible, and one more (Johnson et al., 1974).

  Args:
    lengths: of the segments.
    row_len: of a row.
    tree: of the segments' prefixes.
    by_node: the longest of each node of the tree come first, one node after the
      other, rather than the longest of all: more is shared, but what is left
      over in the rows is larger.

  Returns:
    For each row the indices of its segments.

  Raises:
    ValueError: a segment is longer than a row.
  """

  def turn(index):
    node = tree.ancestors[index][0][0] if by_node else 0
    return node, -lengths[index], tree.ranks[index]

  rows, rooms = [], np.zeros(0, np.int64)
  no_rows = np.zeros(0, np.int64)
  holders = {}  # node -> the rows that its tokens stand in
  for index in sorted(range(len(lengths)), key=turn):
    length = lengths[index]
    if length > row_len:
      raise ValueError(
        f'a trajectory needs {length} places, a row has {row_len}: raise '
        'row_len or lower the limits of the rollout'
      )
    new_nodes = []
    for node, depth in tree.ancestors[index]:
      holding = holders.get(node, no_rows)
      fits = holding[rooms[holding] >= length - depth]
      if len(fits):
        row = fits[rooms[fits].argmin()]
        break
      new_nodes.append(node)
    else:
      row, depth = len(rows), 0
      rows.append([])
      rooms = np.append(rooms, row_len)
    rows[row].append(index)
    rooms[row] -= length - depth
    for node in new_nodes:
      holders[node] = np.append(holders.get(node, no_rows), row)
  return rows


# A row: (segment, how many tokens it has in common with the one before).
Row = list[tuple[int, int]]


def _lay_out(
  segments: Sequence[Segment], row_len: int, share_prefixes: bool
) -> list[Row]:
  """The fewest rows found, of these those that share most; depth first.

  Sharing can only shorten rows, so rows that were assigned as if nothing were
  shared are one candidate: sharing never needs more rows than doing without.
  """
  lengths = [len(segment.tokens) for segment in segments]
  nothing = [segment.tokens[:0] for segment in segments]
  flat = prefix_tree.build(nothing, lengths)
  prefixes, tree, candidates = nothing, flat, [(flat, False)]
  if share_prefixes:
    prefixes = [segment.prefix for segment in segments]
    tree = prefix_tree.build(prefixes, lengths)
    candidates += [(tree, False), (tree, True)]

  def depth_first(indices):
    indices = sorted(indices, key=tree.ranks.__getitem__)
    shared = [
      prefix_tree.common_prefix(prefixes[a], prefixes[b])
      for a, b in itertools.pairwise(indices)
    ]
    return list(zip(indices, [0, *shared], strict=True))

  layouts = [
    list(map(depth_first, assign_rows(lengths, row_len, of, by_node=by_node)))
    for of, by_node in candidates
  ]
  return min(
    layouts,
    key=lambda rows: (len(rows), -sum(kept for row in rows for _, kept in row)),
  )


def pack(
  segments: Sequence[Segment],
  *,
  row_len: int,
  rows_per_micro_batch: int,
  min_micro_batches: int,
  share_prefixes: bool,
) -> tuple[dict[str, np.ndarray], int]:
  """Packs segments, filled micro-batches first.

  Args:
    segments: in any order.
    row_len: T.
    rows_per_micro_batch: B.
    min_micro_batches: least M; M is a power of two.
    share_prefixes: whether what segments of a row have in common stands in it
      once.

  Returns:
    (arrays [M, B, T] by name: the fields of `Segment`, 'positions',
    'segment_ids' and 'ends' as in `batching.Batch`; how many of the M hold
    anything).

  Raises:
    ValueError: a segment is longer than row_len.
  """
  rows = _lay_out(segments, row_len, share_prefixes)
  needed = -(-len(rows) // rows_per_micro_batch)
  bucket = 1 << (max(needed, min_micro_batches, 1) - 1).bit_length()
  shape = (bucket * rows_per_micro_batch, row_len)
  ints = {*_INTS, 'positions', 'segment_ids', 'ends'}
  arrays = {
    name: np.zeros(shape, np.int32 if name in ints else np.float32)
    for name in {*_FIELDS, *ints}
  }
  for row, members in enumerate(rows):
    ends = prefix_tree.subtree_ends(
      [len(segments[index].tokens) for index, _ in members],
      [shared for _, shared in members],
    )
    arrays['ends'][row, : len(ends)] = ends
    start = 0
    for segment_id, (index, shared) in enumerate(members, start=1):
      segment = segments[index]
      length = len(segment.tokens)
      here = slice(start, start + length - shared)
      arrays['segment_ids'][row, here] = segment_id
      arrays['positions'][row, here] = np.arange(shared, length)
      for name in _FIELDS:
        arrays[name][row, here] = getattr(segment, name)[shared:]
      start = here.stop
  arrays = {
    name: array.reshape(bucket, rows_per_micro_batch, row_len)
    for name, array in arrays.items()
  }
  return arrays, needed
