import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from wideseek_jax import sharding, testing
from wideseek_jax.models import hf, layers, lora, transformer

LORA = lora.Lora(rank=3, alpha=6.0)  # scale 2
CONFIG, PARAMS = testing.small_model()
FROZEN = lora.Frozen(PARAMS, LORA)
TOKENS = np.arange(12, dtype=np.int32).reshape(2, 6) * 7


def random_adapters(spec=LORA):
  """Adapters that change something: the drawn b are zeros."""
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: random.normal(0, 0.1, x.shape).astype(np.float32),
    lora.adapter_shapes(CONFIG, spec),
  )


@jax.jit
def logits_of(params):
  positions = jnp.broadcast_to(jnp.arange(6)[None], (2, 6))
  attend = layers.full_causal_attend(None, positions)
  hidden, _ = transformer.apply(CONFIG, params, TOKENS, positions, attend)
  return transformer.unembed(CONFIG, params, hidden)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rank': 0}, 'lora.rank=0'),
    ({'targets': ()}, 'lora.targets'),
    ({'targets': ('query', 'embedding')}, "'embedding'"),
    ({'base_dtype': 'int8'}, "lora.base_dtype 'int8'"),
  ],
)
def test_bad_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    lora.Lora(**({'rank': 2} | options))


def test_shapes_axes_and_draw():
  adapters = lora.init_adapters(CONFIG, LORA, jax.random.key(0))
  shapes = jax.tree.map(jnp.shape, adapters, is_leaf=lambda x: hasattr(x, 'at'))
  # 2 layers, width 32, 4 heads of 8, 2 kv heads, mlp 64, rank 3.
  assert shapes == {
    'query': {'a': (2, 32, 3), 'b': (2, 3, 4, 8)},
    'key': {'a': (2, 32, 3), 'b': (2, 3, 2, 8)},
    'value': {'a': (2, 32, 3), 'b': (2, 3, 2, 8)},
    'out': {'a': (2, 4, 8, 3), 'b': (2, 3, 32)},
    'gate': {'a': (2, 32, 3), 'b': (2, 3, 64)},
    'up': {'a': (2, 32, 3), 'b': (2, 3, 64)},
    'down': {'a': (2, 64, 3), 'b': (2, 3, 32)},
  }
  axes = lora.adapter_axes(CONFIG, LORA)
  assert axes['out'] == {
    'a': ('layers', 'heads', 'head_dim', 'rank'),
    'b': ('layers', 'rank', 'embed'),
  }
  for pair in adapters.values():
    assert not np.any(pair['b'])
    # Standard deviation 1 / sqrt(32), or 1 / sqrt(64) of down.
    fan_in = math.prod(pair['a'].shape[1:-1])
    np.testing.assert_allclose(np.std(pair['a']), fan_in**-0.5, rtol=0.2)


def test_adapters_lie_like_the_matrices_they_change():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  shardings = sharding.param_shardings(
    mesh,
    lora.adapter_shapes(CONFIG, LORA),
    lora.adapter_axes(CONFIG, LORA),
    sharding.TRAIN_TABLE,
  )
  drawn = lora.init_adapters(CONFIG, LORA, jax.random.key(0), shardings)
  plain = lora.init_adapters(CONFIG, LORA, jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, drawn, plain)
  P, embed = jax.sharding.PartitionSpec, ('fsdp', 'context')
  specs = jax.tree.map(lambda x: x.sharding.spec, drawn)
  assert specs['gate'] == {'a': P(None, embed), 'b': P(None, None, 'tensor')}
  assert specs['down'] == {'a': P(None, 'tensor'), 'b': P(None, None, embed)}


def test_fresh_adapters_change_no_bit():
  adapters = lora.init_adapters(CONFIG, LORA, jax.random.key(0))
  np.testing.assert_array_equal(
    logits_of(lora.join(FROZEN, adapters)), logits_of(PARAMS)
  )


def test_merged_equals_joined():
  adapters = random_adapters()
  joined = logits_of(lora.join(FROZEN, adapters))
  merged = lora.merge(FROZEN, adapters)
  np.testing.assert_allclose(logits_of(merged), joined, atol=1e-5)
  assert np.abs(joined - logits_of(PARAMS)).max() > 0.1
  # W + 6/3 · A B of a layer; what has no adapter is the base's own.
  a, b = np.asarray(adapters['up']['a'][1]), np.asarray(adapters['up']['b'][1])
  up = np.asarray(PARAMS['layers']['up'][1]) + 2 * a @ b
  np.testing.assert_allclose(merged['layers']['up'][1], up, atol=1e-6)
  assert merged['embedding'] is PARAMS['embedding']
  assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)


def test_without_adapters_nothing_is_done():
  assert lora.join(None, PARAMS) is PARAMS
  merged = lora.merge(None, PARAMS)
  assert all(map(lambda a, b: a is b, *map(jax.tree.leaves, (merged, PARAMS))))


def test_a_low_precision_base_is_added_to_in_float32():
  low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  # Far below the last bit of a bfloat16.
  tiny = jax.tree.map(lambda x: x / 100, random_adapters())
  merged = lora.merge(lora.Frozen(low, LORA), tiny)['layers']['gate']
  assert merged.dtype == jnp.float32
  change = merged - low['layers']['gate'].astype(jnp.float32)
  expected = 2 * np.matmul(tiny['gate']['a'], tiny['gate']['b'])
  np.testing.assert_allclose(change, expected, atol=1e-7)


def test_merged_lies_like_its_base():
  mesh = sharding.make_mesh(jax.devices()[:4], fsdp=2, tensor=2)
  axes = transformer.logical_axes(CONFIG)
  table = sharding.TRAIN_TABLE
  shardings = sharding.param_shardings(mesh, PARAMS, axes, table)
  base = jax.device_put(PARAMS, shardings)
  replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  adapters = jax.device_put(random_adapters(), replicated)
  merged = lora.merge(lora.Frozen(base, LORA), adapters)
  assert jax.tree.map(lambda x: x.sharding, merged) == shardings


@pytest.mark.parametrize('targets', [('out', 'down'), LORA.targets])
def test_peft_layout(tmp_path, targets):
  """What peft would add, computed from the file, is what merging adds."""
  spec = dataclasses.replace(LORA, targets=targets)
  adapters = random_adapters(spec)
  hf.save_adapters(tmp_path / 'adapters', adapters, spec, 'the base')
  merged = lora.merge(lora.Frozen(PARAMS, spec), adapters)
  for folder, params in (('base', PARAMS), ('merged', merged)):
    hf.save_pretrained(tmp_path / folder, CONFIG, params, jnp.float32)
  fields, tensors = (
    json.loads((tmp_path / 'adapters/adapter_config.json').read_text()),
    safetensors.numpy.load_file(
      tmp_path / 'adapters/adapter_model.safetensors'
    ),
  )
  assert fields['base_model_name_or_path'] == 'the base'
  modules = [name.removesuffix('.lora_A.weight') for name in tensors]
  modules = [name for name in modules if not name.endswith('.weight')]
  assert {m.split('.')[-1] for m in modules} == set(fields['target_modules'])
  assert len(modules) == 2 * len(targets)
  weights = safetensors.numpy.load_file(tmp_path / 'base/model.safetensors')
  expected = safetensors.numpy.load_file(tmp_path / 'merged/model.safetensors')
  scale = fields['lora_alpha'] / fields['r']
  for module in modules:
    name = module.removeprefix('base_model.model.') + '.weight'
    a, b = (tensors[f'{module}.lora_{f}.weight'] for f in 'AB')
    assert len(a) == b.shape[1] == fields['r'] == 3
    weights[name] = weights[name] + scale * b @ a
  for name, weight in expected.items():
    np.testing.assert_allclose(weights[name], weight, atol=1e-6)
