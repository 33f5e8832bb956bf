"""Attention of packed rows by the kernels that JAX ships for TPU and GPU.

They skip what comes later in a row and tell segments by an id; trees of
prefixes they do not know. `choose` finds the implementation for a mesh, these
or `attention.BLOCKS`. No kernel here is our own.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax.training import attention

# Sides of the squares of queries and keys that the TPU kernel works on, best
# first; the GPU kernel's own.
SPLASH_BLOCKS = (512, 256, 128)
TRITON_BLOCK = 128


def splash_kernel(
  mesh: jax.sharding.Mesh, T: int, N: int, *, interpret: bool = False
) -> tuple[Any, Any]:
  """The causal kernel with what it knows of each part of the time."""
  from jax.experimental.pallas.ops.tpu import splash_attention

  parts = mesh.shape['context']
  block = _splash_block(T // parts)
  mask = splash_attention.MultiHeadMask(
    [splash_attention.CausalMask((T, T)) for _ in range(N)]
  )
  kernel = splash_attention.make_splash_mha(
    mask,
    block_sizes=splash_attention.BlockSizes(
      block_q=block,
      block_kv=block,
      block_q_dkv=block,
      block_kv_dkv=block,
      block_q_dq=block,
      block_kv_dq=block,
    ),
    head_shards=1,
    q_seq_shards=parts,
    interpret=interpret,
  )
  by_time = jax.sharding.PartitionSpec(None, 'context')
  spec = kernel.manual_sharding_spec(jax.sharding.NamedSharding(mesh, by_time))
  return kernel, spec


def splash_attend(
  kernel: Any,
  q_BtNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  ends_BT: jax.Array,
  first: jax.Array,
) -> jax.Array:
  """The TPU kernel; a segment's end is its id. See `attention.Attention`."""
  from jax.experimental.pallas.ops.tpu import splash_attention

  t, H = q_BtNH.shape[1], q_BtNH.shape[3]
  ends_Bt = jax.lax.dynamic_slice_in_dim(ends_BT, first, t, axis=1)
  out_BNtH = jax.vmap(kernel)(
    (q_BtNH / math.sqrt(H)).swapaxes(1, 2),
    k_BTKH.swapaxes(1, 2),
    v_BTKH.swapaxes(1, 2),
    splash_attention.SegmentIds(q=ends_Bt, kv=ends_BT),
  )
  return out_BNtH.swapaxes(1, 2)


def _splash_block(length: int) -> int:
  """The best block that divides a length; 0 if none does."""
  return next((b for b in SPLASH_BLOCKS if length % b == 0), 0)


def splash_objection(head_dim: int, row_len: int, parts: int) -> str:
  """Why the TPU kernel cannot serve these sizes, '' if it can."""
  if head_dim % 128:
    return f'head_dim={head_dim} is no multiple of 128'
  if not _splash_block(row_len // parts):
    return f'{row_len // parts} tokens a device are no multiple of 128'
  return ''


def triton_attend(
  operand: Any,
  q_BTNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  ends_BT: jax.Array,
  first: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """The GPU kernel; it wants a key for every query head."""
  from jax.experimental.pallas.ops.gpu import attention as kernel

  del operand, first
  N, H = q_BTNH.shape[2:]
  copies = N // k_BTKH.shape[2]
  return kernel.mha(
    q_BTNH,
    jnp.repeat(k_BTKH, copies, axis=2),
    jnp.repeat(v_BTKH, copies, axis=2),
    ends_BT,
    sm_scale=1 / math.sqrt(H),
    causal=True,
    interpret=interpret,
  )


def triton_objection(head_dim: int, row_len: int, parts: int) -> str:
  """Why the GPU kernel cannot serve these sizes, '' if it can."""
  if head_dim < 16 or head_dim & (head_dim - 1):
    return f'head_dim={head_dim} is no power of two from 16 on'
  if parts > 1:
    return 'it reads whole rows, not parts of them'
  if row_len % TRITON_BLOCK:
    return f'rows of {row_len} tokens are no multiple of {TRITON_BLOCK}'
  return ''


SPLASH = attention.Attention(
  name='splash',
  prepare=splash_kernel,
  attend=splash_attend,
  plain=True,
  objection=splash_objection,
)
TRITON = attention.Attention(
  name='triton',
  prepare=attention.nothing,
  attend=triton_attend,
  plain=True,
  objection=triton_objection,
)
IMPLEMENTATIONS = {how.name: how for how in (attention.BLOCKS, SPLASH, TRITON)}
_BEST = {'tpu': 'splash', 'gpu': 'triton'}


def choose(
  name: str, platform: str, head_dim: int, row_len: int, parts: int
) -> attention.Attention:
  """Finds an implementation.

  Args:
    name: one of IMPLEMENTATIONS; 'auto' takes the kernel of the platform, or
      blocks where that kernel cannot serve these sizes.
    platform: of the devices: 'cpu', 'gpu' or 'tpu'.
    head_dim: size of a head.
    row_len: tokens of a row.
    parts: devices that the time of a row is dealt out over.

  Raises:
    ValueError: there is no such name, or the named one cannot serve.
  """
  if name == 'auto':
    best = IMPLEMENTATIONS[_BEST.get(platform, 'blocks')]
    served = not best.objection(head_dim, row_len, parts)
    return best if served else attention.BLOCKS
  if name not in IMPLEMENTATIONS:
    names = ('auto', *IMPLEMENTATIONS)
    raise ValueError(f'no attention {name!r}; there are {names}')
  how = IMPLEMENTATIONS[name]
  objection = how.objection(head_dim, row_len, parts)
  if objection:
    raise ValueError(f'attention {name!r}: {objection}')
  return how
