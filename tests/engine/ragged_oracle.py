"""What JAX's ragged paged attention promises, in plain jnp under jit.

The kernel itself cannot run without a TPU (interpreted neither), and the
reference that it ships slices by values that jit does not know.
"""

import jax
import jax.numpy as jnp


def ragged_paged_attention(
  q: jax.Array,
  kv_pages: jax.Array,
  kv_lens: jax.Array,
  page_indices: jax.Array,
  cu_q_lens: jax.Array,
  num_seqs: jax.Array,
  *,
  sm_scale: float,
  num_kv_pages_per_block: int,
  num_queries_per_block: int,
) -> jax.Array:
  """The kernel's arguments and result; `num_seqs` must be all of them."""
  tokens, N, H = q.shape
  _, page, J, _ = kv_pages.shape
  R, M = page_indices.shape
  assert num_seqs.shape == (1,) and cu_q_lens.shape == (R + 1,)
  assert 0 < num_kv_pages_per_block <= M and 0 < num_queries_per_block <= tokens
  index = jnp.arange(tokens)
  row = jnp.searchsorted(cu_q_lens, index, side='right') - 1
  position = kv_lens[row] - cu_q_lens[row + 1] + index
  kv = kv_pages[page_indices].reshape(R, M * page, J // 2, 2, H)
  kv = jnp.repeat(kv, N // (J // 2), axis=2)[row]
  scores = jnp.einsum(
    'tnh,tsnh->tns',
    q,
    kv[:, :, :, 0],
    preferred_element_type=jnp.float32,
  )
  seen = jnp.arange(M * page)[None, :] <= position[:, None]
  scores = jnp.where(seen[:, None, :], scores * sm_scale, -jnp.inf)
  weights = jax.nn.softmax(scores, axis=-1).astype(kv.dtype)
  return jnp.einsum('tns,tsnh->tnh', weights, kv[:, :, :, 1]).astype(q.dtype)
