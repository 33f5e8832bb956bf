import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers, transformer

CONFIG = model_config.ModelConfig(
  vocab_size=32,
  embed_dim=16,
  mlp_dim=24,
  num_layers=1,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  max_context=64,
)
POSITIONS = jnp.broadcast_to(jnp.arange(12)[None], (2, 12))
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 32, (2, 12)))


@pytest.fixture(scope='module')
def params():
  return transformer.init_params(CONFIG, jax.random.key(0))


@functools.partial(jax.jit, static_argnames=('remat', 'constrain'))
def logits_of(params, tokens, remat=False, constrain=lambda x, axes: x):
  hidden, _ = transformer.apply(
    CONFIG,
    params,
    tokens,
    POSITIONS,
    layers.full_causal_attend(None, POSITIONS),
    constrain=constrain,
    remat=remat,
  )
  return transformer.unembed(CONFIG, params, hidden)


def test_number_of_parameters(params):
  # Embedding 32·16; a block: q 16·16, k and v 16·8, out 16·16, 3 · 16·24,
  # two norms of 16 and two of 4; the final norm 16.
  block = 256 + 128 + 128 + 256 + 3 * 384 + 2 * 16 + 2 * 4
  total = sum(x.size for x in jax.tree.leaves(params))
  assert total == 32 * 16 + block + 16
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))


def test_untied_adds_one_matrix():
  untied = dataclasses.replace(CONFIG, tied=False)
  shapes = transformer.param_shapes(untied)
  assert shapes['unembedding'].shape == (32, 16)
  assert 'unembedding' not in transformer.param_shapes(CONFIG)


def test_shapes_and_axes_have_the_tree_of_the_params(params):
  axes = transformer.logical_axes(CONFIG)
  shapes = transformer.param_shapes(CONFIG)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    lambda s: s.shape, shapes
  )
  ranks = jax.tree.map(
    lambda leaf, names: len(names) == leaf.ndim, params, axes
  )
  assert all(jax.tree.leaves(ranks))
  assert axes['layers']['0']['out'] == ('heads', 'head_dim', 'embed')


def test_the_key_decides_the_params(params):
  again = transformer.init_params(CONFIG, jax.random.key(0))
  other = transformer.init_params(CONFIG, jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, params, again)
  assert not np.array_equal(params['embedding'], other['embedding'])


def test_a_token_changes_nothing_before_it(params):
  changed = TOKENS.at[0, 7].set((TOKENS[0, 7] + 1) % 32)
  before, after = logits_of(params, TOKENS), logits_of(params, changed)
  np.testing.assert_array_equal(before[0, :7], after[0, :7])
  np.testing.assert_array_equal(before[1], after[1])
  assert np.abs(before[0, 7:] - after[0, 7:]).max(axis=-1).min() > 1e-4


def test_fresh_logits_are_nearly_uniform(params):
  # Embedding rows have norm 1, the final norm gives the stream norm sqrt(D):
  # logits have standard deviation about 1 for D large, and so ≲ 2 here.
  logits = logits_of(params, TOKENS)
  entropy = -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), -1)
  assert entropy.mean() > 0.6 * math.log(32)


def test_remat_is_asked_for_in_every_block(params):
  def loss(params, remat):
    return jnp.square(logits_of(params, TOKENS, remat=remat)).mean()

  def count(remat):
    trace = jax.make_jaxpr(jax.grad(loss), static_argnums=1)
    return str(trace(params, remat)).count('remat2[')

  # Block by block: the backward pass of one block holds one remat.
  assert count(False) == 0
  assert count(True) == CONFIG.num_layers


@pytest.mark.parametrize('shape', [(2, 1, 1), (1, 2, 2)])
def test_sharded_equals_unsharded(params, shape):
  mesh = sharding.make_mesh(shape, jax.devices()[: math.prod(shape)])
  axes = transformer.logical_axes(CONFIG)
  table = sharding.TRAIN_TABLE
  shardings = sharding.param_shardings(mesh, params, axes, table)
  tokens = jax.device_put(
    TOKENS,
    sharding.named_sharding(mesh, TOKENS.shape, ('batch', 'time'), table),
  )
  constrain = functools.partial(sharding.constrain, mesh=mesh, table=table)
  sharded = logits_of(
    jax.device_put(params, shardings), tokens, constrain=constrain
  )
  expected = logits_of(params, TOKENS)
  np.testing.assert_allclose(sharded, expected, atol=1e-5)


def test_bfloat16_params_give_float32_logits(params):
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  assert jax.eval_shape(logits_of, low, TOKENS).dtype == jnp.float32
