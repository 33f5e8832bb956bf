"""Which array axis lives on which mesh axis.

Every parameter and activation names its axes logically ('embed', 'heads' …);
one table a use maps those names to the axes of the mesh: 'data' deals out rows,
'fsdp' rows and weights, 'context' the time of a row (and weights), 'tensor' the
heads and the width of a layer. Arrays and trees of names come in, shardings
leave. On one device the same code runs with a mesh of size one, so nothing is
skipped on a laptop.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Neighbours in the last axis are nearest: 'tensor' talks in every layer.
MESH_AXES = ('data', 'fsdp', 'context', 'tensor')

# Logical axis -> mesh axis, several mesh axes, or None (replicated).
Table = Mapping[str, str | tuple[str, ...] | None]

TRAIN_TABLE: Table = {
  'batch': ('data', 'fsdp'),
  'time': 'context',
  # What a layer hands to the next is cut over all devices of a row: norms are
  # computed once, and the backward pass finds it in as many parts
  # (arXiv 2205.05198).
  'stream': ('context', 'tensor'),
  # Rows cut where 'time' is, all first parts before all second ones: what needs
  # no neighbour may see shorter rows.
  'part': ('context', 'data', 'fsdp'),
  'vocab': 'tensor',
  'embed': ('fsdp', 'context'),
  'mlp': 'tensor',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'head_dim': None,
  'layers': None,
  'rank': None,
}

# Decoding reads every weight at every step, and none is gathered; nor has a row
# more than a token of time: all axes but 'tensor' deal out rows.
DECODE_TABLE: Table = {
  'batch': ('data', 'fsdp', 'context'),
  'samples': ('data', 'fsdp', 'context', 'tensor'),
  'time': None,
  'stream': None,
  'vocab': 'tensor',
  'embed': None,
  'mlp': 'tensor',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'head_dim': None,
  # Every data shard has pages of its own, for its own rows.
  'pages': ('data', 'fsdp', 'context'),
  'page': None,
}


def make_mesh(
  devices: Sequence[jax.Device] | None = None,
  *,
  data: int = 1,
  fsdp: int = 1,
  context: int = 1,
  tensor: int = 1,
) -> jax.sharding.Mesh:
  """A mesh of the axes MESH_AXES.

  Args:
    devices: in order; all that the job has if None.
    data: size of the axis; of all four one may be -1, "the rest".
    fsdp: see above.
    context: see above.
    tensor: see above.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  asked = (data, fsdp, context, tensor)
  sizes = list(asked)
  if sizes.count(-1) == 1:
    known = math.prod(size for size in sizes if size != -1)
    sizes[sizes.index(-1)] = len(devices) // known
  if min(sizes) < 1 or math.prod(sizes) != len(devices):
    named = dict(zip(MESH_AXES, asked, strict=True))
    raise ValueError(f'mesh {named} does not fit {len(devices)} devices')
  grid = np.asarray(devices, dtype=object).reshape(sizes)
  # The plain constructor keeps automatic axes; jax.make_mesh changed its
  # default to explicit ones.
  return jax.sharding.Mesh(grid, MESH_AXES)


def ways(mesh: jax.sharding.Mesh, name: str, table: Table) -> int:
  """Over how many devices an axis of that name is spread."""
  return math.prod(mesh.shape[axis] for axis in _mesh_axes(name, table))


def full_spec(
  axes: Sequence[str | None], table: Table
) -> jax.sharding.PartitionSpec:
  """The mesh axes of an array all of whose axes their mesh axes divide."""
  spec = [None if name is None else table[name] for name in axes]
  # XLA drops trailing Nones from what it returns: equal specs, one compile.
  while spec and spec[-1] is None:
    spec.pop()
  return jax.sharding.PartitionSpec(*spec)


def _mesh_axes(name: str | None, table: Table) -> tuple[str, ...]:
  target = None if name is None else table[name]
  return (target,) if isinstance(target, str) else tuple(target or ())


def partition_spec(
  mesh: jax.sharding.Mesh,
  shape: Sequence[int],
  axes: Sequence[str | None],
  table: Table,
) -> jax.sharding.PartitionSpec:
  """The mesh axes of one array.

  Args:
    mesh: where the array will live.
    shape: the array's sizes.
    axes: the logical name of each axis; None is replicated.
    table: logical axis -> mesh axes.

  Returns:
    A PartitionSpec. An axis that its mesh axes do not divide is replicated,
    and so is one whose mesh axes an earlier axis of the array already took.

  Raises:
    ValueError: ranks differ. KeyError: a name is not in the table.
  """
  if len(shape) != len(axes):
    raise ValueError(f'shape {tuple(shape)} and axes {tuple(axes)} differ')
  kept: list[str | None] = []
  taken: set[str] = set()
  for size, name in zip(shape, axes, strict=True):
    names = _mesh_axes(name, table)
    if not names or size % ways(mesh, name, table) or taken & set(names):
      kept.append(None)
      continue
    taken |= set(names)
    kept.append(name)
  return full_spec(kept, table)


def named_sharding(
  mesh: jax.sharding.Mesh,
  shape: Sequence[int],
  axes: Sequence[str | None],
  table: Table,
) -> jax.sharding.NamedSharding:
  """`partition_spec` bound to its mesh."""
  spec = partition_spec(mesh, shape, axes, table)
  return jax.sharding.NamedSharding(mesh, spec)


def param_shardings(
  mesh: jax.sharding.Mesh, shapes_tree: Any, axes_tree: Any, table: Table
) -> Any:
  """A sharding for every array of a tree.

  Args:
    mesh: where the arrays will live.
    shapes_tree: arrays or jax.ShapeDtypeStructs.
    axes_tree: the same tree with a tuple of logical names for every array.
    table: logical axis -> mesh axes.
  """
  return jax.tree.map(
    lambda leaf, axes: named_sharding(mesh, leaf.shape, axes, table),
    shapes_tree,
    axes_tree,
  )


def head_layout(
  mesh: jax.sharding.Mesh, num_heads: int, num_kv_heads: int, table: Table
) -> tuple[Table, int]:
  """How the heads of attention lie on the mesh.

  Returns:
    (table, copies): the axes to use inside of attention, and how often each kv
    head is kept. Every device gets an equal share of the query heads and the
    kv heads they read. Fewer kv heads than devices are kept several times, so
    that a device holds only the one it reads; where heads cannot be dealt out
    evenly, every device has all of them.
  """
  across = ways(mesh, 'heads', table)
  if num_heads % across == 0:
    if num_kv_heads % across == 0:
      return table, 1
    if across % num_kv_heads == 0:
      return table, across // num_kv_heads
  return {**table, 'heads': None, 'kv_heads': None}, 1


def make_array(
  shape: Sequence[int],
  target: jax.sharding.Sharding | None,
  read: Callable[[tuple[slice, ...]], np.ndarray],
) -> jax.Array:
  """An array of which a host only ever holds what its devices will.

  Args:
    shape: of the whole.
    target: where it will lie; the default device if None.
    read: from an index of the whole to that part, called once for all devices
      that hold the same.
  """
  if target is None:
    return jnp.asarray(read((slice(None),) * len(shape)))
  parts: dict[tuple[Any, ...], np.ndarray] = {}

  def part(index: tuple[slice, ...]) -> np.ndarray:
    key = tuple((one.start, one.stop) for one in index)
    if key not in parts:
      parts[key] = read(index)
    return parts[key]

  # Asked for in so many words: no silent copy, though a guard takes it for one.
  with jax.transfer_guard_host_to_device('allow'):
    return jax.make_array_from_callback(tuple(shape), target, part)


def constrain(
  x: jax.Array,
  axes: Sequence[str | None],
  mesh: jax.sharding.Mesh,
  table: Table,
) -> jax.Array:
  """Pins an intermediate array of a jitted function to its mesh axes."""
  return jax.lax.with_sharding_constraint(
    x, named_sharding(mesh, x.shape, axes, table)
  )
