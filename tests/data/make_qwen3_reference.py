"""Writes qwen3_reference.npz: a tiny random Qwen3 and its logits by torch.

Needs torch and transformers, which the tests do not; run it by hand when the
reference has to change:

  python tests/data/make_qwen3_reference.py
"""

import json
import pathlib

import numpy as np
import torch
import transformers


def reference(tied: bool) -> dict[str, np.ndarray]:
  torch.manual_seed(0 if tied else 1)
  config = transformers.Qwen3Config(
    vocab_size=24,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    max_position_embeddings=64,
    rms_norm_eps=1e-6,
    rope_parameters={'rope_type': 'default', 'rope_theta': 1e6},
    tie_word_embeddings=tied,
    attn_implementation='eager',
  )
  model = transformers.Qwen3ForCausalLM(config).float().eval()
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
    'config': np.asarray(json.dumps(config.to_dict())),
    'ids': ids.numpy().astype(np.int32),
    'logits': logits.numpy().astype(np.float32),
  }
  for name, weight in model.state_dict().items():
    if not (tied and name == 'lm_head.weight'):
      out[f'weights_32/{name}'] = (weight.numpy() * 32).astype(np.int8)
  return out


def main() -> None:
  arrays = {}
  for tied in (True, False):
    prefix = 'tied' if tied else 'untied'
    arrays |= {f'{prefix}/{k}': v for k, v in reference(tied).items()}
  path = pathlib.Path(__file__).with_name('qwen3_reference.npz')
  np.savez_compressed(path, **arrays)
  print(path, path.stat().st_size)


if __name__ == '__main__':
  main()
