"""Attention over one block of keys after the other.

In: queries, and a function that fetches a block of keys and values, wherever
they lie. Out: what attention to all of them gives, without all of its scores at
a time, and without the blocks that no query reaches. Prefill uses it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

# fetch(index of a block) -> (k_RKHS, v_RKSH), S keys of every row.
Fetch = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def attend(
  q_RTNH: jax.Array, positions_RT: jax.Array, fetch: Fetch
) -> jax.Array:
  """A query sees all positions up to its own (arXiv 2205.14135, forward only).

  Args:
    q_RTNH: queries.
    positions_RT: int32, at least 0: every query sees something.
    fetch: position p lies in block p // S, at its place p % S.

  Returns:
    [R, T, N, H] in the type of the queries; sums are float32.
  """
  R, T, N, H = q_RTNH.shape
  K, _, S = jax.eval_shape(fetch, 0)[0].shape[1:]
  G = N // K
  # The heads of a group and the times side by side (M): one matrix product a
  # kv head.
  q_RKGTH = q_RTNH.reshape(R, T, K, G, H).transpose(0, 2, 3, 1, 4)
  q_RKMH = q_RKGTH.reshape(R, K, G * T, H) * (1 / math.sqrt(H))

  def add_block(block, state):
    top_RKM, total_RKM, sum_RKMH = state
    k_RKHS, v_RKSH = fetch(block)
    scores_RKMS = jnp.einsum(
      'RKMH,RKHS->RKMS', q_RKMH, k_RKHS, preferred_element_type=jnp.float32
    )
    place_S = block * S + jnp.arange(S)
    seen_RTS = place_S[None, None, :] <= positions_RT[:, :, None]
    bias_RTS = jnp.where(seen_RTS, 0.0, -jnp.inf)
    scores_RKMS += jnp.tile(bias_RTS, (1, G, 1))[:, None]
    # Finite from the first block on: every query sees position 0.
    new_RKM = jnp.maximum(top_RKM, jnp.max(scores_RKMS, axis=-1))
    weights_RKMS = jnp.exp(scores_RKMS - new_RKM[..., None])
    fade_RKM = jnp.exp(top_RKM - new_RKM)
    part_RKMH = jnp.einsum(
      'RKMS,RKSH->RKMH',
      weights_RKMS.astype(v_RKSH.dtype),
      v_RKSH,
      preferred_element_type=jnp.float32,
    )
    return (
      new_RKM,
      total_RKM * fade_RKM + jnp.sum(weights_RKMS, axis=-1),
      sum_RKMH * fade_RKM[..., None] + part_RKMH,
    )

  zeros_RKM = jnp.zeros((R, K, G * T))
  state = zeros_RKM - jnp.inf, zeros_RKM, jnp.zeros((R, K, G * T, H))
  num_blocks = jnp.max(positions_RT) // S + 1
  _, total_RKM, sum_RKMH = jax.lax.fori_loop(0, num_blocks, add_block, state)
  out_RKGTH = (sum_RKMH / total_RKM[..., None]).reshape(R, K, G, T, H)
  out_RTNH = out_RKGTH.transpose(0, 3, 1, 2, 4).reshape(R, T, N, H)
  return out_RTNH.astype(q_RTNH.dtype)
