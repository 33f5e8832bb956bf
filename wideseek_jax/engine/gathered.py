"""The reference of paged attention, in plain jnp, and the way of the CPU.

A call gathers the pages of its rows to contiguous buffers, attends to those and
writes new keys into them, and at the end the pages that were touched go back.
The two buffers have the layouts in which both products of attention are plain
matrix products: keys [R, K, H, S], values [R, K, S, H]. Fast where contexts are
short and memory is plenty: the buffers hold all rows at the longest context.
"""

import functools
import math

import jax
import jax.numpy as jnp

from wideseek_jax.engine import attention, blockwise

# Keys that prefill scores at a time.
BLOCK_KEYS = 128


def page_shapes(
  num_pages: int, page_size: int, K: int, H: int
) -> tuple[tuple[int, ...], ...]:
  """Keys and values apart, each [P, page, K, H]."""
  shape = (num_pages, page_size, K, H)
  return shape, shape


def gather(
  pages: attention.Layers, tables: attention.RowTables
) -> attention.Layers:
  """Copies the pages of each row side by side.

  Args:
    pages: (k_pages, v_pages) for every layer.
    tables: read_RN names the pages.

  Returns:
    For every layer (k_RKHS, v_RKSH) with S = N * page.
  """
  _, page, K, H = pages[0][0].shape
  R, N = tables.read_RN.shape
  cache = []
  for k_pages, v_pages in pages:
    k_RNPKH, v_RNPKH = k_pages[tables.read_RN], v_pages[tables.read_RN]
    k_RKHS = k_RNPKH.transpose(0, 3, 4, 1, 2).reshape(R, K, H, N * page)
    v_RKSH = v_RNPKH.transpose(0, 3, 1, 2, 4).reshape(R, K, N * page, H)
    cache.append((k_RKHS, v_RKSH))
  return tuple(cache)


def scatter(
  pages: attention.Layers,
  cache: attention.Layers,
  tables: attention.RowTables,
) -> attention.Layers:
  """Writes the pages that a call touched back to the pool.

  Args:
    pages: the pool.
    cache: as `gather` returned it and `attend` changed it.
    tables: write_RW names the pages; the first holds token start_R.
  """
  page = pages[0][0].shape[1]
  R, W = tables.write_RW.shape
  first_R1 = (tables.start_R // page)[:, None]
  written = []
  for (k_pages, v_pages), (k_RKHS, v_RKSH) in zip(pages, cache, strict=True):
    _, K, H, S = k_RKHS.shape
    N = S // page
    index_RW = jnp.minimum(first_R1 + jnp.arange(W)[None, :], N - 1)
    k_RKHNP = k_RKHS.reshape(R, K, H, N, page)
    v_RKNPH = v_RKSH.reshape(R, K, N, page, H)
    k_RKHWP = jax.vmap(lambda k, i: k[:, :, i])(k_RKHNP, index_RW)
    v_RKWPH = jax.vmap(lambda v, i: v[:, i])(v_RKNPH, index_RW)
    k_RWPKH = k_RKHWP.transpose(0, 3, 4, 1, 2)
    v_RWPKH = v_RKWPH.transpose(0, 2, 3, 1, 4)
    k_pages = k_pages.at[tables.write_RW].set(k_RWPKH)
    v_pages = v_pages.at[tables.write_RW].set(v_RWPKH)
    written.append((k_pages, v_pages))
  return tuple(written)


def attend(
  q_RTNH: jax.Array,
  k_RTKH: jax.Array,
  v_RTKH: jax.Array,
  buffers: tuple[jax.Array, jax.Array],
  positions_RT: jax.Array,
  tables: attention.RowTables,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Attention of new tokens to a row's buffers (`Attention.attend`).

  Args:
    q_RTNH: queries.
    k_RTKH: new keys.
    v_RTKH: new values.
    buffers: (k_RKHS, v_RKSH) of this layer; the last position lies inside.
    positions_RT: int32, consecutive positions of the new tokens.
    tables: not looked at: the buffers are in the order of the tokens.
  """
  del tables
  k_RKHS, v_RKSH = buffers
  start_R = positions_RT[:, 0]

  def write_key(buffer_KHS, new_KHT, start):
    return jax.lax.dynamic_update_slice(buffer_KHS, new_KHT, (0, 0, start))

  def write_value(buffer_KSH, new_KTH, start):
    return jax.lax.dynamic_update_slice(buffer_KSH, new_KTH, (0, start, 0))

  R, T, N, H = q_RTNH.shape
  K, S = v_RKSH.shape[1:3]
  k_RKHS = jax.vmap(write_key)(k_RKHS, k_RTKH.transpose(0, 2, 3, 1), start_R)
  v_RKSH = jax.vmap(write_value)(v_RKSH, v_RTKH.transpose(0, 2, 1, 3), start_R)
  if T > 1:
    width = math.gcd(S, BLOCK_KEYS)

    def fetch(block):
      cut = functools.partial(
        jax.lax.dynamic_slice_in_dim,
        start_index=block * width,
        slice_size=width,
      )
      return cut(k_RKHS, axis=3), cut(v_RKSH, axis=2)

    out_RTNH = blockwise.attend(q_RTNH, positions_RT, fetch)
    return out_RTNH, (k_RKHS, v_RKSH)
  # The heads of a group side by side (M): one matrix product a kv head. Few,
  # simple passes over the scores: on CPU they cost as much as the products.
  G = N // K
  scores_RKMS = jnp.einsum(
    'RKMH,RKHS->RKMS',
    q_RTNH.reshape(R, K, G, H) * (1 / math.sqrt(H)),
    k_RKHS,
    preferred_element_type=jnp.float32,
  )
  seen_RS = jnp.arange(S)[None, :] <= positions_RT
  scores_RKMS += jnp.where(seen_RS, 0.0, -jnp.inf)[:, None, None, :]
  top = jnp.max(scores_RKMS, axis=-1, keepdims=True)
  weights_RKMS = jnp.exp(scores_RKMS - top)
  total_RKM = jnp.sum(weights_RKMS, axis=-1)
  out_RKMH = jnp.einsum(
    'RKMS,RKSH->RKMH',
    weights_RKMS.astype(v_RKSH.dtype),
    v_RKSH,
    preferred_element_type=jnp.float32,
  )
  out_RTNH = (out_RKMH / total_RKM[..., None]).reshape(R, T, N, H)
  return out_RTNH.astype(q_RTNH.dtype), (k_RKHS, v_RKSH)


REFERENCE = attention.Attention(
  name='reference',
  page_shapes=page_shapes,
  page_axes=('pages', 'page', 'kv_heads', 'head_dim'),
  cache_axes=('batch', 'kv_heads', None, None),
  open=gather,
  attend=attend,
  close=scatter,
  copies_context=True,
  any_width=False,
  objection=lambda head_dim, page_size: '',
)
