"""The seam between the model and the pages that hold its keys and values.

A device call opens the pages of its rows, attends layer by layer and closes
them again. An `Attention` says how keys lie in the pages and who reads them:
`engine.gathered` is the reference, `engine.kernels` has those that JAX ships
for TPU and GPU. Its functions see one device's share, that is some rows, some
heads and their pages; `on_mesh` lets the same functions take whole arrays.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers

# The arrays that each layer has, as pages or as a cache. With arrays of their
# own, what is written depends on what was read, so XLA never copies the pool.
Layers = tuple[tuple[jax.Array, ...], ...]

QUERY_AXES = ('batch', None, 'heads', None)
KEY_AXES = ('batch', None, 'kv_heads', None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowTables:
  """The pages of each row of a call; idle rows point at page 0 (scratch).

  Ids count the pages of the row's data shard.

  Attributes:
    read_RN: int32 ids of the row's pages in the order of its tokens, with room
      for the new ones; where two sequences part, the id of the other's page.
    write_RW: int32 ids of the pages that new tokens touch, the one of token
      `start` first, 0 beyond the row's own. Where its first differs from the
      page read, the page is copied.
    start_R: int32, how many tokens the row held before the call.
  """

  read_RN: Any
  write_RW: Any
  start_R: Any


@dataclasses.dataclass(frozen=True)
class Attention:
  """One way to keep keys and values in pages and to attend to them.

  Attributes:
    name: what a config calls it.
    page_shapes: (num_pages, page_size, K, H) -> the shapes of a layer's pages.
    page_axes: the logical axes of each of them.
    cache_axes: the logical axes of a layer's arrays in an opened cache.
    open: (pages, tables) -> cache: once, at the start of a call.
    attend: (q_RTNH, k_RTKH, v_RTKH, a layer's cache, positions_RT, tables) ->
      (out_RTNH, the layer's cache): writes the new keys and values at their
      consecutive positions, then lets a query see all positions up to its own.
      What a row's pages hold beyond them is never seen, whatever it is.
    close: (pages as opened, cache, tables) -> pages: once, at the end.
    copies_context: an opened cache is a copy of all that the rows hold.
    any_width: what a call costs follows what its rows hold, not how wide their
      tables are: one width is enough.
    objection: (head_dim, page_size) -> why it cannot serve them, '' if it can.
  """

  name: str
  page_shapes: Callable[[int, int, int, int], tuple[tuple[int, ...], ...]]
  page_axes: tuple[str | None, ...]
  cache_axes: tuple[str | None, ...]
  open: Callable[[Layers, RowTables], Layers]
  attend: Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]]
  close: Callable[[Layers, Layers, RowTables], Layers]
  copies_context: bool
  any_width: bool
  objection: Callable[[int, int], str]


def head_layout(
  mesh: jax.sharding.Mesh, config: model_config.ModelConfig
) -> tuple[sharding.Table, int]:
  """`sharding.head_layout` of a model that decodes."""
  return sharding.head_layout(
    mesh, config.num_heads, config.num_kv_heads, sharding.DECODE_TABLE
  )


def page_shapes(
  how: Attention,
  mesh: jax.sharding.Mesh,
  config: model_config.ModelConfig,
  num_pages: int,
  page_size: int,
  dtype: jnp.dtype,
) -> Any:
  """The pool, a jax.ShapeDtypeStruct with its sharding for every array.

  Args:
    how: how keys lie in the pages.
    mesh: where they live.
    config: the model's shape.
    num_pages: pages that can be held, dealt out evenly over the data shards;
      each of them has one more, which is scratch.
    page_size: tokens a page.
    dtype: of keys and values.
  """
  table, copies = head_layout(mesh, config)
  shards = sharding.ways(mesh, 'pages', table)
  shapes = how.page_shapes(
    (num_pages // shards + 1) * shards,
    page_size,
    config.num_kv_heads * copies,
    config.head_dim,
  )

  def array(shape):
    where = sharding.named_sharding(mesh, shape, how.page_axes, table)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

  return (tuple(array(shape) for shape in shapes),) * config.num_layers


def on_mesh(
  how: Attention, mesh: jax.sharding.Mesh, config: model_config.ModelConfig
) -> Attention:
  """The same functions for arrays that are spread over a mesh.

  Kernels are opaque to the partitioner, so each device is told what is its
  own: the rows of its data shard with their pages, and a share of the heads,
  dealt out by `head_layout`. Page ids count the pages of the shard. Nothing
  crosses devices inside.
  """
  table, copies = head_layout(mesh, config)

  def local(function, in_specs, out_specs):
    # check_vma: kernels do not say along which mesh axes their results vary.
    return jax.shard_map(
      function,
      mesh=mesh,
      in_specs=in_specs,
      out_specs=out_specs,
      check_vma=False,
    )

  rows, pages, cache, query, key = (
    sharding.full_spec(axes, table)
    for axes in (
      ('batch',),
      how.page_axes,
      how.cache_axes,
      QUERY_AXES,
      KEY_AXES,
    )
  )
  local_attend = local(
    how.attend,
    (query, key, key, cache, rows, rows),
    (query, cache),
  )

  def attend(q_RTNH, k_RTKH, v_RTKH, layer_cache, positions_RT, tables):
    if copies > 1:
      k_RTKH = jnp.repeat(k_RTKH, copies, axis=2)
      v_RTKH = jnp.repeat(v_RTKH, copies, axis=2)
    return local_attend(
      q_RTNH, k_RTKH, v_RTKH, layer_cache, positions_RT, tables
    )

  return dataclasses.replace(
    how,
    open=local(how.open, (pages, rows), cache),
    attend=attend,
    close=local(how.close, (pages, cache, rows), pages),
  )


def model_attend(
  how: Attention, positions_RT: jax.Array, tables: RowTables
) -> layers.Attend:
  """The attention that `transformer.apply` asks for, on an opened cache.

  Args:
    how: as from `on_mesh`.
    positions_RT: int32, consecutive positions of the new tokens of each row.
    tables: as the cache was opened with.
  """

  def attend(layer, q_RTNH, k_RTKH, v_RTKH, cache):
    out_RTNH, mine = how.attend(
      q_RTNH, k_RTKH, v_RTKH, cache[layer], positions_RT, tables
    )
    return out_RTNH, (*cache[:layer], mine, *cache[layer + 1 :])

  return attend
