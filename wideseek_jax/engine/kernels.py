"""Attention that reads pages in place, by the kernels that JAX ships.

New keys and values go straight to (page, slot), so nothing is gathered or
written back: what a call costs follows what its rows hold, not the longest of
them. `RAGGED` is for TPU, `TRITON` for GPU; `choose` finds the one for a
device. No kernel here is our own.
"""

import math
import warnings

import jax
import jax.numpy as jnp

from wideseek_jax.engine import attention, blockwise, gathered

# Keys and queries that the TPU kernel takes at a time: what its authors found
# best for most shapes (its table of tuned sizes covers one TPU generation).
RAGGED_PAGES = 16
RAGGED_QUERIES = 32
# The GPU kernel cuts a row into parts that run beside one another.
TRITON_PARTS = 16
TRITON_KEYS = 64
# Keys that prefill on GPU scores at a time: the scores of a long row are never
# whole in memory.
BLOCK_KEYS = 512


def copy_borrowed(
  pages: attention.Layers,
  tables: attention.RowTables,
  page_axis: int,
) -> attention.Layers:
  """Copies the page where two sequences part, for each row that borrows one.

  Args:
    pages: the pool.
    tables: a row borrows where the page to read is not the page to write.
    page_axis: which axis of the pages counts them.
  """
  page_size = pages[0][0].shape[page_axis + 1]
  source_R = _at(tables.read_RN, tables.start_R // page_size)
  target_R = tables.write_RW[:, 0]
  before = (slice(None),) * page_axis
  # Most rows copy a page to itself: that is cheaper than to ask.
  return jax.tree.map(
    lambda x: x.at[*before, target_R].set(x[*before, source_R]), pages
  )


def own_table(tables: attention.RowTables, page_size: int) -> jax.Array:
  """The pages of each row after the copy, int32 [R, N]."""
  place_R = tables.start_R // page_size
  row_R = jnp.arange(place_R.shape[0])
  return tables.read_RN.at[row_R, place_R].set(tables.write_RW[:, 0])


def keep(
  pages: attention.Layers,
  cache: attention.Layers,
  tables: attention.RowTables,
) -> attention.Layers:
  """The cache is the pool itself: nothing is left to do at the end."""
  del pages, tables
  return cache


def _at(table_RN: jax.Array, place_R: jax.Array) -> jax.Array:
  return jnp.take_along_axis(table_RN, place_R[:, None], axis=1)[:, 0]


def ragged_shapes(
  num_pages: int, page_size: int, K: int, H: int
) -> tuple[tuple[int, ...], ...]:
  """One array [P, page, 2K, H]: the key and the value of head 0, of head 1 …"""
  return ((num_pages, page_size, 2 * K, H),)


def ragged_attend(
  q_RTNH: jax.Array,
  k_RTKH: jax.Array,
  v_RTKH: jax.Array,
  pages: tuple[jax.Array],
  positions_RT: jax.Array,
  tables: attention.RowTables,
) -> tuple[jax.Array, tuple[jax.Array]]:
  """`Attention.attend` by JAX's ragged paged attention."""
  # Loaded only where it runs.
  from jax.experimental.pallas.ops.tpu import ragged_paged_attention as ragged

  (kv_pages,) = pages
  R, T, N, H = q_RTNH.shape
  K = k_RTKH.shape[2]
  page_size = kv_pages.shape[1]
  table_RN = own_table(tables, page_size)
  page_RT = jnp.take_along_axis(table_RN, positions_RT // page_size, axis=1)
  kv_RTJH = jnp.stack([k_RTKH, v_RTKH], axis=3).reshape(R, T, 2 * K, H)
  kv_pages = kv_pages.at[page_RT, positions_RT % page_size].set(kv_RTJH)
  out = ragged.ragged_paged_attention(
    q_RTNH.reshape(R * T, N, H),
    kv_pages,
    kv_lens=positions_RT[:, -1] + 1,
    page_indices=table_RN,
    cu_q_lens=jnp.arange(R + 1, dtype=jnp.int32) * T,
    num_seqs=jnp.full(1, R, jnp.int32),
    sm_scale=1 / math.sqrt(H),
    num_kv_pages_per_block=min(RAGGED_PAGES, table_RN.shape[1]),
    num_queries_per_block=min(RAGGED_QUERIES, R * T),
  )
  return out.reshape(R, T, N, H), (kv_pages,)


def ragged_objection(head_dim: int, page_size: int) -> str:
  """Why the TPU kernel cannot serve these sizes, '' if it can."""
  del page_size
  return f'head_dim={head_dim} is no multiple of 128' if head_dim % 128 else ''


RAGGED = attention.Attention(
  name='ragged',
  page_shapes=ragged_shapes,
  page_axes=('pages', 'page', 'kv_heads', 'head_dim'),
  cache_axes=('pages', 'page', 'kv_heads', 'head_dim'),
  open=lambda pages, tables: copy_borrowed(pages, tables, page_axis=0),
  attend=ragged_attend,
  close=keep,
  copies_context=False,
  any_width=True,
  objection=ragged_objection,
)


def triton_shapes(
  num_pages: int, page_size: int, K: int, H: int
) -> tuple[tuple[int, ...], ...]:
  """Keys and values apart, each [K, P, page, H]."""
  shape = (K, num_pages, page_size, H)
  return shape, shape


def triton_attend(
  q_RTNH: jax.Array,
  k_RTKH: jax.Array,
  v_RTKH: jax.Array,
  pages: tuple[jax.Array, jax.Array],
  positions_RT: jax.Array,
  tables: attention.RowTables,
  interpret: bool = False,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """`Attention.attend`: one query a row by the kernel, several in plain jnp."""
  k_pages, v_pages = pages
  T, page_size = q_RTNH.shape[1], k_pages.shape[2]
  table_RN = own_table(tables, page_size)
  page_RT = jnp.take_along_axis(table_RN, positions_RT // page_size, axis=1)
  slot_RT = positions_RT % page_size
  k_pages = k_pages.at[:, page_RT, slot_RT].set(k_RTKH.transpose(2, 0, 1, 3))
  v_pages = v_pages.at[:, page_RT, slot_RT].set(v_RTKH.transpose(2, 0, 1, 3))
  if T == 1:
    out_RNH = _triton_decode(
      q_RTNH[:, 0], k_pages, v_pages, table_RN, positions_RT[:, 0], interpret
    )
    return out_RNH[:, None], (k_pages, v_pages)
  width = min(max(1, BLOCK_KEYS // page_size), table_RN.shape[1])
  # Scratch fills the last block.
  table_RN = jnp.pad(table_RN, ((0, 0), (0, -table_RN.shape[1] % width)))

  def fetch(block):
    ids_RW = jax.lax.dynamic_slice_in_dim(table_RN, block * width, width, 1)
    k_KRWPH, v_KRWPH = k_pages[:, ids_RW], v_pages[:, ids_RW]
    K, R, W, P, H = k_KRWPH.shape
    return (
      k_KRWPH.reshape(K, R, W * P, H).transpose(1, 0, 3, 2),
      v_KRWPH.reshape(K, R, W * P, H).transpose(1, 0, 2, 3),
    )

  out_RTNH = blockwise.attend(q_RTNH, positions_RT, fetch)
  return out_RTNH, (k_pages, v_pages)


def _triton_decode(
  q_RNH, k_pages, v_pages, table_RN, position_R, interpret: bool
) -> jax.Array:
  # Deprecated since jax 0.11, without a successor that JAX ships.
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    from jax.experimental.pallas.ops.gpu import paged_attention

  R, N = table_RN.shape
  block = max(1, TRITON_KEYS // k_pages.shape[2])
  # The kernel wants equal parts of whole blocks; scratch fills the last.
  room_RM = jnp.zeros((R, -N % (TRITON_PARTS * block)), table_RN.dtype)
  return paged_attention.paged_attention(
    q_RNH * (1 / math.sqrt(q_RNH.shape[-1])),
    k_pages,
    v_pages,
    jnp.concatenate([table_RN, room_RM], axis=1),
    position_R + 1,
    pages_per_compute_block=block,
    k_splits=TRITON_PARTS,
    interpret=interpret,
  )


def triton_objection(head_dim: int, page_size: int) -> str:
  """Why the GPU kernel cannot serve these sizes, '' if it can."""
  for name, size in (('head_dim', head_dim), ('page_size', page_size)):
    if size < 16 or size & (size - 1):
      return f'{name}={size} is no power of two from 16 on'
  return ''


TRITON = attention.Attention(
  name='triton',
  page_shapes=triton_shapes,
  page_axes=('kv_heads', 'pages', 'page', 'head_dim'),
  cache_axes=('kv_heads', 'pages', 'page', 'head_dim'),
  open=lambda pages, tables: copy_borrowed(pages, tables, page_axis=1),
  attend=triton_attend,
  close=keep,
  copies_context=False,
  any_width=False,  # The parts of the decoding kernel are equal shares of it.
  objection=triton_objection,
)


IMPLEMENTATIONS = {
  how.name: how for how in (gathered.REFERENCE, RAGGED, TRITON)
}
_BEST = {'tpu': 'ragged', 'gpu': 'triton'}


def choose(
  name: str, platform: str, head_dim: int, page_size: int
) -> attention.Attention:
  """Finds an implementation.

  Args:
    name: one of IMPLEMENTATIONS; 'auto' takes the kernel of the platform, or
      the reference where that kernel cannot serve these sizes.
    platform: of the devices: 'cpu', 'gpu' or 'tpu'.
    head_dim: size of a head.
    page_size: tokens a page.

  Raises:
    ValueError: there is no such name, or the named one cannot serve.
  """
  if name == 'auto':
    best = IMPLEMENTATIONS[_BEST.get(platform, 'reference')]
    served = not best.objection(head_dim, page_size)
    return best if served else gathered.REFERENCE
  if name not in IMPLEMENTATIONS:
    names = ('auto', *IMPLEMENTATIONS)
    raise ValueError(f'no attention {name!r}; there are {names}')
  how = IMPLEMENTATIONS[name]
  objection = how.objection(head_dim, page_size)
  if objection:
    raise ValueError(f'attention {name!r}: {objection}')
  return how
