"""What the engine keeps on its devices: weights, pages and compiled calls.

Rows come in as sequences and counts; each call is padded to one of a few
shapes, so the number of compilations is a constant of the engine's sizes. The
engine decides who reads and who samples, this module only does it.
"""

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.engine import attention, decode, sequences
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
    *,
    num_rows: int,
    num_pages: int,
    page_size: int,
    max_context: int,
    chunk_len: int,
    prefill_len: int,
    prefill_rows: int,
    dtype: jnp.dtype,
  ):
    """Makes empty pages; arguments as in `engine.Engine`."""
    self.num_rows = num_rows
    self.chunk_len = chunk_len
    self.prefill_rows = min(prefill_rows, num_rows)
    self.prefill_len = prefill_len
    self.compile_count = 0
    self._config = config
    self._mesh = mesh
    self._dtype = dtype
    self._page_size = page_size
    self._max_context = max_context
    self._contexts = context_buckets(page_size, max_context)
    # The last agents of a task sample nearly alone: a second, small batch.
    self._row_buckets = tuple(sorted({num_rows // 8 or num_rows, num_rows}))
    self._read_lens = tuple(sorted({page_size, prefill_len}))
    self._replicated = sharding.named_sharding(mesh, (), (), {})
    self._params: transformer.Params = {}
    self._pages = self._empty_pages(num_pages)

  def set_params(self, params: transformer.Params) -> None:
    """Casts the weights and lays them out for decoding."""
    target = sharding.param_shardings(
      self._mesh,
      params,
      transformer.logical_axes(self._config),
      sharding.DECODE_TABLE,
    )
    params = jax.tree.map(lambda x: jnp.asarray(x, self._dtype), params)
    # A copy: the training step may donate what it handed over.
    self._params = jax.device_put(params, target, may_alias=False)

  def read(self, chosen: sequences.Chosen) -> None:
    """Computes the keys of the next tokens of up to `prefill_rows` sequences.

    Returns before the device is done.
    """
    longest = max(count for _, count in chosen)
    held = max(sequence.table.length for sequence, _ in chosen)
    context = _bucket((0, *self._contexts), held)
    self._read(chosen, _bucket(self._read_lens, longest), context)

  def sample(self, chosen: sequences.Chosen) -> decode.Sampled:
    """Samples a chunk of up to `num_rows` sequences; a row each, in order.

    Returns before the device is done: jax.device_get waits for the arrays.
    """
    # A row that ends early stays at the position after its last token.
    ends = [sequence.table.length + limit + 1 for sequence, limit in chosen]
    context = _bucket(self._contexts, min(max(ends), self._max_context))
    return self._sample(
      chosen, _bucket(self._row_buckets, len(chosen)), context
    )

  def mark(self) -> jax.Array:
    """A number that is there when the device has done all calls so far."""
    return _first(self._pages[0][0])

  def warm_up(self) -> None:
    """Compiles every shape that a call can have."""
    self.mark()
    for context in self._contexts:
      for num_rows in self._row_buckets:
        self._sample([], num_rows, context)
    for context in (0, *self._contexts):
      for read_len in self._read_lens:
        self._read([], read_len, context)

  def _read(
    self, chosen: sequences.Chosen, read_len: int, context: int
  ) -> None:
    before = decode.num_traces()
    rows = sequences.prefill_rows(
      chosen, self.prefill_rows, read_len, context, self._page_size
    )
    rows = jax.device_put(rows, self._replicated)
    self._pages = decode.prefill(
      self._config, self._mesh, self._params, self._pages, rows
    )
    self.compile_count += decode.num_traces() - before

  def _sample(
    self, chosen: sequences.Chosen, num_rows: int, context: int
  ) -> decode.Sampled:
    before = decode.num_traces()
    rows = sequences.decode_rows(
      chosen, num_rows, self.chunk_len, context, self._page_size
    )
    rows = jax.device_put(rows, self._replicated)
    self._pages, sampled = decode.decode_chunk(
      self._config,
      self._mesh,
      self.chunk_len,
      self._params,
      self._pages,
      rows,
    )
    self.compile_count += decode.num_traces() - before
    return sampled

  def _empty_pages(self, num_pages: int) -> attention.Pages:
    c = self._config
    # One page more than can be held: page 0 is scratch.
    shape = (num_pages + 1, self._page_size, c.num_kv_heads, c.head_dim)
    target = sharding.named_sharding(
      self._mesh, shape, attention.PAGES_AXES, sharding.DECODE_TABLE
    )

    def empty() -> jax.Array:
      return jnp.zeros(shape, self._dtype, device=target)

    return tuple((empty(), empty()) for _ in range(c.num_layers))


def _bucket(sizes: tuple[int, ...], needed: int) -> int:
  return next(size for size in sizes if size >= needed)


@jax.jit
def _first(array: jax.Array) -> jax.Array:
  return array[(0,) * array.ndim]
