"""Writes hf_reference.npz: tiny random models and their logits by torch.

Needs torch and transformers, which most tests do not; run it by hand when the
reference has to change:

  python tests/data/make_hf_reference.py
"""

import json
import pathlib

import numpy as np
import torch
import transformers

SHAPE = {
  'vocab_size': 24,
  'hidden_size': 16,
  'intermediate_size': 24,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'rms_norm_eps': 1e-6,
  'attn_implementation': 'eager',
}


def qwen3(tied: bool) -> transformers.PreTrainedModel:
  config = transformers.Qwen3Config(
    **SHAPE,
    head_dim=6,
    max_position_embeddings=64,
    rope_parameters={'rope_type': 'default', 'rope_theta': 1e6},
    tie_word_embeddings=tied,
  )
  return transformers.Qwen3ForCausalLM(config)


def llama(tied: bool) -> transformers.PreTrainedModel:
  # Turns in 64 positions: 10, 1.8, 0.3 and 0.06, so that the first wave stays,
  # the second is stretched in part and the others whole.
  rope = {
    'rope_type': 'llama3',
    'rope_theta': 1000.0,
    'factor': 4.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 64,
  }
  config = transformers.LlamaConfig(
    **SHAPE,
    head_dim=8,
    max_position_embeddings=256,
    rope_parameters=rope,
    tie_word_embeddings=tied,
  )
  return transformers.LlamaForCausalLM(config)


def reference(model: transformers.PreTrainedModel) -> dict[str, np.ndarray]:
  model = model.float().eval()
  # Larger than the default initialisation, and norms other than one, so that
  # a wrong formula shows in the logits; multiples of 1/32, which fit int8.
  with torch.no_grad():
    for name, weight in model.named_parameters():
      if 'norm' in name:
        weight.uniform_(0.5, 1.5)
      else:
        weight.normal_(0, 0.3)
      weight.copy_((weight * 32).round().clamp(-127, 127) / 32)
  ids = torch.randint(0, 24, (2, 12))
  with torch.no_grad():
    logits = model(ids).logits
  out = {
    'config': np.asarray(json.dumps(model.config.to_dict())),
    'ids': ids.numpy().astype(np.int32),
    'logits': logits.numpy().astype(np.float32),
  }
  tied = model.config.tie_word_embeddings
  for name, weight in model.state_dict().items():
    if not (tied and name == 'lm_head.weight'):
      out[f'weights_32/{name}'] = (weight.numpy() * 32).astype(np.int8)
  return out


def main() -> None:
  arrays = {}
  for family in (qwen3, llama):
    for tied in (True, False):
      torch.manual_seed(0 if tied else 1)
      prefix = f'{family.__name__}_{"tied" if tied else "untied"}'
      arrays |= {f'{prefix}/{k}': v for k, v in reference(family(tied)).items()}
  path = pathlib.Path(__file__).with_name('hf_reference.npz')
  np.savez_compressed(path, **arrays)
  print(path, path.stat().st_size)


if __name__ == '__main__':
  main()
