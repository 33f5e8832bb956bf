"""The parts of a transformer block, and the attention of whole rows.

Arrays come in, arrays leave. Sums that lose precision (mean squares, softmax,
rotary angles) are float32 whatever the parameters' type; the rest follows the
parameters. `full_causal_attend` is the reference of attention: training uses
it on packed rows and the engine's cached attention is tested against it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax.models import config as model_config

# attend(layer, q_BTNH, k_BTKH, v_BTKH, cache) -> (out_BTNH, cache): decides
# where keys and values live and which of them a query sees.
Attend = Callable[
  [int, jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapted:
  """A matrix W that acts as W + scale · A B (arXiv 2106.09685 §4.1).

  Attributes:
    base: W [..., *in, *out].
    a: A [..., *in, R].
    b: B [..., R, *out].
    scale: of the product.
  """

  base: jax.Array
  a: jax.Array
  b: jax.Array
  scale: float = dataclasses.field(metadata={'static': True})


def product(
  x: jax.Array, matrix: jax.Array | Adapted, num_in: int = 1
) -> jax.Array:
  """Sums over the last num_in axes of x and the first num_in of the matrix.

  A B is never formed, nor is the gradient of W where only A and B have one.
  """
  if isinstance(matrix, Adapted):
    thin = matrix.scale * product(x, matrix.a, num_in)
    return product(x, matrix.base, num_in) + product(thin, matrix.b)
  return jnp.tensordot(x, matrix, num_in)


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
  """x / rms(x) * scale over the last axis (arXiv 1910.07467).

  Args:
    x: [..., D], any float type.
    scale: [D].
    eps: added to the mean square.

  Returns:
    [..., D] in x's type.
  """
  x32 = x.astype(jnp.float32)
  mean_square = jnp.mean(x32 * x32, axis=-1, keepdims=True)
  normed = (x32 * jax.lax.rsqrt(mean_square + eps)).astype(x.dtype)
  return normed * jnp.broadcast_to(scale, x.shape)


def rotary_angles(
  positions_BT: jax.Array,
  head_dim: int,
  theta: float,
  scaling: model_config.RopeScaling | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Sine and cosine, float32 [B, T, 1, H/2], of each position's rotations."""
  exponent = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  frequency = 1.0 / theta**exponent
  if scaling is not None:
    # Short waves stay, long ones are stretched; in between the part that stays
    # grows with the turns that a wave makes within the first context.
    turns = scaling.original_context * frequency / (2 * math.pi)
    span = scaling.high_factor - scaling.low_factor
    stays = jnp.clip((turns - scaling.low_factor) / span, 0.0, 1.0)
    frequency = frequency * (stays + (1.0 - stays) / scaling.factor)
  angle = positions_BT[:, :, None, None] * frequency[None, None, None, :]
  return jnp.sin(angle), jnp.cos(angle)


def rotate(x_BTNH: jax.Array, sin: jax.Array, cos: jax.Array) -> jax.Array:
  """Rotary embedding (arXiv 2104.09864) of half-split pairs (i, i + H/2)."""
  first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
  turned = (first * cos - second * sin, second * cos + first * sin)
  return jnp.concatenate(turned, axis=-1).astype(x_BTNH.dtype)


def gated_mlp(
  x_BTD: jax.Array,
  gate_DF: jax.Array | Adapted,
  up_DF: jax.Array | Adapted,
  down_FD: jax.Array | Adapted,
) -> jax.Array:
  """SwiGLU: (silu(x gate) * (x up)) down (arXiv 2002.05202)."""
  gate_BTF, up_BTF = product(x_BTD, gate_DF), product(x_BTD, up_DF)
  return product(jax.nn.silu(gate_BTF) * up_BTF, down_FD)


def masked_attention(
  q_BTNH: jax.Array,
  k_BSKH: jax.Array,
  v_BSKH: jax.Array,
  mask_BTS: jax.Array,
) -> jax.Array:
  """Grouped-query attention with an explicit mask; float32 softmax.

  Args:
    q_BTNH: queries; query head n reads kv head n // (N / K).
    k_BSKH: keys.
    v_BSKH: values.
    mask_BTS: bool, True where a query sees a key.

  Returns:
    [B, T, N, H] in q's type; zeros where a query sees nothing (padding).
  """
  B, T, N, H = q_BTNH.shape
  K = k_BSKH.shape[2]
  q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H)
  scores = jnp.einsum(
    'BTKGH,BSKH->BKGTS',
    q_BTKGH,
    k_BSKH,
    preferred_element_type=jnp.float32,
  )
  mask = mask_BTS[:, None, None, :, :]
  scores = jnp.where(mask, scores / math.sqrt(H), -jnp.inf)
  # A padding query sees nothing: subtract 0 rather than -inf, divide by 1.
  top = jnp.max(scores, axis=-1, keepdims=True, initial=-1e30)
  weights = jnp.exp(scores - jax.lax.stop_gradient(top))
  total = jnp.sum(weights, axis=-1, keepdims=True)
  weights = weights / jnp.where(total == 0, 1.0, total)
  out = jnp.einsum('BKGTS,BSKH->BTKGH', weights.astype(v_BSKH.dtype), v_BSKH)
  return out.reshape(B, T, N, H).astype(q_BTNH.dtype)


def full_causal_attend(
  segment_ids_BT: jax.Array | None, positions_BT: jax.Array
) -> Attend:
  """Attention of whole rows, without a cache.

  Args:
    segment_ids_BT: int32, which packed sequence a token belongs to, 0 for
      padding (which sees and is seen by nothing); None for one sequence a row.
    positions_BT: int32 positions inside the token's own sequence.

  Returns:
    An attend function: a query sees the keys of its own segment at positions
    up to its own. The cache passes through untouched.
  """
  mask_BTS = positions_BT[:, :, None] >= positions_BT[:, None, :]
  if segment_ids_BT is not None:
    same = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
    mask_BTS = mask_BTS & same & (segment_ids_BT[:, :, None] > 0)

  def attend(layer, q_BTNH, k_BTKH, v_BTKH, cache):
    del layer
    return masked_attention(q_BTNH, k_BTKH, v_BTKH, mask_BTS), cache

  return attend
