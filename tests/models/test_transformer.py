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
def logits_of(params, tokens, remat='none', constrain=lambda x, axes: x):
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
  assert axes['layers']['out'] == ('layers', 'heads', 'head_dim', 'embed')


def test_the_key_decides_the_params(params):
  again = transformer.init_params(CONFIG, jax.random.key(0))
  other = transformer.init_params(CONFIG, jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, params, again)
  assert not np.array_equal(params['embedding'], other['embedding'])


def test_params_are_drawn_where_they_will_lie(params):
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  shardings = sharding.param_shardings(
    mesh, params, transformer.logical_axes(CONFIG), sharding.TRAIN_TABLE
  )
  drawn = transformer.init_params(CONFIG, jax.random.key(0), shardings)
  jax.tree.map(np.testing.assert_array_equal, drawn, params)
  for leaf in jax.tree.leaves(drawn):
    # Matrices lie on fsdp × tensor, norms of the stream on fsdp.
    parts = leaf.size // leaf.addressable_shards[0].data.size
    assert parts == (4 if leaf.ndim > 2 or leaf.shape == (32, 16) else parts)
    assert parts > 1 or leaf.shape == (1, 4)


def test_no_two_matrices_are_alike(params):
  drawn = {
    x.ravel()[:4].tobytes()
    for x in map(np.asarray, jax.tree.leaves(params))
    if x.std() > 0
  }
  assert len(drawn) == 8
  config = dataclasses.replace(CONFIG, num_layers=2)
  gate = transformer.init_params(config, jax.random.key(0))['layers']['gate']
  assert abs(np.corrcoef(gate[0].ravel(), gate[1].ravel())[0, 1]) < 0.2
  # Standard deviation 1 / sqrt(16); 384 numbers.
  np.testing.assert_allclose(gate[0].std(), 0.25, rtol=0.2)


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


def _loss(params, tokens, remat, config=CONFIG):
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
  hidden, _ = transformer.apply(
    config,
    params,
    tokens,
    positions,
    layers.full_causal_attend(None, positions),
    remat=remat,
  )
  return jnp.square(transformer.unembed(config, params, hidden)).mean()


def _lowered(num_layers, remat):
  """The gradient's program for 2 rows of 64 tokens."""
  config = dataclasses.replace(CONFIG, num_layers=num_layers)
  gradient = jax.grad(functools.partial(_loss, remat=remat, config=config))
  tokens = jax.ShapeDtypeStruct((2, 64), jnp.int32)
  return jax.jit(gradient).lower(transformer.param_shapes(config), tokens)


@pytest.mark.parametrize('remat', ['dots', 'block'])
def test_remat_changes_no_gradient(params, remat):
  gradient = jax.jit(jax.grad(_loss), static_argnums=2)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
    gradient(params, TOKENS, remat),
    gradient(params, TOKENS, 'none'),
  )


@pytest.mark.slow
def test_remat_saves_memory():
  held = {
    remat: _lowered(6, remat).compile().memory_analysis().temp_size_in_bytes
    for remat in transformer.REMAT
  }
  # Of each of six layers, 'none' keeps scores of 2 · 4 · 64 · 64 floats.
  assert held['none'] > held['dots'] + 6 * 4 * 2 * 4 * 64 * 64
  # 'dots' keeps what the weights make: 16 + 8 + 8 + 16 and 3 · 24 numbers a
  # token, or more than half of that; 'block' the stream alone.
  assert held['dots'] > held['block'] + 6 * 4 * 2 * 64 * 60


def test_an_unknown_remat_is_refused(params):
  with pytest.raises(ValueError, match='no remat'):
    logits_of(params, TOKENS, remat='all')


def test_the_program_does_not_grow_with_the_layers():
  two, eight = (_lowered(n, 'block').as_text() for n in (2, 8))
  assert two.count('\n') == eight.count('\n')


def test_unstacked_layers_are_the_scanned_ones():
  config = dataclasses.replace(CONFIG, num_layers=3)
  params = transformer.init_params(config, jax.random.key(0))

  @jax.jit
  def run(params):
    attend = layers.full_causal_attend(None, POSITIONS)
    return transformer.apply(config, params, TOKENS, POSITIONS, attend)[0]

  each = transformer.unstack(params)
  assert len(each['layers']) == 3
  np.testing.assert_allclose(run(params), run(each), rtol=1e-5, atol=1e-6)
  axes = transformer.unstacked_axes(config)
  ranks = jax.tree.map(lambda x, names: len(names) == x.ndim, each, axes)
  assert all(jax.tree.leaves(ranks))


def test_low_precision_sums_gradients_in_the_masters_type(params):
  def total(params):
    attend = layers.full_causal_attend(None, POSITIONS)
    hidden, _ = transformer.apply(
      CONFIG, params, TOKENS, POSITIONS, attend, dtype=jnp.bfloat16
    )
    return hidden.astype(jnp.float32).sum(), hidden

  gradient, hidden = jax.eval_shape(jax.grad(total, has_aux=True), params)
  assert hidden.dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(gradient)} == {jnp.dtype('float32')}


@pytest.mark.parametrize('sizes', [{'data': 2}, {'fsdp': 2, 'tensor': 2}])
def test_sharded_equals_unsharded(params, sizes):
  count = math.prod(sizes.values())
  mesh = sharding.make_mesh(jax.devices()[:count], **sizes)
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
