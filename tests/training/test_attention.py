import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.models import layers
from wideseek_jax.training import attention, packed_attention

B, T, N, K, H = 2, 16, 4, 2, 8
# Row 0: segments of 5, 7 and 2, then padding. Row 1: a trunk of 4 that two
# branches share, of 5 and 4, then a segment of 3.
PLAIN = [5] * 5 + [12] * 7 + [14] * 2 + [0] * 2
TREE = [13] * 4 + [9] * 5 + [13] * 4 + [16] * 3
ENDS = jnp.array([PLAIN, TREE], jnp.int32)


def _qkv():
  keys = jax.random.split(jax.random.key(0), 4)
  q, probe = (jax.random.normal(key, (B, T, N, H)) for key in keys[:2])
  k, v = (jax.random.normal(key, (B, T, K, H)) for key in keys[2:])
  return probe, q, k, v


def _with_gradients(out):
  """Output and gradients of a function of q, k and v, on the example."""
  probe, *qkv = _qkv()

  def loss(*qkv):
    result = out(*qkv)
    return jnp.sum(probe * result), result

  return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*qkv)


@pytest.fixture(scope='module')
def expected():
  place = jnp.arange(T)
  causal_TS = place[:, None] >= place[None, :]
  open_BTS = place[None, :, None] < ENDS[:, None, :]
  mask_BTS = causal_TS[None] & open_BTS
  return _with_gradients(lambda *qkv: layers.masked_attention(*qkv, mask_BTS))


def _same(got, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    got,
    expected,
  )


@pytest.mark.parametrize(
  'sizes',
  [
    {},
    {'context': 8},
    # Each kv head is on two devices.
    {'tensor': 4},
    # Four heads do not divide over eight devices: each has all of them.
    {'tensor': 8},
    {'data': 2, 'context': 2, 'tensor': 2},
  ],
)
def test_on_a_mesh_equals_the_reference(expected, sizes):
  mesh = examples.mesh(**sizes)
  attend = attention.make_attend(
    attention.BLOCKS, mesh, examples.CONFIG, ENDS, block=3
  )
  _same(_with_gradients(lambda *qkv: attend(0, *qkv, None)[0]), expected)


def test_queries_may_begin_within_the_row():
  _, q, k, v = _qkv()
  whole = packed_attention.packed_attend(ENDS, block=3)(0, q, k, v, None)[0]

  @jax.jit
  def part(first):
    attend = packed_attention.packed_attend(ENDS, block=3, first=first)
    few = jax.lax.dynamic_slice_in_dim(q, first, 7, axis=1)
    return attend(0, few, k, v, None)[0]

  for first in (0, 1, 9):
    np.testing.assert_allclose(
      part(first), whole[:, first : first + 7], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
  ('ends', 'plain'),
  [
    ([PLAIN], True),
    ([TREE], False),
    ([PLAIN, TREE], False),
    # A trunk of one token; and branches of one.
    ([[3, 2, 3]], False),
    ([[4, 4, 3, 4]], False),
    # One segment; nothing at all; segments of one token.
    ([[3, 3, 3]], True),
    ([[0, 0, 0]], True),
    ([[1, 2, 3]], True),
  ],
)
def test_segments_that_share_nothing_are_plain(ends, plain):
  assert attention.is_plain(jnp.array(ends, jnp.int32)) == plain


def test_only_plain_rows_go_to_a_kernel(expected):
  kernel = dataclasses.replace(
    attention.BLOCKS,
    name='stand-in',
    attend=lambda operand, q, k, v, ends, first: jnp.full_like(q, 7),
    plain=True,
  )
  make = functools.partial(
    attention.make_attend, kernel, examples.mesh(data=2), examples.CONFIG
  )
  tree, plain = make(ENDS, block=3), make(ENDS[jnp.array([0, 0])], block=3)
  _same(_with_gradients(lambda *qkv: tree(0, *qkv, None)[0]), expected)
  _, *qkv = _qkv()
  assert (jax.jit(lambda *qkv: plain(0, *qkv, None)[0])(*qkv) == 7).all()
