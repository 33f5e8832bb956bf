import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers

masked_attention = jax.jit(layers.masked_attention)


def test_rms_norm_by_hand():
  # mean square of (3, 4) is 12.5; scaled by (1, 2).
  x = jnp.array([[3.0, 4.0]])
  normed = layers.rms_norm(x, jnp.array([1.0, 2.0]), eps=0.0)
  root = math.sqrt(12.5)
  np.testing.assert_allclose(normed, [[3 / root, 8 / root]], rtol=1e-6)


def test_rotation_by_hand():
  # head_dim 2, one pair, wavelength base^0 = 1: position 1 turns by 1 radian.
  sin, cos = layers.rotary_angles(jnp.array([[0, 1]]), 2, 1e6)
  x = jnp.broadcast_to(jnp.array([1.0, 0.0]), (1, 2, 1, 2))
  turned = layers.rotate(x, sin, cos)[0, :, 0]
  expected = [[1.0, 0.0], [math.cos(1), math.sin(1)]]
  np.testing.assert_allclose(turned, expected, rtol=1e-6)


def test_stretched_wavelengths_by_hand():
  # head_dim 6, base 1000: 1, 0.1 and 0.01 radians a position, so 20, 2 and 0.2
  # turns in 40 π positions. Above 4 turns a wave stays, below 1 it is 8 times
  # as long; of the second (2 - 1) / (4 - 1) = 1/3 stays: 1/3 + 2/3 / 8 = 5/12.
  scaling = model_config.RopeScaling(8.0, 1.0, 4.0, 40 * math.pi)
  sin, cos = layers.rotary_angles(jnp.array([[0, 2]]), 6, 1e3, scaling)
  angles = 2 * np.array([1, 0.1 * 5 / 12, 0.01 / 8])
  np.testing.assert_allclose(sin[0, 1, 0], np.sin(angles), rtol=1e-5)
  np.testing.assert_allclose(cos[0, 1, 0], np.cos(angles), rtol=1e-5)


@pytest.mark.parametrize('num_in', [1, 2])
def test_an_adapted_matrix_acts_as_the_sum(num_in):
  random = np.random.default_rng(0)

  def normal(*shape):
    return random.normal(size=shape).astype(np.float32)

  inner, outer = (2, 3, 4)[:num_in], (2, 3, 4)[num_in:]
  base, a, b = normal(*inner, *outer), normal(*inner, 5), normal(5, *outer)
  x = normal(7, *inner)
  adapted = layers.Adapted(base, a, b, 0.5)
  whole = base + 0.5 * np.tensordot(a, b, 1)
  np.testing.assert_allclose(
    layers.product(x, adapted, num_in),
    np.tensordot(x, whole, num_in),
    atol=1e-5,
  )


def test_rotary_scores_depend_on_distance_only():
  random = np.random.default_rng(0)
  q, k = np.float32(random.normal(size=(2, 1, 1, 1, 8)))

  @jax.jit
  def score(q_position, k_position):
    turned = [
      layers.rotate(x, *layers.rotary_angles(jnp.array([[p]]), 8, 1e4))
      for x, p in ((q, q_position), (k, k_position))
    ]
    return jnp.sum(turned[0] * turned[1])

  assert float(score(7, 3)) == pytest.approx(score(104, 100).item(), abs=1e-4)
  assert abs(score(7, 3) - score(7, 4)).item() > 1e-3


def test_attention_by_hand():
  # Scores 0 and ln 3: weights 1/4 and 3/4 of the values 8 and 4.
  q = np.ones((1, 1, 1, 1), np.float32)
  k = np.array([0.0, math.log(3)], np.float32).reshape(1, 2, 1, 1)
  v = np.array([8.0, 4.0], np.float32).reshape(1, 2, 1, 1)
  both = masked_attention(q, k, v, np.array([[[True, True]]]))
  assert both.item() == pytest.approx(5.0)
  first = masked_attention(q, k, v, np.array([[[True, False]]]))
  assert first.item() == pytest.approx(8.0)


def test_query_heads_read_the_kv_head_of_their_group():
  # 4 query heads, 2 kv heads whose values are 1 and 2: groups (0, 1), (2, 3).
  q, k = np.ones((1, 1, 4, 2)), np.ones((1, 1, 2, 2))
  v = np.broadcast_to(np.array([1.0, 2.0])[:, None], (1, 1, 2, 2))
  out = masked_attention(q, k, v, np.ones((1, 1, 1), bool))
  np.testing.assert_allclose(out[0, 0, :, 0], [1, 1, 2, 2])


def test_packed_segments_do_not_see_each_other():
  random = np.random.default_rng(0)
  q, k, v = np.float32(random.normal(size=(3, 1, 6, 2, 4)))
  segments = np.array([[1, 1, 1, 2, 2, 0]])
  positions = np.array([[0, 1, 2, 0, 1, 0]])

  @jax.jit
  def attend(segments, part_positions, *qkv):
    return layers.full_causal_attend(segments, part_positions)(0, *qkv, None)[0]

  packed = attend(segments, positions, q, k, v)
  for part in (slice(0, 3), slice(3, 5)):
    qkv = (x[:, part] for x in (q, k, v))
    alone = attend(None, positions[:, part], *qkv)
    np.testing.assert_allclose(packed[:, part], alone, atol=1e-6)
  np.testing.assert_array_equal(packed[:, 5], 0)


def test_padding_has_finite_gradients():
  segments, positions = np.array([[1, 0]]), np.array([[0, 0]])

  def total(q):
    attend = layers.full_causal_attend(segments, positions)
    return attend(0, q, q, q, None)[0].sum()

  gradient = jax.jit(jax.grad(total))(np.ones((1, 2, 1, 2), np.float32))
  assert np.isfinite(gradient).all()


def test_low_precision_keeps_its_type():
  def all_layers(x, scale, positions):
    x = layers.rms_norm(x, scale, 1e-6)
    x = layers.rotate(x, *layers.rotary_angles(positions, 4, 1e4))
    return layers.full_causal_attend(None, positions)(0, x, x, x, None)[0]

  x, scale = jnp.ones((1, 3, 2, 4), jnp.bfloat16), jnp.ones(4, jnp.bfloat16)
  out = jax.eval_shape(all_layers, x, scale, jnp.arange(3)[None])
  assert out.dtype == jnp.bfloat16
