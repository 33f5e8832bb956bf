"""How many rows and pages fit: memory is planned before any is taken.

In come the model's shape, the mesh, the engine's sizes and a budget; out goes
a `Plan`, which reads as one line, or an error that shows the arithmetic. All
bytes are those of one device, with weights and pages laid out by
`sharding.DECODE_TABLE`.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.engine import attention
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

# More rows than this would only wait for one another.
MAX_ROWS = 256
# Of what a device has free, so much is left to XLA and to fragmentation.
HEADROOM = 0.1
# float32 [R, V] arrays alive at a time while a token is sampled: logits,
# scores, masses, cumulative masses, and twice two for the sort of top-k.
VOCAB_ARRAYS = 8


@dataclasses.dataclass(frozen=True)
class Plan:
  """What an engine takes of one device.

  Attributes:
    num_rows: turns that sample at the same time, on all devices.
    num_pages: pages of the cache on all devices, scratch pages not counted.
    page_size: tokens a page.
    num_shards: data shards, each with an equal part of the rows and pages.
    weight_bytes: the policy.
    page_bytes: one page.
    call_bytes: the largest device call, beside weights and pages.
    budget: bytes that may be taken; None if nobody knows.
  """

  num_rows: int
  num_pages: int
  page_size: int
  num_shards: int
  weight_bytes: int
  page_bytes: int
  call_bytes: int
  budget: int | None

  @property
  def device_pages(self) -> int:
    """Pages of a device, its scratch page included."""
    return self.num_pages // self.num_shards + 1

  @property
  def pool_bytes(self) -> int:
    return self.device_pages * self.page_bytes

  @property
  def total_bytes(self) -> int:
    return self.weight_bytes + self.pool_bytes + self.call_bytes

  def __str__(self) -> str:
    known = '' if self.budget is None else f' of {_show(self.budget)}'
    return (
      f'{self.num_rows} rows, {self.num_pages:,} pages of {self.page_size} '
      f'tokens; a device takes weights {_show(self.weight_bytes)} + pages '
      f'{self.device_pages:,} x {_show(self.page_bytes)} + calls '
      f'{_show(self.call_bytes)} = {_show(self.total_bytes)}{known}'
    )


def param_shapes(
  config: model_config.ModelConfig, mesh: jax.sharding.Mesh, dtype: jnp.dtype
) -> Any:
  """The weights as they lie for decoding, a jax.ShapeDtypeStruct each."""
  shapes = transformer.param_shapes(config)
  shapes = jax.eval_shape(transformer.unstack, shapes)
  shardings = sharding.param_shardings(
    mesh, shapes, transformer.unstacked_axes(config), sharding.DECODE_TABLE
  )
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, dtype, sharding=where),
    shapes,
    shardings,
  )


def device_bytes(shapes: Any) -> int:
  """What jax.ShapeDtypeStructs with shardings take on one of their devices."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(shapes)
  )


def device_budget(mesh: jax.sharding.Mesh) -> int | None:
  """Bytes that an engine may take of the fullest device of this host.

  None where devices do not tell their memory, as on CPU.
  """
  found = [device.memory_stats() for device in mesh.local_devices]
  if not all(stats and 'bytes_limit' in stats for stats in found):
    return None
  free = min(s['bytes_limit'] - s['bytes_in_use'] for s in found)
  return int(free * (1 - HEADROOM))


def plan(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  how: attention.Attention,
  *,
  dtype: jnp.dtype,
  budget: int | None,
  num_rows: int,
  num_pages: int,
  page_size: int,
  max_context: int,
  prefill_len: int,
  prefill_rows: int,
) -> Plan:
  """Picks what is left open, and checks that all of it fits.

  Rows: the most, among powers of two (a data shard), whose pages would hold
  each of them half full. Pages: all that fit, but no more than twice what the
  rows can fill; the other half is for agents that wait and for prefixes to be
  found again. Data shards have equal shares of both.

  Args:
    config: the model's shape.
    mesh: where to decode.
    how: who reads the pages: the reference lays a row's keys side by side;
      kernels read the pages where they are.
    dtype: of weights, activations and cache.
    budget: bytes that may be taken of each device; None if nobody knows.
    num_rows: as in `engine.Engine`; 0 to pick it.
    num_pages: the same.
    page_size: the same, as all that follow.
    max_context: most tokens of a sequence.
    prefill_len: tokens that a sequence reads in one call.
    prefill_rows: sequences that read in one call.

  Raises:
    ValueError: it cannot fit, or there is something to pick and no budget.
  """
  if not (num_rows and num_pages) and budget is None:
    raise ValueError(
      'the devices do not tell their memory: set memory_bytes, or both '
      'num_rows and num_pages'
    )
  longest = -(-max_context // page_size)
  shards = sharding.ways(mesh, 'batch', sharding.DECODE_TABLE)
  if num_rows % shards:
    raise ValueError(
      f'num_rows={num_rows} is no multiple of the {shards} data shards'
    )
  num_pages -= num_pages % shards
  # A sequence of full length may copy a page that it shares: one more.
  if num_pages and num_pages // shards <= longest:
    raise ValueError(
      f'{num_pages // shards} pages of {page_size} tokens cannot hold one '
      f'sequence of max_context={max_context} and a page to copy'
    )
  if num_pages and num_pages < num_rows:
    raise ValueError(
      f'{num_pages} pages cannot serve {num_rows} rows: each takes one at least'
    )
  weight_bytes = device_bytes(param_shapes(config, mesh, dtype))
  pool = functools.partial(
    attention.page_shapes, how, mesh, config, page_size=page_size, dtype=dtype
  )
  page_bytes = device_bytes(pool(num_pages=0))  # scratch

  def with_rows(rows: int) -> Plan:
    readers = min(prefill_rows, rows)
    decode_bytes = _layer_bytes(config, mesh, dtype, rows, 1)
    decode_bytes += _vocab_bytes(config, mesh, rows)
    prefill_bytes = _layer_bytes(config, mesh, dtype, readers, prefill_len)
    if how.copies_context:
      attend = functools.partial(_attention_bytes, config, mesh, dtype)
      decode_bytes += attend(rows, 1, max_context)
      prefill_bytes += attend(readers, prefill_len, max_context + prefill_len)
    call_bytes = max(decode_bytes, prefill_bytes)
    pages = num_pages
    if not pages:
      left = (budget - weight_bytes - call_bytes) // page_bytes - 1
      # If that is not enough, the sum will show it.
      share = rows // shards
      pages = max(longest + 1, share, min(left, 2 * share * longest)) * shards
    return Plan(
      rows,
      pages,
      page_size,
      shards,
      weight_bytes,
      page_bytes,
      call_bytes,
      budget,
    )

  most = max(1, MAX_ROWS // shards).bit_length()
  powers = [shards * 2**i for i in reversed(range(most))]
  for rows in [num_rows] if num_rows else powers:
    found = with_rows(rows)
    half_full = num_rows or found.num_pages >= rows * longest / 2
    if half_full and (budget is None or found.total_bytes <= budget):
      return found
  raise ValueError(
    f'the engine does not fit: {found} (one sequence of '
    f'max_context={max_context} takes {longest} pages)'
  )


def _bytes(
  mesh: jax.sharding.Mesh,
  shape: Sequence[int],
  axes: Sequence[str | None],
  dtype: jnp.dtype,
  table: sharding.Table = sharding.DECODE_TABLE,
) -> int:
  """A device's share of an array."""
  layout = sharding.named_sharding(mesh, shape, axes, table)
  share = math.prod(layout.shard_shape(tuple(shape)))
  return share * jnp.dtype(dtype).itemsize


def _layer_bytes(config, mesh, dtype, rows, read) -> int:
  """One layer's activations: the stream, its norm, the heads, the MLP."""
  c = config
  heads = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
  stream = (rows, read, 2 * c.embed_dim + heads)
  mlp = (rows, read, c.mlp_dim)
  return _bytes(mesh, stream, ('batch', None, None), dtype) + 2 * _bytes(
    mesh, mlp, ('batch', None, 'mlp'), dtype
  )


def _vocab_bytes(config, mesh, rows) -> int:
  """Logits and what sampling makes of them."""
  shape = (rows, config.vocab_size)
  return VOCAB_ARRAYS * _bytes(mesh, shape, ('samples', None), jnp.float32)


def _attention_bytes(config, mesh, dtype, rows, read, seen) -> int:
  """Copies of the context for all layers, scores and weights of one."""
  c = config
  table, copies = attention.head_layout(mesh, config)
  bytes_of = functools.partial(_bytes, mesh, table=table)
  copy = (rows, c.num_kv_heads * copies, c.head_dim, seen)
  scores = (rows, c.num_heads, read, seen)
  return 2 * c.num_layers * bytes_of(
    copy, ('batch', 'kv_heads', None, None), dtype
  ) + 2 * bytes_of(scores, ('batch', 'heads', None, None), jnp.float32)


def _show(count: int) -> str:
  for unit, size in (('GB', 10**9), ('MB', 10**6), ('kB', 10**3)):
    if abs(count) >= size:
      return f'{count / size:.2f} {unit}'
  return f'{count} B'
