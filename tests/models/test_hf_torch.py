"""Equal logits in transformers and here, and the other way round.

Needs torch, of the dev extra; test_hf.py holds the same against logits that
torch left in a file.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.models import config as model_config
from wideseek_jax.models import hf, layers, lora, transformer

NEEDS = "needs torch: pip install 'wideseek_jax[dev]'"
torch = pytest.importorskip('torch', reason=NEEDS)
transformers = pytest.importorskip('transformers', reason=NEEDS)
# What other packages warn of is not ours.
pytestmark = pytest.mark.filterwarnings('default')

QWEN3 = model_config.ModelConfig(
  vocab_size=24,
  embed_dim=16,
  mlp_dim=24,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  rope_theta=300.0,
  max_context=256,
)
# Of its waves one stays, one is stretched in part and two whole.
SCALED = model_config.RopeScaling(4.0, 1.0, 4.0, 64)
LLAMA = dataclasses.replace(QWEN3, qk_norm=False)
CONFIGS = {
  'qwen3 tied': QWEN3,
  'qwen3 untied': dataclasses.replace(QWEN3, tied=False, rope_theta=1e6),
  'llama tied': LLAMA,
  'llama untied': dataclasses.replace(LLAMA, tied=False),
  'llama scaled': dataclasses.replace(LLAMA, tied=False, rope_scaling=SCALED),
  'qwen3 scaled': dataclasses.replace(QWEN3, rope_scaling=SCALED),
}
IDS = np.random.default_rng(0).integers(0, 24, (2, 40))


def our_logits(config, params):
  positions = jnp.broadcast_to(jnp.arange(IDS.shape[1])[None], IDS.shape)

  @jax.jit
  def run(params):
    attend = layers.full_causal_attend(None, positions)
    hidden, _ = transformer.apply(config, params, IDS, positions, attend)
    return transformer.unembed(config, params, hidden)

  return np.asarray(run(params))


def their_logits(model):
  with torch.no_grad():
    return model.eval()(torch.from_numpy(IDS)).logits.numpy()


def load_theirs(folder):
  return transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation='eager'
  )


def random_params(config):
  """Parameters whose norms are not all one."""
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: x * random.uniform(0.5, 1.5, x.shape).astype(np.float32),
    transformer.init_params(config, jax.random.key(0)),
  )


@pytest.mark.parametrize('several', [False, True])
@pytest.mark.parametrize('name', CONFIGS)
def test_our_folder_in_transformers(tmp_path, name, several):
  config = CONFIGS[name]
  params = random_params(config)
  size = 4000 if several else 1 << 30
  hf.save_pretrained(tmp_path, config, params, 'float32', size)
  assert (len(list(tmp_path.glob('*.safetensors'))) > 1) == several
  model = load_theirs(tmp_path)
  assert model.config.model_type == name.split()[0]
  expected = their_logits(model)
  assert expected.std() > 0.1
  np.testing.assert_allclose(our_logits(config, params), expected, atol=1e-4)


@pytest.mark.parametrize('several', [False, True])
@pytest.mark.parametrize('name', CONFIGS)
def test_a_folder_of_transformers_here(tmp_path, name, several):
  fields = model_config.to_hf(CONFIGS[name])
  # As a user of transformers 5 would: the new spelling alone.
  for old in ('rope_theta', 'rope_scaling', 'torch_dtype', 'dtype'):
    fields.pop(old, None)
  made = transformers.AutoConfig.for_model(**fields)
  torch.manual_seed(0)
  model = transformers.AutoModelForCausalLM.from_config(
    made, attn_implementation='eager'
  ).float()
  with torch.no_grad():
    for weight in model.parameters():
      weight.uniform_(-0.5, 1) if weight.ndim == 1 else weight.normal_(0, 0.3)
  model.save_pretrained(tmp_path, max_shard_size=4000 if several else '1GB')
  assert (len(list(tmp_path.glob('*.safetensors'))) > 1) == several
  config, params = hf.load_pretrained(tmp_path)
  assert config == CONFIGS[name]
  expected = their_logits(model)
  assert expected.std() > 0.1
  np.testing.assert_allclose(our_logits(config, params), expected, atol=1e-4)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_short_files_of_transformers(tmp_path, dtype):
  made = transformers.AutoConfig.for_model(**model_config.to_hf(LLAMA))
  model = transformers.AutoModelForCausalLM.from_config(made)
  model = model.to(getattr(torch, dtype))
  model.save_pretrained(tmp_path)
  config, params = hf.load_pretrained(tmp_path)
  np.testing.assert_allclose(
    our_logits(config, params), their_logits(load_theirs(tmp_path)), atol=1e-4
  )


def test_our_adapters_in_peft(tmp_path):
  peft = pytest.importorskip('peft', reason=NEEDS)
  params, spec = random_params(QWEN3), lora.Lora(rank=2, alpha=6.0)
  random = np.random.default_rng(0)
  adapters = jax.tree.map(
    lambda x: random.normal(0, 0.1, x.shape).astype(np.float32),
    lora.adapter_shapes(QWEN3, spec),
  )
  hf.save_pretrained(tmp_path / 'base', QWEN3, params, 'float32')
  hf.save_adapters(
    tmp_path / 'adapters', adapters, spec, str(tmp_path / 'base')
  )
  base = load_theirs(tmp_path / 'base')
  plain = their_logits(base)
  model = peft.PeftModel.from_pretrained(base, tmp_path / 'adapters')
  expected = their_logits(model)
  assert np.abs(expected - plain).max() > 0.01
  merged = lora.merge(lora.Frozen(params, spec), adapters)
  np.testing.assert_allclose(our_logits(QWEN3, merged), expected, atol=1e-4)
