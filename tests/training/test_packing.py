import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wideseek_jax import testing
from wideseek_jax.training import batching, packing, prefix_tree


def _flat(lengths):
  """The tree of segments that have nothing in common."""
  return prefix_tree.build([np.zeros(0, np.int32)] * len(lengths), lengths)


@settings(max_examples=40, deadline=None)
@given(
  lengths=st.lists(st.integers(1, 20), max_size=25),
  row_len=st.integers(20, 50),
)
def test_rows_hold_every_segment_once(lengths, row_len):
  rows = packing.assign_rows(lengths, row_len, _flat(lengths), by_node=False)
  assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
  sums = [sum(lengths[i] for i in row) for row in rows]
  assert all(size <= row_len for size in sums)
  # Best fit opens a row only when no open one has room: any two rows together
  # hold more than one row's length.
  if len(sums) > 1:
    smallest, second = sorted(sums)[:2]
    assert smallest + second > row_len


def test_best_fit():
  # 6 → row 0 (room 4), 5 → row 1 (room 5), 4 → row 0 exactly, not row 1.
  lengths = [4, 5, 6, 5]
  rows = packing.assign_rows(lengths, 10, _flat(lengths), by_node=False)
  assert rows == [[2, 0], [1, 3]]


def test_a_segment_needs_room_only_for_what_a_row_does_not_hold():
  # Two families with 4 tokens in common.
  prefixes = [np.full(4, family, np.int32) for family in (1, 1, 2, 2)]

  def assign(lengths, row_len, by_node):
    tree = prefix_tree.build(prefixes, lengths)
    return packing.assign_rows(lengths, row_len, tree, by_node=by_node)

  # 8 → row 0 (room 4), its 7 → row 0 for 3; the other 7 → row 1 (room 5), its 6
  # → row 1 for 2.
  assert assign([8, 7, 7, 6], 12, False) == [[0, 1], [2, 3]]
  # 8 → row 0 (room 7), 7 → row 0 exactly; 6 → row 1 (room 9), 6 → row 1.
  assert assign([8, 6, 7, 6], 15, False) == [[0, 2], [1, 3]]
  # Node by node: 8 → row 0 (room 7), its 6 → row 0 for 2 (room 5); 7 → row 1.
  assert assign([8, 6, 7, 6], 15, True) == [[0, 1], [2, 3]]


def _segments(agents):
  """Segments of (tokens, length of the untrained beginning)."""
  return [
    packing.Segment(
      tokens=np.asarray(tokens, np.int32),
      targets=np.arange(100 * index, 100 * index + len(tokens)),
      weights=np.where(np.arange(len(tokens)) < start, 0, index + 1.0),
      advantages=np.zeros(len(tokens)),
      old_logprobs=np.zeros(len(tokens)),
    )
    for index, (tokens, start) in enumerate(agents)
  ]


@st.composite
def _families(draw):
  """Agents over two tokens, so that their beginnings often meet."""
  tokens = st.lists(st.integers(0, 1), min_size=1, max_size=8)
  agents = draw(st.lists(tokens, max_size=12))
  return [(a, draw(st.integers(0, len(a) - 1))) for a in agents]


def _pack(agents, row_len, share):
  arrays, needed = packing.pack(
    _segments(agents),
    row_len=row_len,
    rows_per_micro_batch=2,
    min_micro_batches=1,
    share_prefixes=share,
  )
  assert not any(array[needed:].any() for array in arrays.values())
  return {name: a.reshape(-1, row_len) for name, a in arrays.items()}


@settings(max_examples=60, deadline=None)
@given(agents=_families(), row_len=st.integers(8, 20))
def test_every_agent_reads_its_own_tokens(agents, row_len):
  """Walks up from each trained place, and over explicit nodes of each row."""
  arrays = _pack(agents, row_len, share=True)
  found = []
  for row in range(len(arrays['ends'])):
    r = {name: array[row] for name, array in arrays.items()}
    nodes = set()
    for segment_id in range(1, r['segment_ids'].max() + 1):
      places = np.flatnonzero(r['segment_ids'] == segment_id)
      [agent] = set(r['weights'][places][r['weights'][places] > 0])
      agent = int(agent) - 1
      found.append(agent)
      tokens, start = agents[agent]
      for place in places[r['weights'][places] > 0]:
        seen = np.flatnonzero(r['ends'][: place + 1] > place)
        # Its own tokens in their order, each at its depth, and then a target
        # of its own.
        np.testing.assert_array_equal(r['tokens'][seen], tokens[: len(seen)])
        np.testing.assert_array_equal(r['positions'][seen], range(len(seen)))
        assert r['targets'][place] == 100 * agent + len(seen) - 1
      trained = r['weights'][places] > 0
      assert trained.sum() == len(tokens) - start
      # A place before the first trained one is what was read up to it; all
      # others are the agent's own.
      nodes |= {tuple(tokens[: depth + 1]) for depth in range(start)}
      nodes |= {('own', agent, depth) for depth in range(start, len(tokens))}
    # Nothing stands twice that could stand once.
    assert np.count_nonzero(r['segment_ids']) == len(nodes)
  assert sorted(found) == list(range(len(agents)))


@settings(max_examples=60, deadline=None)
@given(agents=_families(), row_len=st.integers(8, 20))
def test_sharing_never_needs_more_rows(agents, row_len):
  shared, plain = (_pack(agents, row_len, share)['ends'] for share in (1, 0))
  rows = [np.count_nonzero(ends.any(-1)) for ends in (shared, plain)]
  assert rows[0] <= rows[1]
  # Without sharing rows are those of best-fit decreasing.
  lengths = [len(tokens) for tokens, _ in agents]
  by_hand = packing.assign_rows(lengths, row_len, _flat(lengths), by_node=False)
  expected = [
    list(itertools.accumulate(lengths[i] for i in row)) for row in by_hand
  ]
  assert [sorted(set(ends[ends > 0])) for ends in plain[: rows[1]]] == expected


def test_where_sharing_would_need_a_row_more_it_takes_the_plain_rows():
  # Found by search: 144 tokens nearly fill the 145 places of five rows.
  lengths = [12, 5, 21, 20, 7, 9, 3, 29, 16, 22]
  families = [0, 0, 2, 4, 2, 0, 1, 0, 1, 0]
  agents = [
    ([family] + [9] * (length - 1), int(family > 0))
    for family, length in zip(families, lengths, strict=True)
  ]
  prefixes = [segment.prefix for segment in _segments(agents)]
  tree = prefix_tree.build(prefixes, lengths)
  for by_node in (False, True):
    assert len(packing.assign_rows(lengths, 29, tree, by_node=by_node)) == 6
  assert np.count_nonzero(_pack(agents, 29, True)['ends'].any(-1)) == 5


@pytest.mark.parametrize('seed', range(3))
def test_one_wideseek_group(seed):
  (group,) = testing.wideseek_groups(seed=seed, shrink=32)
  batch = batching.make_batch([group], [np.linspace(-1, 1, 8)], row_len=1024)
  stats = batching.batch_stats(batch)
  assert stats.fill > 0.95 and stats.turn_ratio > 3.5


@pytest.mark.parametrize('seed', range(3))
def test_wideseek_shape(seed):
  groups = testing.wideseek_groups(4, seed=seed, shrink=16)
  batch = batching.make_batch(groups, [np.linspace(-1, 1, 8)] * 4, row_len=2048)
  stats = batching.batch_stats(batch)
  used = stats.tokens / (stats.rows * 2048)
  plain = batching.batch_stats(
    batching.make_batch(
      groups, [np.linspace(-1, 1, 8)] * 4, row_len=2048, share_prefixes=False
    )
  )
  assert stats.fill == used and used > 0.95
  assert stats.forwarded_ratio < 0.92 and stats.turn_ratio > 3.5
  assert stats.rows < 0.92 * plain.rows
  for name in ('segments', 'unshared_tokens', 'turn_tokens', 'trained_tokens'):
    assert getattr(stats, name) == getattr(plain, name), name
  # Nothing depends on chance.
  again = batching.make_batch(groups, [np.linspace(-1, 1, 8)] * 4, row_len=2048)
  np.testing.assert_array_equal(batch.tokens, again.tokens)
