"""The policy: a Qwen3 or Llama decoder in Flax NNX, used as a params pytree.

NNX modules say what there is and what a block does; they are split once, and
from there on the package passes a nested dict of arrays and calls `apply`. The
parameters of all layers are one stack, [L, ...] each, that training scans;
decoding unstacks them. Where keys and values live is not the model's business:
`apply` is given an `attend` function, that of packed rows in training and the
paged one in the engine.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from wideseek_jax.models import config as model_config
from wideseek_jax.models import drawing, layers

Params = dict[str, Any]
# constrain(array, logical axis names) -> array; see sharding.constrain.
Constrain = Callable[[jax.Array, tuple[str | None, ...]], jax.Array]

# The matrices of a layer and how many of their axes come in; others go out.
NUM_IN = {
  'query': 1,
  'key': 1,
  'value': 1,
  'out': 2,
  'gate': 1,
  'up': 1,
  'down': 1,
}
RESIDUAL_AXES = ('batch', 'stream', None)

# What the backward pass finds of a block, beside the stream that entered it.
REMAT: dict[str, Callable[[Callable], Callable]] = {
  # All that it asks for: no second forward pass, the most memory.
  'none': lambda block: block,
  # The products with weights: norms, activations and attention, which cost
  # memory but little work, are computed again.
  'dots': functools.partial(
    jax.checkpoint,
    policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    prevent_cse=False,  # Inside of a scan there is nothing to prevent.
  ),
  # Nothing: the least memory, and a third more work.
  'block': functools.partial(jax.checkpoint, prevent_cse=False),
}


def _weight(
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  fan_in: int,
  gain: float = 1.0,
) -> nnx.Param:
  std = gain / math.sqrt(fan_in)
  return nnx.Param(jnp.zeros(shape), logical_axes=axes, std=std)


def _scale(size: int, axis: str) -> nnx.Param:
  return nnx.Param(jnp.ones(size), logical_axes=(axis,), std=None)


class Block(nnx.Module):
  """Attention and feed-forward, each behind a norm, added to the stream."""

  def __init__(self, config: model_config.ModelConfig):
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
    self.query = _weight((D, N, H), ('embed', 'heads', 'head_dim'), D)
    self.key = _weight((D, K, H), ('embed', 'kv_heads', 'head_dim'), D)
    self.value = _weight((D, K, H), ('embed', 'kv_heads', 'head_dim'), D)
    if c.qk_norm:
      self.query_norm = _scale(H, 'head_dim')
      self.key_norm = _scale(H, 'head_dim')
    self.out = _weight((N, H, D), ('heads', 'head_dim', 'embed'), N * H, gain)
    self.mlp_norm = _scale(D, 'embed')
    self.gate = _weight((D, F), ('embed', 'mlp'), D)
    self.up = _weight((D, F), ('embed', 'mlp'), D)
    self.down = _weight((F, D), ('mlp', 'embed'), F, gain)

  def __call__(self, x_BTD, layer, sin, cos, attend, cache):
    eps = self.config.norm_eps
    normed = layers.rms_norm(x_BTD, self.attn_norm[...], eps)
    q_BTNH = layers.product(normed, self.query.get_value())
    k_BTKH = layers.product(normed, self.key.get_value())
    v_BTKH = layers.product(normed, self.value.get_value())
    if self.config.qk_norm:
      q_BTNH = layers.rms_norm(q_BTNH, self.query_norm[...], eps)
      k_BTKH = layers.rms_norm(k_BTKH, self.key_norm[...], eps)
    q_BTNH = layers.rotate(q_BTNH, sin, cos)
    k_BTKH = layers.rotate(k_BTKH, sin, cos)
    out_BTNH, cache = attend(layer, q_BTNH, k_BTKH, v_BTKH, cache)
    x_BTD = x_BTD + layers.product(out_BTNH, self.out.get_value(), num_in=2)
    normed = layers.rms_norm(x_BTD, self.mlp_norm[...], eps)
    gated = layers.gated_mlp(
      normed,
      self.gate.get_value(),
      self.up.get_value(),
      self.down.get_value(),
    )
    return x_BTD + gated, cache


class Transformer(nnx.Module):
  """What the policy is made of, `layers` standing for each of them."""

  def __init__(self, config: model_config.ModelConfig):
    V, D = config.vocab_size, config.embed_dim
    self.embedding = _weight((V, D), ('vocab', 'embed'), D)
    self.layers = Block(config)
    self.final_norm = _scale(D, 'embed')
    if not config.tied:
      self.unembedding = _weight((V, D), ('vocab', 'embed'), D)


@functools.lru_cache
def _abstract(
  module: type[nnx.Module], config: model_config.ModelConfig
) -> tuple[nnx.GraphDef, Any]:
  return nnx.split(nnx.eval_shape(lambda: module(config)))


def _declared(
  config: model_config.ModelConfig, what: Callable[[nnx.Param], Any]
) -> Params:
  """The parameters' tree with what their declarations say of each."""
  state = _abstract(Transformer, config)[1]
  return nnx.to_pure_dict(nnx.map_state(lambda _, param: what(param), state))


def init_params(
  config: model_config.ModelConfig, key: jax.Array, shardings: Any = None
) -> Params:
  """Draws fresh parameters, each device's share where it will lie.

  Args:
    config: the model's shape.
    key: see `drawing.draw`.
    shardings: see `drawing.draw`.

  Returns:
    Nested dict of float32 arrays: embedding [V, D], layers.{attn_norm, query,
    key, value, query_norm, key_norm, out, mlp_norm, gate, up, down} [L, ...]
    (without query_norm and key_norm in a Llama), final_norm [D], and
    unembedding [V, D] if untied.
  """
  stds = _declared(config, lambda param: param.std)
  return drawing.draw(param_shapes(config), stds, key, shardings)


def param_shapes(config: model_config.ModelConfig) -> Params:
  """The parameters' tree with a jax.ShapeDtypeStruct for every array."""
  shapes = nnx.to_pure_dict(_abstract(Transformer, config)[1])
  stack = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((config.num_layers, *x.shape), x.dtype),
    shapes['layers'],
  )
  return shapes | {'layers': stack}


def logical_axes(config: model_config.ModelConfig) -> Params:
  """The parameters' tree with a tuple of logical axis names for every array."""
  axes = _declared(config, lambda param: param.logical_axes)
  stack = {name: ('layers', *mine) for name, mine in axes['layers'].items()}
  return axes | {'layers': stack}


def unstack(params: Params) -> Params:
  """The parameters with a tuple of layers, as decoding wants them."""
  stack = params['layers']
  count = len(stack['attn_norm'])
  each = tuple({k: x[i] for k, x in stack.items()} for i in range(count))
  return params | {'layers': each}


def unstacked_axes(config: model_config.ModelConfig) -> Params:
  """The tree of `unstack` with the logical axis names of every array."""
  axes = logical_axes(config)
  layer = {name: mine[1:] for name, mine in axes['layers'].items()}
  return axes | {'layers': (layer,) * config.num_layers}


def apply(
  config: model_config.ModelConfig,
  params: Params,
  tokens_BT: jax.Array,
  positions_BT: jax.Array,
  attend: layers.Attend,
  cache: Any = None,
  constrain: Constrain = lambda x, axes: x,
  remat: str = 'none',
  unroll: bool = False,
  dtype: jnp.dtype | None = None,
) -> tuple[jax.Array, Any]:
  """Reads tokens; returns what the output layer sees.

  Args:
    config: the model's shape.
    params: as from `init_params`, whose layers are scanned, so that the
      program does not grow with them; or as from `unstack`, one layer's code
      after the other's.
    tokens_BT: int32 token ids.
    positions_BT: int32 positions, from 0 in each sequence.
    attend: where keys and values live (`layers.Attend`).
    cache: handed to `attend` layer by layer, as it returns it.
    constrain: shards the residual stream (`sharding.constrain` with its mesh
      and table filled in).
    remat: one of REMAT, what the backward pass computes again.
    unroll: write the scan out, layer by layer: a CPU's loops copy what they
      carry. XLA would then undo a remat.
    dtype: of the computation, the parameters' if None. They are cast where
      they are used, so their gradients are summed in their own type.

  Returns:
    (hidden_BTD after the final norm, cache).

  Raises:
    ValueError: there is no such remat.
  """
  if remat not in REMAT:
    raise ValueError(f'no remat {remat!r}; there are {tuple(REMAT)}')
  graph, _ = _abstract(Block, config)
  sin, cos = layers.rotary_angles(
    positions_BT, config.head_dim, config.rope_theta, config.rope_scaling
  )

  @REMAT[remat]
  def run(stream, layer, weights):
    x_BTD, cache = stream
    weights = jax.tree.map(lambda w: w.astype(x_BTD.dtype), weights)
    block = nnx.merge(graph, weights)
    x_BTD, cache = block(x_BTD, layer, sin, cos, attend, cache)
    return constrain(x_BTD, RESIDUAL_AXES), cache

  x_BTD = params['embedding'][tokens_BT]
  x_BTD = constrain(x_BTD.astype(dtype or x_BTD.dtype), RESIDUAL_AXES)
  stream = (x_BTD, cache)
  if isinstance(params['layers'], tuple):
    for layer, weights in enumerate(params['layers']):
      stream = run(stream, layer, weights)
  else:
    stream, _ = jax.lax.scan(
      lambda stream, inputs: (run(stream, *inputs), None),
      stream,
      (jnp.arange(config.num_layers), params['layers']),
      unroll=config.num_layers if unroll else 1,
    )
  x_BTD, cache = stream
  final_norm = params['final_norm'].astype(x_BTD.dtype)
  return layers.rms_norm(x_BTD, final_norm, config.norm_eps), cache


def gather_tables(params: Params, constrain: Constrain) -> Params:
  """The parameters with whole vectors of tokens on every device, once.

  Where a table is cut across its vectors, looking one up (and then laying the
  stream out by rows) or a product with it would send far more.
  """
  tables = {
    name: constrain(params[name], ('vocab', None))
    for name in ('embedding', 'unembedding')
    if name in params
  }
  return params | tables


def unembed(
  config: model_config.ModelConfig, params: Params, hidden: jax.Array
) -> jax.Array:
  """Logits, float32 [..., V], of hidden states [..., D], in their type."""
  table_VD = params['embedding' if config.tied else 'unembedding']
  return jnp.einsum(
    '...D,VD->...V',
    hidden,
    table_VD.astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )
