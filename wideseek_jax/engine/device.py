"""What the engine keeps on its devices: weights, pages and compiled calls.

Rows come in as sequences and counts; each call is padded to one of a few
shapes, so the number of compilations is a constant of the engine's sizes. The
engine decides who reads and who samples, this module only does it.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.engine import attention, decode, memory, sequences
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer


def context_buckets(page_size: int, max_context: int) -> tuple[int, ...]:
  """Context lengths to compile for: 128 · {1, 2, 3, 4, 6, 8, 12 …}."""
  sizes, size = {max_context}, 128
  while size < max_context:
    sizes |= {size, size + size // 2} if size > 128 else {size}
    size *= 2
  pages_needed = {-(-min(s, max_context) // page_size) for s in sizes}
  return tuple(sorted(n * page_size for n in pages_needed))


class Device:
  """Weights and pages, and the two calls that use them.

  Attributes:
    num_shards: data shards; each has an equal block of the rows of a call.
    num_rows: most sequences that sample in one call.
    chunk_len: most tokens that they sample in it.
    prefill_rows: most sequences that read in one call.
    prefill_len: most tokens that they read in it.
    compile_count: compilations so far.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    mesh: jax.sharding.Mesh,
    how: attention.Attention,
    *,
    num_rows: int,
    num_pages: int,
    page_size: int,
    max_context: int,
    chunk_len: int,
    prefill_len: int,
    prefill_rows: int,
    dtype: jnp.dtype,
    fixed_shapes: bool,
  ):
    """Makes empty pages; `how` reads them, the others as in `engine.Engine`."""
    table = sharding.DECODE_TABLE
    self.num_shards = sharding.ways(mesh, 'batch', table)
    self.num_rows = num_rows
    self.chunk_len = chunk_len
    self.prefill_rows = min(prefill_rows, num_rows)
    self.prefill_len = prefill_len
    self.compile_count = 0
    self._config = config
    self._mesh = mesh
    self._how = how
    self._dtype = dtype
    self._page_size = page_size
    self._max_context = max_context
    if how.any_width:
      self._contexts = (-(-max_context // page_size) * page_size,)
    else:
      self._contexts = context_buckets(page_size, max_context)
    # Reading looks at keys as far as rows reach, whatever the width of their
    # tables: every second length is enough.
    self._held_before = self._contexts[::-2][::-1]
    # Leads sample by themselves, subagents in crowds that dwindle: rows that
    # nobody needs are left out.
    share = num_rows // self.num_shards
    shares = {share // part for part in (8, 4, 2, 1) if share >= part}
    self._row_buckets = tuple(n * self.num_shards for n in sorted(shares))
    # Padding is computed too: prompts and answers of tools differ in length.
    halvings = (prefill_len // page_size).bit_length()
    lens = {page_size * 2**i for i in range(halvings)} | {prefill_len}
    self._read_lens = tuple(sorted(lens))
    self._read_rows = tuple(sorted({self.num_shards, self.prefill_rows}))
    if fixed_shapes:
      self._contexts = self._contexts[-1:]
      self._held_before = self._held_before[-1:]
      self._row_buckets = self._row_buckets[-1:]
      self._read_lens = self._read_lens[-1:]
      self._read_rows = self._read_rows[-1:]
    self._by_row = jax.sharding.NamedSharding(
      mesh, sharding.full_spec(('batch',), table)
    )
    self._params: transformer.Params = {}
    self._pages = self._empty_pages(num_pages)

  def set_params(self, params: transformer.Params) -> None:
    """Casts the weights, unstacks them and lays them out for decoding."""
    shapes = memory.param_shapes(self._config, self._mesh, self._dtype)
    params = _unstack(params, self._dtype)
    # A copy: the training step may donate what it handed over.
    self._params = jax.device_put(
      params, jax.tree.map(lambda x: x.sharding, shapes), may_alias=False
    )

  def read(self, chosen: list[sequences.Chosen]) -> None:
    """Computes the keys of the next tokens of up to `prefill_rows` sequences.

    Returns before the device is done.

    Args:
      chosen: what each data shard reads, at most its share of the rows.
    """
    every = [one for shard in chosen for one in shard]
    longest = max(count for _, count in every)
    held = max(sequence.table.length for sequence, _ in every)
    needed = max(map(len, chosen)) * self.num_shards
    self._read(
      chosen,
      _bucket(self._read_rows, needed),
      _bucket(self._read_lens, longest),
      _bucket(self._held_before, held),
    )

  def sample(self, chosen: list[sequences.Chosen]) -> decode.Sampled:
    """Samples a chunk of up to `num_rows` sequences.

    Returns before the device is done: jax.device_get waits for the arrays.

    Args:
      chosen: what each data shard samples, at most its share of the rows;
        `sequences.numbered` tells which row is whose.
    """
    # A row that ends early stays at the position after its last token.
    ends = [
      sequence.table.length + limit + 1
      for shard in chosen
      for sequence, limit in shard
    ]
    context = _bucket(self._contexts, min(max(ends), self._max_context))
    needed = max(map(len, chosen)) * self.num_shards
    return self._sample(chosen, _bucket(self._row_buckets, needed), context)

  def mark(self) -> jax.Array:
    """A number that is there when the device has done all calls so far."""
    return _first(self._pages[0][0])

  def warm_up(self) -> None:
    """Compiles every shape that a call can have."""
    self.mark()
    samples = itertools.product(self._row_buckets, self._contexts)
    for shape in samples:
      self._sample([], *shape)
    reads = itertools.product(
      self._read_rows, self._read_lens, self._held_before
    )
    for shape in reads:
      self._read([], *shape)

  def _read(
    self,
    chosen: list[sequences.Chosen],
    num_rows: int,
    read_len: int,
    context: int,
  ) -> None:
    before = decode.num_traces()
    rows = sequences.prefill_rows(
      chosen, num_rows, read_len, context, self._page_size
    )
    rows = self._deal(rows)
    self._pages = decode.prefill(
      self._config,
      self._how,
      self._mesh,
      self._params,
      self._pages,
      rows,
    )
    self.compile_count += decode.num_traces() - before

  def _sample(
    self, chosen: list[sequences.Chosen], num_rows: int, context: int
  ) -> decode.Sampled:
    before = decode.num_traces()
    rows = sequences.decode_rows(
      chosen, num_rows, self.chunk_len, context, self._page_size
    )
    rows = self._deal(rows)
    self._pages, sampled = decode.decode_chunk(
      self._config,
      self._how,
      self._mesh,
      self.chunk_len,
      self._params,
      self._pages,
      rows,
    )
    self.compile_count += decode.num_traces() - before
    return sampled

  def _deal(self, rows):
    """Deals the rows out; one device takes host arrays as they are, faster."""
    if self._mesh.size == 1:
      return rows
    return jax.device_put(rows, self._by_row)

  def _empty_pages(self, num_pages: int) -> attention.Layers:
    shapes = attention.page_shapes(
      self._how,
      self._mesh,
      self._config,
      num_pages,
      self._page_size,
      self._dtype,
    )
    return jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype, device=x.sharding), shapes
    )


def _bucket(sizes: tuple[int, ...], needed: int) -> int:
  return next(size for size in sizes if size >= needed)


@functools.partial(jax.jit, static_argnames='dtype')
def _unstack(
  params: transformer.Params, dtype: jnp.dtype
) -> transformer.Params:
  params = jax.tree.map(lambda x: x.astype(dtype), params)
  return transformer.unstack(params)


@jax.jit
def _first(array: jax.Array) -> jax.Array:
  return array[(0,) * array.ndim]
