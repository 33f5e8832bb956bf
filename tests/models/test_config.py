import dataclasses
import math

import jax
import pytest

from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

CONFIG = model_config.ModelConfig(
  vocab_size=11,
  embed_dim=8,
  mlp_dim=12,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=6,
  rope_theta=5e5,
  tied=False,
  max_context=64,
)


LLAMA = dataclasses.replace(
  CONFIG,
  qk_norm=False,
  rope_scaling=model_config.RopeScaling(8.0, 1.0, 4.0, 8192),
)


@pytest.mark.parametrize(
  'config',
  [
    CONFIG,
    LLAMA,
    dataclasses.replace(CONFIG, tied=True, rope_scaling=LLAMA.rope_scaling),
    dataclasses.replace(LLAMA, rope_scaling=None),
  ],
)
def test_hf_fields_round_trip(config):
  assert model_config.from_hf(model_config.to_hf(config)) == config


# Llama-3.2-1B's file, but for the fields that no model reads.
LLAMA_32_1B = {
  'architectures': ['LlamaForCausalLM'],
  'attention_bias': False,
  'head_dim': 64,
  'hidden_act': 'silu',
  'hidden_size': 2048,
  'intermediate_size': 8192,
  'max_position_embeddings': 131072,
  'mlp_bias': False,
  'model_type': 'llama',
  'num_attention_heads': 32,
  'num_hidden_layers': 16,
  'num_key_value_heads': 8,
  'pretraining_tp': 1,
  'rms_norm_eps': 1e-05,
  'rope_scaling': {
    'factor': 32.0,
    'high_freq_factor': 4.0,
    'low_freq_factor': 1.0,
    'original_max_position_embeddings': 8192,
    'rope_type': 'llama3',
  },
  'rope_theta': 500000.0,
  'tie_word_embeddings': True,
  'torch_dtype': 'bfloat16',
  'vocab_size': 128256,
}


def test_a_published_llama():
  config = model_config.from_hf(LLAMA_32_1B)
  assert config == model_config.ModelConfig(
    vocab_size=128256,
    embed_dim=2048,
    mlp_dim=8192,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    rope_theta=5e5,
    rope_scaling=model_config.RopeScaling(32.0, 1.0, 4.0, 8192),
    norm_eps=1e-5,
    qk_norm=False,
    max_context=131072,
  )
  # Llama 3.1 leaves the size of a head to be derived: 2048 / 32 = 64.
  fields = LLAMA_32_1B | {'head_dim': None}
  assert model_config.from_hf(fields) == config
  # As transformers 5 writes it.
  rope = fields.pop('rope_scaling') | {'rope_theta': fields.pop('rope_theta')}
  assert model_config.from_hf(fields | {'rope_parameters': rope}) == config


@pytest.mark.parametrize(
  ('size', 'billions'),
  # As the models' cards have them.
  [
    ('0.6b', 0.6),
    ('1.7b', 1.7),
    ('4b', 4.0),
    ('8b', 8.2),
    ('14b', 14.8),
    ('32b', 32.8),
  ],
)
def test_published_shapes_have_the_published_size(size, billions):
  shapes = transformer.param_shapes(model_config.QWEN3[size])
  total = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  assert round(total / 1e9, 1) == billions


@pytest.mark.parametrize('spelling', ['rope_theta', 'rope_parameters'])
def test_either_spelling_of_the_rotary_base_suffices(spelling):
  fields = model_config.to_hf(CONFIG)
  other = {'rope_theta': 'rope_parameters', 'rope_parameters': 'rope_theta'}
  del fields[other[spelling]]
  assert model_config.from_hf(fields).rope_theta == 5e5


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'model_type': 'mistral'}, "model_type 'mistral'"),
    ({'model_type': 'qwen3_moe'}, "model_type 'qwen3_moe'"),
    ({'attention_bias': True}, 'attention_bias=True'),
    ({'mlp_bias': True}, 'mlp_bias=True'),
    ({'use_sliding_window': True}, 'use_sliding_window=True'),
    ({'layer_types': ['sliding_attention']}, 'layer_types'),
    ({'num_experts': 8}, 'num_experts=8'),
    ({'quantization_config': {'bits': 4}}, 'quantization_config'),
    ({'hidden_act': 'gelu'}, "hidden_act='gelu'"),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor'),
    ({'rope_parameters': {'rope_type': 'yarn'}}, "rope_type 'yarn'"),
    ({'rope_scaling': {'type': 'linear'}}, "'default' in one .* 'linear'"),
    ({'rope_theta': 1e4}, 'rope_theta is 500000.0 in one .* 10000.0 in'),
    (
      {'rope_parameters': {'rope_type': 'llama3', 'factor': 8.0}},
      r"llama3 lacks \['low_freq_factor', 'high.*', 'original_max",
    ),
    ({'hidden_size': '8'}, "embed_dim='8'"),
    ({'num_key_value_heads': 0}, 'num_kv_heads=0'),
  ],
)
def test_what_the_model_lacks_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    model_config.from_hf(model_config.to_hf(CONFIG) | change)


def test_a_scaling_needs_a_span():
  with pytest.raises(ValueError, match='low_factor < high_factor'):
    model_config.RopeScaling(8.0, 4.0, 4.0, 8192)


def test_missing_fields_are_named():
  fields = model_config.to_hf(CONFIG)
  del fields['hidden_size'], fields['rope_theta'], fields['rope_parameters']
  with pytest.raises(ValueError, match=r"'hidden_size', 'rope_theta'"):
    model_config.from_hf(fields)


def test_impossible_heads_are_refused():
  with pytest.raises(ValueError, match='num_kv_heads=3'):
    model_config.ModelConfig(11, 8, 12, 2, 4, 3, 6)
  with pytest.raises(ValueError, match='head_dim=5'):
    model_config.ModelConfig(11, 8, 12, 2, 4, 2, 5)
