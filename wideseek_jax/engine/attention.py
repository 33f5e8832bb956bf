"""Attention over paged keys: gather once, attend often, write back once.

A layer's pages [P, page, K, H] are the lasting home of its keys and values. A
device call gathers the pages of its rows to contiguous buffers, the model
attends to those and writes new keys into them, and at the end the pages that
were touched go back. The two buffers have the layouts in which both products
of attention are plain matrix products: keys [R, K, H, S], values [R, K, S, H].
"""

import math

import jax
import jax.numpy as jnp

from wideseek_jax.models import layers

# A (k_pages, v_pages), each [P, page, K, H], for every layer. With one array a
# layer, what is written depends on what was read, so XLA never copies the pool.
Pages = tuple[tuple[jax.Array, jax.Array], ...]
# A (k_RKHS, v_RKSH) for every layer.
Cache = tuple[tuple[jax.Array, jax.Array], ...]

PAGES_AXES = ('pages', 'page', 'kv_heads', 'head_dim')
KEY_AXES = ('batch', 'kv_heads', None, None)
VALUE_AXES = ('batch', 'kv_heads', None, None)


def gather(pages: Pages, table_RN: jax.Array, constrain) -> Cache:
  """Copies the pages of each row side by side.

  Args:
    pages: the pool.
    table_RN: int32 page ids, in the order of the row's tokens.
    constrain: (array, logical axes) -> array.

  Returns:
    For every layer (k_RKHS, v_RKSH) with S = N * page.
  """
  _, page, K, H = pages[0][0].shape
  R, N = table_RN.shape
  cache = []
  for k_pages, v_pages in pages:
    k_RNPKH, v_RNPKH = k_pages[table_RN], v_pages[table_RN]
    k_RKHS = k_RNPKH.transpose(0, 3, 4, 1, 2).reshape(R, K, H, N * page)
    v_RKSH = v_RNPKH.transpose(0, 3, 1, 2, 4).reshape(R, K, N * page, H)
    cache.append((constrain(k_RKHS, KEY_AXES), constrain(v_RKSH, VALUE_AXES)))
  return tuple(cache)


def scatter(
  pages: Pages,
  cache: Cache,
  first_R: jax.Array,
  table_RW: jax.Array,
  constrain,
) -> Pages:
  """Writes the pages that a call touched back to the pool.

  Args:
    pages: the pool.
    cache: as `gather` returned it and `cached_attend` changed it.
    first_R: int32, the index in its row of the first page touched.
    table_RW: int32 ids of the pages to write, from `first_R` on; page 0 is
      scratch and takes what nobody wants.
    constrain: (array, logical axes) -> array.
  """
  page = pages[0][0].shape[1]
  R, W = table_RW.shape
  written = []
  for (k_pages, v_pages), (k_RKHS, v_RKSH) in zip(pages, cache, strict=True):
    _, K, H, S = k_RKHS.shape
    N = S // page
    index_RW = jnp.minimum(first_R[:, None] + jnp.arange(W)[None, :], N - 1)
    k_RKHNP = k_RKHS.reshape(R, K, H, N, page)
    v_RKNPH = v_RKSH.reshape(R, K, N, page, H)
    k_RKHWP = jax.vmap(lambda k, i: k[:, :, i])(k_RKHNP, index_RW)
    v_RKWPH = jax.vmap(lambda v, i: v[:, i])(v_RKNPH, index_RW)
    k_RWPKH = k_RKHWP.transpose(0, 3, 4, 1, 2)
    v_RWPKH = v_RKWPH.transpose(0, 2, 3, 1, 4)
    k_pages = k_pages.at[table_RW].set(k_RWPKH)
    v_pages = v_pages.at[table_RW].set(v_RWPKH)
    written.append(
      (constrain(k_pages, PAGES_AXES), constrain(v_pages, PAGES_AXES))
    )
  return tuple(written)


def cached_attend(positions_RT: jax.Array) -> layers.Attend:
  """Attention of new tokens to a row's buffer, themselves included.

  Args:
    positions_RT: int32, consecutive positions of the new tokens; the last one
      lies inside the buffer.

  Returns:
    An attend function whose cache is a `Cache`: it writes the new keys and
    values at their positions, then lets a query see all positions up to its
    own. What a row holds beyond them is masked, whatever it is.
  """
  start_R = positions_RT[:, 0]

  def write_key(buffer_KHS, new_KHT, start):
    return jax.lax.dynamic_update_slice(buffer_KHS, new_KHT, (0, 0, start))

  def write_value(buffer_KSH, new_KTH, start):
    return jax.lax.dynamic_update_slice(buffer_KSH, new_KTH, (0, start, 0))

  def attend(layer, q_RTNH, k_RTKH, v_RTKH, cache):
    k_RKHS, v_RKSH = cache[layer]
    R, T, N, H = q_RTNH.shape
    K, S = v_RKSH.shape[1:3]
    k_RKHS = jax.vmap(write_key)(k_RKHS, k_RTKH.transpose(0, 2, 3, 1), start_R)
    v_RKSH = jax.vmap(write_value)(
      v_RKSH, v_RTKH.transpose(0, 2, 1, 3), start_R
    )
    # The heads of a group and the times side by side (M): one matrix product
    # a kv head. Few, simple passes over the scores: on CPU they cost as much
    # as the products.
    G = N // K
    q_RKGTH = q_RTNH.reshape(R, T, K, G, H).transpose(0, 2, 3, 1, 4)
    scores_RKMS = jnp.einsum(
      'RKMH,RKHS->RKMS',
      q_RKGTH.reshape(R, K, G * T, H) * (1 / math.sqrt(H)),
      k_RKHS,
      preferred_element_type=jnp.float32,
    )
    seen_RTS = jnp.arange(S)[None, None, :] <= positions_RT[:, :, None]
    bias_RTS = jnp.where(seen_RTS, 0.0, -jnp.inf)
    scores_RKMS += jnp.tile(bias_RTS, (1, G, 1))[:, None, :, :]
    top = jnp.max(scores_RKMS, axis=-1, keepdims=True)
    weights_RKMS = jnp.exp(scores_RKMS - top)
    total_RKM = jnp.sum(weights_RKMS, axis=-1)
    out_RKMH = jnp.einsum(
      'RKMS,RKSH->RKMH',
      weights_RKMS.astype(v_RKSH.dtype),
      v_RKSH,
      preferred_element_type=jnp.float32,
    )
    out_RKMH = out_RKMH / total_RKM[..., None]
    out_RKGTH = out_RKMH.reshape(R, K, G, T, H)
    out_RTNH = out_RKGTH.transpose(0, 3, 1, 2, 4).reshape(R, T, N, H)
    cache = (*cache[:layer], (k_RKHS, v_RKSH), *cache[layer + 1 :])
    return out_RTNH.astype(q_RTNH.dtype), cache

  return attend
