"""The kernels against the block-wise attention; both are interpreted here."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.training import attention, kernels

CONFIG = dataclasses.replace(
  examples.CONFIG, num_heads=2, num_kv_heads=1, head_dim=128
)
B, T, N, K, H = 1, 256, 2, 1, 128
# Segments of 100, 130 and 6 tokens, then padding.
ENDS = jnp.repeat(
  jnp.array([[100, 230, 236, 0]], jnp.int32),
  jnp.array([100, 130, 6, 20]),
  axis=1,
)
SPLASH = dataclasses.replace(
  kernels.SPLASH,
  prepare=functools.partial(kernels.splash_kernel, interpret=True),
)
TRITON = dataclasses.replace(
  kernels.TRITON,
  attend=functools.partial(kernels.triton_attend, interpret=True),
)


@pytest.mark.parametrize(
  ('how', 'sizes'),
  [
    (SPLASH, {}),
    (SPLASH, {'context': 2}),
    (SPLASH, {'tensor': 2}),
    (TRITON, {}),
  ],
)
def test_equals_the_blocks(how, sizes):
  keys = jax.random.split(jax.random.key(0), 4)
  q, probe = (jax.random.normal(key, (B, T, N, H)) for key in keys[:2])
  k, v = (jax.random.normal(key, (B, T, K, H)) for key in keys[2:])
  # What comes out for padding is nobody's.
  probe = jnp.where((ENDS > 0)[:, :, None, None], probe, 0)
  mesh = examples.mesh(**sizes)

  def run(how):
    attend = attention.make_attend(how, mesh, CONFIG, ENDS, block=64)

    def loss(*qkv):
      out = attend(0, *qkv, None)[0]
      return jnp.sum(probe * out), jnp.where(probe == 0, 0, out)

    return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(q, k, v)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
    run(how),
    run(attention.BLOCKS),
  )


@pytest.mark.parametrize(
  ('how', 'platform', 'call'),
  [
    (kernels.SPLASH, 'tpu', 'tpu_custom_call'),
    (kernels.TRITON, 'cuda', 'xla.gpu.triton'),
  ],
)
def test_kernels_lower_for_their_devices(how, platform, call):
  # What the kernels' compilers refuse (block sizes, types) is refused here.
  def loss(q, k, v, ends):
    attend = attention.make_attend(how, examples.mesh(), CONFIG, ends, block=64)
    return attend(0, q, k, v, None)[0].astype(jnp.float32).sum()

  def shape(*sizes, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(sizes, dtype)

  program = (
    jax.jit(jax.grad(loss, (0, 1, 2)))
    .trace(
      shape(2, 1024, N, H),
      shape(2, 1024, K, H),
      shape(2, 1024, K, H),
      shape(2, 1024, dtype=jnp.int32),
    )
    .lower(lowering_platforms=(platform,))
    .as_text()
  )
  # Forward and backward.
  assert program.count(call) >= 2


def test_choice():
  choose = functools.partial(
    kernels.choose, head_dim=128, row_len=1024, parts=1
  )
  assert choose('auto', 'cpu') is attention.BLOCKS
  assert choose('auto', 'tpu') is kernels.SPLASH
  assert choose('auto', 'gpu') is kernels.TRITON
  assert choose('blocks', 'tpu') is attention.BLOCKS
  assert choose('splash', 'tpu', parts=8) is kernels.SPLASH
  # Where a kernel cannot serve, 'auto' does without, its own name does not.
  assert choose('auto', 'tpu', head_dim=64) is attention.BLOCKS
  assert choose('auto', 'gpu', parts=2) is attention.BLOCKS
  with pytest.raises(ValueError, match='head_dim=64 is no multiple of 128'):
    choose('splash', 'tpu', head_dim=64)
  with pytest.raises(ValueError, match='64 tokens a device'):
    choose('splash', 'tpu', parts=16)
  with pytest.raises(ValueError, match='head_dim=96 is no power of two'):
    choose('triton', 'gpu', head_dim=96)
  with pytest.raises(ValueError, match='whole rows'):
    choose('triton', 'gpu', parts=2)
  with pytest.raises(ValueError, match='rows of 1000 tokens'):
    choose('triton', 'gpu', row_len=1000)
  with pytest.raises(ValueError, match="no attention 'ragged'; there are"):
    choose('ragged', 'tpu')
