import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.models import layers
from wideseek_jax.training import packed_attention, prefix_tree

# A row's agents, depth first: tokens from the root and how many of them the
# agent before has, too. Row 0: three segments that share nothing, and padding.
# Row 1: a trunk of 5; two agents end above it, two more part at 7.
ROWS = [[(3, 0), (6, 0), (2, 0)], [(6, 0), (9, 5), (8, 7), (7, 5)]]
T, N, K, H = 18, 4, 2, 6


def _rows():
  """(ends, mask) of `ROWS`: the mask by walking from each token to its root."""
  ends, mask_BTS = np.zeros((2, T), np.int32), np.zeros((2, T, T), bool)
  for row, agents in enumerate(ROWS):
    found = prefix_tree.subtree_ends(*zip(*agents, strict=True))
    ends[row, : len(found)] = found
    parents, path = [], []
    for length, shared in agents:
      path = path[:shared]
      while len(path) < length:
        parents.append(path[-1] if path else -1)
        path.append(len(parents) - 1)
    for place in range(len(parents)):
      seen = place
      while seen >= 0:
        mask_BTS[row, place, seen] = True
        seen = parents[seen]
  return jnp.asarray(ends), jnp.asarray(mask_BTS)


def _qkv():
  keys = jax.random.split(jax.random.key(0), 3)
  # Scores far apart: a softmax without its running maximum would overflow.
  q = 30 * jax.random.normal(keys[0], (2, T, N, H))
  k, v = (jax.random.normal(key, (2, T, K, H)) for key in keys[1:])
  return q, k, v


@pytest.mark.parametrize('block', [4, 5, 64])
def test_equals_the_reference(block):
  ends, mask_BTS = _rows()
  qkv = _qkv()
  probe = jax.random.normal(jax.random.key(1), (2, T, N, H))

  def run(out):
    gradient = jax.grad(lambda *qkv: jnp.sum(probe * out(*qkv)), (0, 1, 2))
    return jax.jit(lambda *qkv: (out(*qkv), gradient(*qkv)))(*qkv)

  attend = packed_attention.packed_attend(ends, block=block)
  got = run(lambda *qkv: attend(0, *qkv, None)[0])
  expected = run(lambda *qkv: layers.masked_attention(*qkv, mask_BTS))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    got,
    expected,
  )
  assert not got[0][0, 11:].any()


def test_segments_alone_are_a_case_of_it():
  # Two segments of 3 and 2 tokens, one place of padding.
  ends = np.array([[3, 3, 3, 5, 5, 0]])
  np.testing.assert_array_equal(
    prefix_tree.subtree_ends([3, 2], [0, 0]), [3, 3, 3, 5, 5]
  )
  segments, positions = [[1, 1, 1, 2, 2, 0]], [[0, 1, 2, 0, 1, 0]]
  qkv = [x[:1, :6] for x in _qkv()]
  attend = packed_attention.packed_attend(jnp.asarray(ends), block=2)
  reference = layers.full_causal_attend(
    jnp.asarray(segments), jnp.asarray(positions)
  )
  got, expected = (
    jax.jit(lambda *qkv, f=f: f(0, *qkv, None)[0])(*qkv)
    for f in (attend, reference)
  )
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_blocks_nobody_sees_are_not_read():
  # Blocks of 4: a trunk, a branch, another branch. The third block reads the
  # first and itself, so a NaN in the second reaches nothing (in a masked
  # product it would), neither there nor on the way back.
  ends = jnp.array([[12] * 4 + [8] * 4 + [12] * 4])
  q = k = jnp.ones((1, 12, 1, 2))
  v = k.at[:, 4:8].set(jnp.nan)
  attend = packed_attention.packed_attend(ends, block=4)

  @jax.jit
  def run(*qkv):
    out, pull = jax.vjp(lambda *qkv: attend(0, *qkv, None)[0], *qkv)
    return out, pull(jnp.ones_like(out))

  out, (d_q, _, d_v) = run(q, k, v)
  assert np.isnan(out[:, 4:8]).all() and np.isnan(d_q[:, 4:8]).all()
  for part in (slice(0, 4), slice(8, 12)):
    np.testing.assert_allclose(out[:, part], 1, rtol=1e-6)
    np.testing.assert_allclose(d_q[:, part], 0, atol=1e-6)
  assert np.isfinite(d_v).all()


def test_memory_is_linear_in_the_length_of_rows():
  def temporary(size):
    def gradient(ends, *qkv):
      attend = packed_attention.packed_attend(ends, block=64)

      def total(*qkv):
        return jnp.sum(attend(0, *qkv, None)[0])

      return jax.grad(total, (0, 1, 2))(*qkv)

    ends = jax.ShapeDtypeStruct((1, size), jnp.int32)
    q, k = (
      jax.ShapeDtypeStruct((1, size, heads, H), jnp.float32) for heads in (N, K)
    )
    compiled = jax.jit(gradient).lower(ends, q, k, k).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary(2048) < 2.2 * temporary(1024)
