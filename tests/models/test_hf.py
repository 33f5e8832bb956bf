import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import hf, layers, transformer

REFERENCE = pathlib.Path(__file__).parents[1] / 'data' / 'hf_reference.npz'
CONFIG = model_config.ModelConfig(
  vocab_size=12,
  embed_dim=8,
  mlp_dim=10,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=6,
  max_context=32,
)


@pytest.fixture(scope='module')
def params():
  return transformer.init_params(CONFIG, jax.random.key(0))


def rewrite(folder, change):
  path = folder / 'model.safetensors'
  safetensors.numpy.save_file(change(safetensors.numpy.load_file(path)), path)


@pytest.mark.parametrize(
  'kind', ['qwen3_tied', 'qwen3_untied', 'llama_tied', 'llama_untied']
)
def test_logits_equal_those_of_torch(tmp_path, kind):
  arrays = np.load(REFERENCE)
  (tmp_path / 'config.json').write_text(str(arrays[f'{kind}/config']))
  prefix = f'{kind}/weights_32/'  # stored as int8, in units of 1/32
  weights = {
    name.removeprefix(prefix): arrays[name].astype(np.float32) / 32
    for name in arrays.files
    if name.startswith(prefix)
  }
  safetensors.numpy.save_file(weights, tmp_path / 'model.safetensors')
  config, params = hf.load_pretrained(tmp_path)
  family, tied = kind.split('_')
  assert config.tied == (tied == 'tied')
  assert config.qk_norm == (family == 'qwen3')
  tokens = jnp.asarray(arrays[f'{kind}/ids'])
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)

  @jax.jit
  def logits_of(params):
    attend = layers.full_causal_attend(None, positions)
    hidden, _ = transformer.apply(config, params, tokens, positions, attend)
    return transformer.unembed(config, params, hidden)

  logits = logits_of(params)
  expected = arrays[f'{kind}/logits']
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  # And back: the tensors that torch wrote.
  hf.save_pretrained(tmp_path / 'again', config, params, jnp.float32)
  again = safetensors.numpy.load_file(tmp_path / 'again/model.safetensors')
  assert again.keys() == weights.keys()
  for name, tensor in weights.items():
    np.testing.assert_array_equal(again[name], tensor)


@pytest.mark.parametrize('max_file_bytes', [1 << 20, 2000])
def test_round_trip(tmp_path, params, max_file_bytes):
  hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32, max_file_bytes)
  files = sorted(path.name for path in tmp_path.iterdir())
  if max_file_bytes == 2000:
    index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
    num_params = sum(x.size for x in jax.tree.leaves(params))
    assert index['metadata']['total_size'] == 4 * num_params
    assert len(files) > 3
  else:
    assert files == ['config.json', 'model.safetensors']
  config, loaded = hf.load_pretrained(tmp_path)
  assert config == CONFIG
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_short_storage_rounds(tmp_path, params, dtype):
  hf.save_pretrained(tmp_path, CONFIG, params, dtype)
  fields = json.loads((tmp_path / 'config.json').read_text())
  assert fields['dtype'] == dtype
  _, loaded = hf.load_pretrained(tmp_path)
  rounded = jax.tree.map(lambda x: x.astype(dtype).astype('float32'), params)
  jax.tree.map(np.testing.assert_array_equal, loaded, rounded)
  _, kept = hf.load_pretrained(tmp_path, dtype=dtype)
  assert {x.dtype for x in jax.tree.leaves(kept)} == {jnp.dtype(dtype)}


def test_other_storage_types_are_refused(tmp_path, params):
  with pytest.raises(ValueError, match='int8 is none of'):
    hf.save_pretrained(tmp_path / 'new', CONFIG, params, jnp.int8)
  assert not (tmp_path / 'new').exists()


def test_a_save_replaces_one_with_other_files(tmp_path, params):
  doubled = jax.tree.map(lambda x: 2 * x, params)
  for changed, most in ((params, 2000), (doubled, 1 << 20), (params, 2000)):
    hf.save_pretrained(tmp_path, CONFIG, changed, jnp.float32, most)
    _, loaded = hf.load_pretrained(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, loaded, changed)


def test_loads_to_its_sharding(tmp_path, params):
  hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32)
  mesh = sharding.make_mesh(jax.devices()[:4], fsdp=2, tensor=2)
  shardings = sharding.param_shardings(
    mesh, params, transformer.logical_axes(CONFIG), sharding.TRAIN_TABLE
  )
  _, loaded = hf.load_pretrained(tmp_path, shardings)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  gate = loaded['layers']['gate']
  spec = jax.sharding.PartitionSpec(None, ('fsdp', 'context'), 'tensor')
  assert gate.sharding.spec == spec


def test_only_the_parts_of_the_devices_are_read(tmp_path, params, monkeypatch):
  hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  shardings = sharding.param_shardings(
    mesh, params, transformer.logical_axes(CONFIG), sharding.TRAIN_TABLE
  )
  make_array, most = sharding.make_array, {}

  def spy(shape, target, read):
    def counted(index):
      part = read(index)
      most[shape] = max(most.get(shape, 0), part.size)
      return part

    return make_array(shape, target, counted)

  monkeypatch.setattr(sharding, 'make_array', spy)
  _, loaded = hf.load_pretrained(tmp_path, shardings)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)
  # Of the matrices a quarter: fsdp × tensor; of every kind of array some.
  assert len(most) == len({x.shape for x in jax.tree.leaves(params)})
  for shape, size in most.items():
    if len(shape) > 2 or shape == (12, 8):
      assert size == np.prod(shape) // 4
  for leaf in jax.tree.leaves(loaded):
    assert leaf.addressable_shards[0].data.size <= most[leaf.shape]


def test_params_of_another_config_are_not_saved(tmp_path, params):
  with pytest.raises(ValueError, match=r'missing.*final_norm'):
    hf.save_pretrained(tmp_path, CONFIG, {'embedding': params['embedding']})
  wrong = params | {'final_norm': jnp.ones(9)}
  with pytest.raises(ValueError, match=r'final_norm has shape \(9,\)'):
    hf.save_pretrained(tmp_path, CONFIG, wrong)
  assert not (tmp_path / 'config.json').exists()


def test_a_tied_checkpoint_may_repeat_its_embedding(tmp_path, params):
  hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32)
  embedding = np.asarray(params['embedding'])
  rewrite(tmp_path, lambda tensors: tensors | {'lm_head.weight': embedding})
  _, loaded = hf.load_pretrained(tmp_path)
  np.testing.assert_array_equal(loaded['embedding'], embedding)
  rewrite(tmp_path, lambda tensors: tensors | {'lm_head.weight': embedding + 1})
  with pytest.raises(ValueError, match=r'lm_head\.weight differs'):
    hf.load_pretrained(tmp_path)


def test_rotary_buffers_of_old_folders_are_passed_over(tmp_path, params):
  hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32)
  name = 'model.layers.0.self_attn.rotary_emb.inv_freq'
  rewrite(tmp_path, lambda tensors: tensors | {name: np.ones(3, np.float32)})
  _, loaded = hf.load_pretrained(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_other_users_can_read_the_weights(tmp_path, params):
  hf.save_pretrained(tmp_path, CONFIG, params)
  assert all(
    path.stat().st_mode & 0o044 == 0o044 for path in tmp_path.iterdir()
  )


def test_a_failed_save_leaves_the_old_file(tmp_path, params, monkeypatch):
  hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

  def fail(tensors, path, metadata):
    pathlib.Path(path).write_bytes(b'half')
    raise OSError('disk full')

  monkeypatch.setattr(safetensors.numpy, 'save_file', fail)
  with pytest.raises(OSError, match='disk full'):
    hf.save_pretrained(tmp_path, CONFIG, params, jnp.float32)
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
