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
_HF_ROPE_NAMES = {
  'factor': 'factor',
  'low_factor': 'low_freq_factor',
  'high_factor': 'high_freq_factor',
  'original_context': 'original_max_position_embeddings',
}
# Fields that would change the model, and the one value that it has.
_HF_FIXED = {
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
  'use_sliding_window': False,
  'partial_rotary_factor': 1.0,
  'quantization_config': None,
  'num_experts': None,
  'num_local_experts': None,
}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """Llama 3.1's stretched rotary wavelengths (transformers' type 'llama3').

  Attributes:
    factor: of the longest wavelengths.
    low_factor: those beyond original_context / low_factor are stretched whole.
    high_factor: those within original_context / high_factor stay; in between
      the stretch grows. Above low_factor.
    original_context: positions of the first training.
  """

  factor: float
  low_factor: float
  high_factor: float
  original_context: int

  def __post_init__(self):
    if not 0 < self.low_factor < self.high_factor:
      raise ValueError(
        f'rope scaling needs 0 < low_factor < high_factor, got '
        f'{self.low_factor} and {self.high_factor}'
      )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A dense transformer of the Qwen3 (arXiv 2505.09388 §2) or Llama family.

  Attributes:
    vocab_size: rows of the embedding.
    embed_dim: width of the residual stream.
    mlp_dim: width of the gated feed-forward layer.
    num_layers: transformer blocks.
    num_heads: query heads.
    num_kv_heads: key and value heads; divides num_heads.
    head_dim: size of one head; even, since rotary turns pairs.
    rope_theta: base of the rotary wavelengths.
    rope_scaling: what stretches them; None for nothing.
    norm_eps: added to the mean square in every RMSNorm.
    qk_norm: queries and keys have norms (Qwen3) or not (Llama).
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
  rope_scaling: RopeScaling | None = None
  norm_eps: float = 1e-6
  qk_norm: bool = True
  tied: bool = True
  max_context: int = 40960

  def __post_init__(self):
    for field in dataclasses.fields(self):
      size = getattr(self, field.name)
      if field.type is int and (not isinstance(size, int) or size < 1):
        raise ValueError(f'{field.name}={size!r} is not a whole number above 0')
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
  '1.7b': _qwen3(2048, 6144, 28, 16),
  '4b': _qwen3(2560, 9728, 36, 32),
  '8b': _qwen3(4096, 12288, 36, 32, tied=False),
  '14b': _qwen3(5120, 17408, 40, 40, tied=False),
  '32b': _qwen3(5120, 25600, 64, 64, tied=False),
}


def from_hf(fields: dict[str, Any]) -> ModelConfig:
  """Reads a config.json of model type qwen3 or llama.

  Args:
    fields: the parsed file. The rotary base is read from `rope_parameters`
      (transformers 5) or `rope_theta` (before), its scaling from the former or
      `rope_scaling`.

  Raises:
    ValueError: for another architecture, a missing field, or an option that
      this model does not have (biases, sliding windows, experts, other rotary
      scalings); names the field.
  """
  family = fields.get('model_type')
  if family not in ('qwen3', 'llama'):
    raise ValueError(
      f'model_type {family!r} is not supported; there are qwen3 and llama'
    )
  for name, value in _HF_FIXED.items():
    if fields.get(name) not in (None, value):
      raise ValueError(
        f'{name}={fields[name]!r} is not supported, only {value!r}'
      )
  if set(fields.get('layer_types') or ()) - {'full_attention'}:
    raise ValueError(
      f'layer_types {fields["layer_types"]} are not all full_attention'
    )
  found = {name: fields.get(hf_name) for name, hf_name in _HF_NAMES.items()}
  width, heads = found['embed_dim'], found['num_heads']
  if family == 'llama' and found['head_dim'] is None and width and heads:
    found['head_dim'] = width // heads  # Llama 2 and 3.1 do not write it.
  rope = _rope_fields(fields)
  missing = [_HF_NAMES[name] for name in found if found[name] is None]
  if 'rope_theta' not in rope:
    missing.append('rope_theta')
  if missing:
    raise ValueError(
      f'the fields {missing} are missing; take them from the published '
      'config.json of the model'
    )
  return ModelConfig(
    rope_theta=float(rope['rope_theta']),
    rope_scaling=_rope_scaling(rope),
    qk_norm=family == 'qwen3',
    **found,
  )


def _rope_fields(fields: dict[str, Any]) -> dict[str, Any]:
  """What all spellings say of the rotary angles; they must agree."""
  found: dict[str, Any] = {}
  for spelling in (
    fields.get('rope_parameters') or {},
    fields.get('rope_scaling') or {},
    {'rope_theta': fields.get('rope_theta')},
  ):
    for name, value in spelling.items():
      name = {'type': 'rope_type'}.get(name, name)
      if value is not None and found.setdefault(name, value) != value:
        raise ValueError(
          f'{name} is {found[name]!r} in one place of config.json and '
          f'{value!r} in another'
        )
  return found


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling | None:
  kind = rope.get('rope_type', 'default')
  if kind not in ('default', 'llama3'):
    raise ValueError(f'rope_type {kind!r} is not supported, only llama3')
  if rope.get('partial_rotary_factor', 1.0) != 1.0:
    raise ValueError(
      f'partial_rotary_factor={rope["partial_rotary_factor"]!r} is not '
      'supported, only 1.0'
    )
  if kind == 'default':
    return None
  missing = [name for name in _HF_ROPE_NAMES.values() if name not in rope]
  if missing:
    raise ValueError(f'the rotary scaling llama3 lacks {missing}')
  return RopeScaling(**{n: rope[hf] for n, hf in _HF_ROPE_NAMES.items()})


def to_hf(config: ModelConfig, dtype: str = 'float32') -> dict[str, Any]:
  """Writes the fields of config.json that any transformers 4.51+ can load."""
  fields = {hf: getattr(config, name) for name, hf in _HF_NAMES.items()}
  rope = {'rope_type': 'default'}
  if config.rope_scaling is not None:
    scaling = dataclasses.asdict(config.rope_scaling)
    rope = {'rope_type': 'llama3'}
    rope |= {hf: scaling[name] for name, hf in _HF_ROPE_NAMES.items()}
    fields['rope_scaling'] = rope
  return fields | {
    'architectures': [
      'Qwen3ForCausalLM' if config.qk_norm else 'LlamaForCausalLM'
    ],
    'model_type': 'qwen3' if config.qk_norm else 'llama',
    'hidden_act': 'silu',
    'attention_bias': False,
    'attention_dropout': 0.0,
    # Either family reads its own.
    'mlp_bias': False,
    'use_sliding_window': False,
    # Both spellings, of transformers 4 and 5, here and below.
    'rope_theta': config.rope_theta,
    'rope_parameters': rope | {'rope_theta': config.rope_theta},
    'torch_dtype': dtype,
    'dtype': dtype,
  }
