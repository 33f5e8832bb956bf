"""The policy: a Qwen3 decoder as Flax NNX, used as a pytree of parameters.

`init_params` makes the NNX module and splits it once; from there on the
package passes a nested dict of arrays and calls `apply`. Where keys and values
live is not the model's business: `apply` is given an `attend` function, the
whole-row one of `models.layers` in training and the paged one in the engine.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers

Params = dict[str, Any]
# constrain(array, logical axis names) -> array; see sharding.constrain.
Constrain = Callable[[jax.Array, tuple[str | None, ...]], jax.Array]

# draw(shape, standard deviation) -> normal numbers.
Draw = Callable[[tuple[int, ...], float], jax.Array]

RESIDUAL_AXES = ('batch', 'time', None)


def _weight(
  draw: Draw,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  fan_in: int,
  gain: float = 1.0,
) -> nnx.Param:
  return nnx.Param(draw(shape, gain / math.sqrt(fan_in)), logical_axes=axes)


def _scale(size: int, axis: str) -> nnx.Param:
  return nnx.Param(jnp.ones(size), logical_axes=(axis,))


class Block(nnx.Module):
  """Attention and feed-forward, each behind a norm, added to the stream."""

  def __init__(self, config: model_config.ModelConfig, draw: Draw):
    c = config
    D, F, N, K, H = (
      c.embed_dim,
      c.mlp_dim,
      c.num_heads,
      c.num_kv_heads,
      c.head_dim,
    )
    # The two layers that write to the stream start small: their 2L outputs
    # then add up to the variance of one.
    gain = 1 / math.sqrt(2 * c.num_layers)
    self.config = config
    self.attn_norm = _scale(D, 'embed')
    self.query = _weight(draw, (D, N, H), ('embed', 'heads', 'head_dim'), D)
    self.key = _weight(draw, (D, K, H), ('embed', 'kv_heads', 'head_dim'), D)
    self.value = _weight(draw, (D, K, H), ('embed', 'kv_heads', 'head_dim'), D)
    self.query_norm = _scale(H, 'head_dim')
    self.key_norm = _scale(H, 'head_dim')
    self.out = _weight(
      draw, (N, H, D), ('heads', 'head_dim', 'embed'), N * H, gain
    )
    self.mlp_norm = _scale(D, 'embed')
    self.gate = _weight(draw, (D, F), ('embed', 'mlp'), D)
    self.up = _weight(draw, (D, F), ('embed', 'mlp'), D)
    self.down = _weight(draw, (F, D), ('mlp', 'embed'), F, gain)

  def __call__(self, x_BTD, layer, sin, cos, attend, cache):
    eps = self.config.norm_eps
    normed = layers.rms_norm(x_BTD, self.attn_norm[...], eps)
    q_BTNH = jnp.einsum('BTD,DNH->BTNH', normed, self.query[...])
    k_BTKH = jnp.einsum('BTD,DKH->BTKH', normed, self.key[...])
    v_BTKH = jnp.einsum('BTD,DKH->BTKH', normed, self.value[...])
    q_BTNH = layers.rms_norm(q_BTNH, self.query_norm[...], eps)
    k_BTKH = layers.rms_norm(k_BTKH, self.key_norm[...], eps)
    q_BTNH = layers.rotate(q_BTNH, sin, cos)
    k_BTKH = layers.rotate(k_BTKH, sin, cos)
    out_BTNH, cache = attend(layer, q_BTNH, k_BTKH, v_BTKH, cache)
    x_BTD = x_BTD + jnp.einsum('BTNH,NHD->BTD', out_BTNH, self.out[...])
    normed = layers.rms_norm(x_BTD, self.mlp_norm[...], eps)
    gate, up, down = self.gate[...], self.up[...], self.down[...]
    return x_BTD + layers.gated_mlp(normed, gate, up, down), cache


class Transformer(nnx.Module):
  """Embedding, blocks and final norm; `unembed` is the output layer."""

  def __init__(self, config: model_config.ModelConfig, draw: Draw):
    V, D = config.vocab_size, config.embed_dim
    self.config = config
    self.embedding = _weight(draw, (V, D), ('vocab', 'embed'), D)
    self.layers = nnx.Dict(
      {str(i): Block(config, draw) for i in range(config.num_layers)}
    )
    self.final_norm = _scale(D, 'embed')
    if not config.tied:
      self.unembedding = _weight(draw, (V, D), ('vocab', 'embed'), D)

  def __call__(self, tokens_BT, positions_BT, attend, cache, constrain, remat):
    c = self.config
    sin, cos = layers.rotary_angles(positions_BT, c.head_dim, c.rope_theta)
    x_BTD = constrain(self.embedding[...][tokens_BT], RESIDUAL_AXES)
    for layer in range(c.num_layers):
      block = self.layers[str(layer)]

      def run(x_BTD, cache, block=block, layer=layer):
        return block(x_BTD, layer, sin, cos, attend, cache)

      x_BTD, cache = (jax.checkpoint(run) if remat else run)(x_BTD, cache)
      x_BTD = constrain(x_BTD, RESIDUAL_AXES)
    return layers.rms_norm(x_BTD, self.final_norm[...], c.norm_eps), cache


@functools.lru_cache
def _abstract(config: model_config.ModelConfig) -> tuple[nnx.GraphDef, Any]:
  model = nnx.eval_shape(
    lambda: Transformer(config, lambda shape, _: jnp.zeros(shape))
  )
  return nnx.split(model)


def init_params(config: model_config.ModelConfig, key: jax.Array) -> Params:
  """Draws fresh parameters.

  Args:
    config: the model's shape.
    key: a JAX random key; not a traced one, the draw is the host's.

  Returns:
    Nested dict of float32 arrays: embedding [V, D], layers.{i}.{attn_norm,
    query, key, value, query_norm, key_norm, out, mlp_norm, gate, up, down},
    final_norm [D], and unembedding [V, D] if untied.
  """
  # NumPy's generator: XLA takes seconds to compile a draw for every shape.
  generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))

  def draw(shape: tuple[int, ...], std: float) -> jax.Array:
    normal = generator.standard_normal(shape, np.float32)
    return jnp.asarray(normal * np.float32(std))

  model = Transformer(config, draw)
  return nnx.to_pure_dict(nnx.split(model)[1])


def param_shapes(config: model_config.ModelConfig) -> Params:
  """The parameters' tree with a jax.ShapeDtypeStruct for every array."""
  return nnx.to_pure_dict(_abstract(config)[1])


def logical_axes(config: model_config.ModelConfig) -> Params:
  """The parameters' tree with a tuple of logical axis names for every array."""
  state = _abstract(config)[1]
  axes = nnx.map_state(lambda _, p: p.get_metadata('logical_axes'), state)
  return nnx.to_pure_dict(axes)


def apply(
  config: model_config.ModelConfig,
  params: Params,
  tokens_BT: jax.Array,
  positions_BT: jax.Array,
  attend: layers.Attend,
  cache: Any = None,
  constrain: Constrain = lambda x, axes: x,
  remat: bool = False,
) -> tuple[jax.Array, Any]:
  """Reads tokens; returns what the output layer sees.

  Args:
    config: the model's shape.
    params: as from `init_params`, in any float type: it sets the type of the
      computation.
    tokens_BT: int32 token ids.
    positions_BT: int32 positions, from 0 in each sequence.
    attend: where keys and values live (`layers.Attend`).
    cache: handed to `attend` layer by layer, as it returns it.
    constrain: shards the residual stream (`sharding.constrain` with its mesh
      and table filled in).
    remat: recompute each block in the backward pass instead of storing it.

  Returns:
    (hidden_BTD after the final norm, cache).
  """
  model = nnx.merge(_abstract(config)[0], params)
  return model(tokens_BT, positions_BT, attend, cache, constrain, remat)


def unembed(
  config: model_config.ModelConfig, params: Params, hidden: jax.Array
) -> jax.Array:
  """Logits, float32 [..., V], of hidden states [..., D]."""
  table_VD = params['embedding' if config.tied else 'unembedding']
  return jnp.einsum(
    '...D,VD->...V', hidden, table_VD, preferred_element_type=jnp.float32
  )
