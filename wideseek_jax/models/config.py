"""The shape of the policy: one frozen record, and its Hugging Face spelling.

A `ModelConfig` comes in from a config file or from a checkpoint's config.json;
it is hashable, so it can be a static argument of a jitted function.
"""

import dataclasses
from typing import Any

_HF_NAMES = {
  'vocab_size': 'vocab_size',
  'embed_dim': 'hidden_size',
  'mlp_dim': 'intermediate_size',
  'num_layers': 'num_hidden_layers',
  'num_heads': 'num_attention_heads',
  'num_kv_heads': 'num_key_value_heads',
  'head_dim': 'head_dim',
  'norm_eps': 'rms_norm_eps',
  'tied': 'tie_word_embeddings',
  'max_context': 'max_position_embeddings',
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A Qwen3 transformer (arXiv 2505.09388 §2).

  Attributes:
    vocab_size: rows of the embedding.
    embed_dim: width of the residual stream.
    mlp_dim: width of the gated feed-forward layer.
    num_layers: transformer blocks.
    num_heads: query heads.
    num_kv_heads: key and value heads; divides num_heads.
    head_dim: size of one head; even, since rotary turns pairs.
    rope_theta: base of the rotary wavelengths.
    norm_eps: added to the mean square in every RMSNorm.
    tied: the output layer is the embedding.
    max_context: positions the model was made for.
  """

  vocab_size: int
  embed_dim: int
  mlp_dim: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  rope_theta: float = 1e6
  norm_eps: float = 1e-6
  tied: bool = True
  max_context: int = 40960

  def __post_init__(self):
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f'num_heads={self.num_heads} is no multiple of '
        f'num_kv_heads={self.num_kv_heads}'
      )
    if self.head_dim % 2:
      raise ValueError(f'head_dim={self.head_dim} is odd')


def _qwen3(width: int, mlp: int, layers: int, heads: int, **more: Any):
  return ModelConfig(151_936, width, mlp, layers, heads, 8, 128, **more)


# Published dense models (arXiv 2505.09388, Table 1), by size.
QWEN3 = {
  '0.6b': _qwen3(1024, 3072, 28, 16),
  '4b': _qwen3(2560, 9728, 36, 32),
  '8b': _qwen3(4096, 12288, 36, 32, tied=False),
}


def from_hf(fields: dict[str, Any]) -> ModelConfig:
  """Reads a config.json of model type qwen3.

  Args:
    fields: the parsed file. The rotary base is read from `rope_parameters`
      (transformers 5) or `rope_theta` (before).

  Raises:
    ValueError: for another architecture, a missing field, or an option that
      this model does not have (attention bias, sliding window, scaled rotary).
  """
  if fields.get('model_type') != 'qwen3':
    raise ValueError(f'model_type {fields.get("model_type")!r} is not qwen3')
  for name in ('attention_bias', 'use_sliding_window'):
    if fields.get(name):
      raise ValueError(f'{name}={fields[name]!r} is not supported')
  if fields.get('hidden_act', 'silu') != 'silu':
    raise ValueError(f'hidden_act {fields["hidden_act"]!r} is not silu')
  rope = fields.get('rope_parameters') or fields.get('rope_scaling') or {}
  kind = rope.get('rope_type', rope.get('type', 'default'))
  if kind != 'default':
    raise ValueError(f'rope type {kind!r} is not supported')
  missing = sorted(set(_HF_NAMES.values()) - set(fields))
  theta = rope.get('rope_theta', fields.get('rope_theta'))
  if theta is None:
    missing.append('rope_theta')
  if missing:
    raise ValueError(f'config.json lacks {missing}')
  ours = {name: fields[hf_name] for name, hf_name in _HF_NAMES.items()}
  return ModelConfig(rope_theta=float(theta), **ours)


def to_hf(config: ModelConfig, dtype: str = 'float32') -> dict[str, Any]:
  """Writes the fields of config.json that any transformers 4.51+ can load."""
  fields = {hf: getattr(config, name) for name, hf in _HF_NAMES.items()}
  rope = {'rope_type': 'default', 'rope_theta': config.rope_theta}
  return fields | {
    'architectures': ['Qwen3ForCausalLM'],
    'model_type': 'qwen3',
    'hidden_act': 'silu',
    'attention_bias': False,
    'attention_dropout': 0.0,
    'use_sliding_window': False,
    'rope_theta': config.rope_theta,
    'rope_parameters': rope,
    # Both spellings of the storage type: transformers 4 and 5.
    'torch_dtype': dtype,
    'dtype': dtype,
  }
