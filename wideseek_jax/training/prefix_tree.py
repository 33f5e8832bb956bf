"""Prefixes that agents have in common, as a tree; a row holds a part of it.

In: what each agent reads before its first trained token (its prompt: system
text, question, subtask). Out: the radix tree of these prefixes, which tells
`packing` who may share what, and the layout of a row in which a common prefix
stands once. A row lists its agents depth first, so that a node's tokens come
directly before those of its descendants, and who sees whom is one number a
token: token i sees token j if j <= i < ends[j]. Rows of agents that share
nothing are the special case where every token's end is its agent's.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class PrefixTree:
  """Agents as leaves; an inner node is a prefix that several have in common.

  Attributes:
    ranks: for each agent its place when they are listed depth first.
    ancestors: for each agent (node, tokens from the root to its end), deepest
      first; the last is the root, (0, 0).
  """

  ranks: list[int]
  ancestors: list[list[tuple[int, int]]]


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
  """How many leading tokens two arrays [n], [m] have in common."""
  size = min(len(a), len(b))
  differs = np.flatnonzero(a[:size] != b[:size])
  return int(differs[0]) if len(differs) else size


def build(prefixes: Sequence[np.ndarray], lengths: Sequence[int]) -> PrefixTree:
  """The radix tree of all prefixes, whatever its depth.

  In lexicographic order the agents below a node are neighbours, and what two
  agents have in common is the least that any two neighbours between them have:
  one pass over the sorted prefixes with a stack of open nodes finds all nodes
  (as a suffix tree grows from a suffix array; Kasai et al., 2001).

  Args:
    prefixes: int32 [p] for each agent; empty arrays share nothing.
    lengths: of the agents, each above its prefix's; of agents with one and the
      same prefix the longest comes first.
  """
  # Token ids are not negative: bytes, largest first, compare as numbers do.
  keys = [prefix.astype('>i4').tobytes() for prefix in prefixes]
  order = sorted(range(len(keys)), key=lambda i: (keys[i], -lengths[i], i))
  depths, parents, leaves = [0], [0], {}
  path = [0]  # from the root down to the agent before
  for place, agent in enumerate(order):
    before = prefixes[order[place - 1]] if place else prefixes[agent][:0]
    shared = common_prefix(before, prefixes[agent])
    while depths[path[-1]] > shared:
      below = path.pop()
    if depths[path[-1]] < shared:  # they part in the middle of an edge
      parents[below] = len(depths)
      depths.append(shared)
      parents.append(path[-1])
      path.append(parents[below])
    leaves[agent] = len(depths)
    depths.append(lengths[agent])
    parents.append(path[-1])
    path.append(leaves[agent])

  def ancestors(node):
    found = []
    while node:
      node = parents[node]
      found.append((node, depths[node]))
    return found

  agents = range(len(keys))
  return PrefixTree(
    ranks=np.argsort(np.asarray(order, int)).tolist(),
    ancestors=[ancestors(leaves[agent]) for agent in agents],
  )


def subtree_ends(lengths: Sequence[int], shared: Sequence[int]) -> np.ndarray:
  """Up to where each token of a row is seen.

  Args:
    lengths: tokens of each agent from its root, in depth-first order.
    shared: how many of them the agent before has, too: they stand in the row
      already. The first agent has none.

  Returns:
    int32 [tokens of the row]: one past the last token of the token's subtree.
  """
  ends = np.zeros(sum(lengths) - sum(shared), np.int32)
  path, stop = np.zeros(0, np.int32), 0  # path: places of the agent's tokens
  for length, kept in zip(lengths, shared, strict=True):
    start, stop = stop, stop + length - kept
    own = np.arange(start, stop, dtype=np.int32)
    path = np.concatenate([path[:kept], own])
    ends[path] = stop  # the last agent below a token has the last word
  return ends
