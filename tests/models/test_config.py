import pytest

from wideseek_jax.models import config as model_config

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


def test_hf_fields_round_trip():
  assert model_config.from_hf(model_config.to_hf(CONFIG)) == CONFIG


@pytest.mark.parametrize('spelling', ['rope_theta', 'rope_parameters'])
def test_either_spelling_of_the_rotary_base_suffices(spelling):
  fields = model_config.to_hf(CONFIG)
  other = {'rope_theta': 'rope_parameters', 'rope_parameters': 'rope_theta'}
  del fields[other[spelling]]
  assert model_config.from_hf(fields).rope_theta == 5e5


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'model_type': 'llama'}, 'llama'),
    ({'attention_bias': True}, 'attention_bias'),
    ({'use_sliding_window': True}, 'use_sliding_window'),
    ({'hidden_act': 'gelu'}, 'gelu'),
    ({'rope_parameters': {'rope_type': 'yarn', 'rope_theta': 1e6}}, 'yarn'),
  ],
)
def test_what_the_model_lacks_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    model_config.from_hf(model_config.to_hf(CONFIG) | change)


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
