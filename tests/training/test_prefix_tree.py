import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wideseek_jax.training import prefix_tree


def _build(*texts):
  """The tree of prefixes given as text, one token a letter."""
  prefixes = [np.array([ord(c) for c in text], np.int32) for text in texts]
  return prefix_tree.build(prefixes, [len(text) + 1 for text in texts])


def test_nested_prefixes():
  # System text ab; question cd or ce; the first agent's own f.
  tree = _build('abcdf', 'x', 'abcd', 'abce')
  # A prefix comes before those that go on from it.
  assert tree.ranks == [1, 3, 0, 2]
  depths = [[depth for _, depth in found] for found in tree.ancestors]
  assert depths == [[4, 3, 0], [0], [4, 3, 0], [3, 0]]
  (abcd, abc, root), other, again, below = (
    [node for node, _ in found] for found in tree.ancestors
  )
  assert other == [root] and again == [abcd, abc, root]
  assert below == [abc, root] and root == 0


def test_of_equal_prefixes_the_longest_comes_first():
  prefixes = [np.array([7, 7], np.int32)] * 3
  assert prefix_tree.build(prefixes, [4, 6, 4]).ranks == [1, 0, 2]


def test_numbers_are_compared_as_numbers():
  # 256 in bytes, smallest first, would come before 1.
  prefixes = [np.array([id], np.int32) for id in (256, 1, 70000)]
  assert prefix_tree.build(prefixes, [2] * 3).ranks == [1, 0, 2]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text('ab', max_size=6), max_size=10))
def test_the_deepest_common_node_is_the_common_prefix(texts):
  tree = _build(*texts)
  assert sorted(tree.ranks) == list(range(len(texts)))
  for a in range(len(texts)):
    for b in range(a):
      mine, others = dict(tree.ancestors[a]), dict(tree.ancestors[b])
      least = min(len(texts[a]), len(texts[b]))
      expected = max(
        n for n in range(least + 1) if texts[a][:n] == texts[b][:n]
      )
      assert max(mine[node] for node in mine.keys() & others) == expected


def test_subtree_ends_by_hand():
  # A trunk of 2; an agent of 3 on it; a branch of 1 with two agents of 2 and 1.
  #   place: 0 1 | 2 3 4 | 5 | 6 7 | 8
  ends = prefix_tree.subtree_ends([5, 5, 4], [0, 2, 3])
  np.testing.assert_array_equal(ends, [9, 9, 5, 5, 5, 9, 8, 8, 9])
  assert ends.dtype == np.int32


@settings(max_examples=60, deadline=None)
@given(
  steps=st.lists(
    st.tuples(st.integers(0, 8), st.integers(1, 4)), min_size=1, max_size=8
  )
)
def test_ends_are_the_ancestor_mask(steps):
  lengths, shared, parents, path = [], [], [], []
  for kept, own in steps:
    path = path[: min(kept, len(path) - 1)] if path else []
    shared.append(len(path))
    for _ in range(own):
      parents.append(path[-1] if path else None)
      path = [*path, len(parents) - 1]
    lengths.append(len(path))
  expected = np.zeros((len(parents), len(parents)), bool)
  for place in range(len(parents)):
    seen = place
    while seen is not None:
      expected[place, seen] = True
      seen = parents[seen]
  ends = prefix_tree.subtree_ends(lengths, shared)
  index = np.arange(len(parents))
  mask = (index[None] <= index[:, None]) & (index[:, None] < ends[None])
  np.testing.assert_array_equal(mask, expected)
