import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.models import layers
from wideseek_jax.training import packed_attention

# Lengths of the segments of two rows of 13 tokens; the rest is padding.
ROWS = [[3, 6, 2], [13]]
T, N, K, H = 13, 4, 2, 6


def _rows():
  segments, positions = np.zeros((2, T), np.int32), np.zeros((2, T), np.int32)
  for row, lengths in enumerate(ROWS):
    start = 0
    for segment, length in enumerate(lengths, start=1):
      segments[row, start : start + length] = segment
      positions[row, start : start + length] = np.arange(length)
      start += length
  keys = jax.random.split(jax.random.key(0), 3)
  # Scores far apart: a softmax without its running maximum would overflow.
  q = 30 * jax.random.normal(keys[0], (2, T, N, H))
  k, v = (jax.random.normal(key, (2, T, K, H)) for key in keys[1:])
  return jnp.asarray(segments), jnp.asarray(positions), (q, k, v)


@pytest.mark.parametrize('block', [4, 5, 64])
def test_equals_the_reference(block):
  segments, positions, qkv = _rows()
  probe = jax.random.normal(jax.random.key(1), (2, T, N, H))

  def run(attend):
    def out(q, k, v):
      return attend(0, q, k, v, None)[0]

    gradient = jax.grad(lambda *qkv: jnp.sum(probe * out(*qkv)), (0, 1, 2))
    return jax.jit(lambda *qkv: (out(*qkv), gradient(*qkv)))(*qkv)

  got = run(packed_attention.packed_attend(segments, positions, block=block))
  expected = run(layers.full_causal_attend(segments, positions))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    got,
    expected,
  )
  assert not got[0][0, 11:].any()


def test_blocks_nobody_sees_are_not_read():
  # Two segments of one block each: the second block of queries reads no key of
  # the first, so a NaN there reaches nothing (in a masked product it would).
  segments = jnp.repeat(jnp.array([[1, 2]]), 4, axis=1)
  positions = jnp.tile(jnp.arange(4), (1, 2))
  q = k = jnp.ones((1, 8, 1, 2))
  v = k.at[:, :4].set(jnp.nan)
  attend = packed_attention.packed_attend(segments, positions, block=4)
  out = jax.jit(lambda *qkv: attend(0, *qkv, None)[0])(q, k, v)
  assert np.isnan(out[:, :4]).all()
  np.testing.assert_allclose(out[:, 4:], 1, rtol=1e-6)
