"""The tiny model of `examples` in NumPy float64, for one agent at a time.

Written from the architecture's description, not from the package: finite
differences need the digits, and an oracle its own arithmetic.
"""

import numpy as np

from tests.training import examples


def _norm(x, scale):
  root = np.sqrt((x * x).mean(-1, keepdims=True) + examples.CONFIG.norm_eps)
  return x / root * scale


def _rotate(x_TNH):
  """Rotates the pairs (i, i + H/2) of each head."""
  T, _, H = x_TNH.shape
  frequency = examples.CONFIG.rope_theta ** (-np.arange(0, H, 2) / H)
  angle = np.arange(T)[:, None, None] * frequency
  first, second = x_TNH[..., : H // 2], x_TNH[..., H // 2 :]
  return np.concatenate(
    [
      first * np.cos(angle) - second * np.sin(angle),
      second * np.cos(angle) + first * np.sin(angle),
    ],
    -1,
  )


def _attention(q_TNH, k_TKH, v_TKH):
  T, N, H = q_TNH.shape
  shared = N // k_TKH.shape[1]  # query heads a key head
  out = np.zeros_like(q_TNH)
  for n in range(N):
    scores = q_TNH[:, n] @ k_TKH[:, n // shared].T / np.sqrt(H)
    scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    out[:, n] = p / p.sum(-1, keepdims=True) @ v_TKH[:, n // shared]
  return out


def logits(params, tokens):
  """[T, V] float64 of tokens [T], with parameters as NumPy arrays."""
  x = params['embedding'][tokens]
  for index in range(len(params['layers']['query'])):
    layer = {name: x[index] for name, x in params['layers'].items()}
    normed = _norm(x, layer['attn_norm'])
    heads = {
      name: np.einsum('TD,DNH->TNH', normed, layer[name])
      for name in ('query', 'key', 'value')
    }
    out = _attention(
      _rotate(_norm(heads['query'], layer['query_norm'])),
      _rotate(_norm(heads['key'], layer['key_norm'])),
      heads['value'],
    )
    x = x + np.einsum('TNH,NHD->TD', out, layer['out'])
    normed = _norm(x, layer['mlp_norm'])
    gate = normed @ layer['gate']
    gated = gate / (1 + np.exp(-gate)) * (normed @ layer['up'])
    x = x + gated @ layer['down']
  return _norm(x, params['final_norm']) @ params['embedding'].T
