"""The attention of packed rows in training, and how it lies on the mesh.

In: one way to attend, the mesh, and up to where each token of packed rows is
seen. Out: the attend function for `transformer.apply`. An implementation sees
one device's share: some rows, some heads, the queries of its part of the time
and the keys of all of it. `BLOCKS` runs everywhere and knows trees of prefixes;
those of `kernels` know plain segments, and each micro-batch that holds nothing
else goes to them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers
from wideseek_jax.training import packed_attention


@dataclasses.dataclass(frozen=True)
class Attention:
  """One way to attend within packed rows.

  Attributes:
    name: what a config calls it.
    prepare: (mesh, T, N of a device) -> (operand, its spec): what it needs
      beside the arrays, made once for all layers.
    attend: (operand, q_BtNH, k_BTKH, v_BTKH, ends_BT, first) -> out_BtNH, on
      one device; `first` is the place in the row of the first query. What
      comes out for padding is finite.
    plain: it knows segments alone, not trees of them.
    objection: (head_dim, row_len, parts of its time) -> why it cannot serve
      them, '' if it can.
  """

  name: str
  prepare: Callable[[jax.sharding.Mesh, int, int], tuple[Any, Any]]
  attend: Callable[..., jax.Array]
  plain: bool
  objection: Callable[[int, int, int], str]


def nothing(mesh: jax.sharding.Mesh, T: int, N: int) -> tuple[Any, Any]:
  """What to prepare for an attention that needs nothing."""
  del mesh, T, N
  return (), jax.sharding.PartitionSpec()


def blocks_attend(
  operand: Any,
  q_BtNH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  ends_BT: jax.Array,
  first: jax.Array,
  *,
  block: int,
) -> jax.Array:
  """`packed_attention`: plain jnp, block by block; see `Attention.attend`."""
  del operand
  attend = packed_attention.packed_attend(ends_BT, block=block, first=first)
  return attend(0, q_BtNH, k_BTKH, v_BTKH, None)[0]


BLOCKS = Attention(
  name='blocks',
  prepare=nothing,
  attend=blocks_attend,
  plain=False,
  objection=lambda head_dim, row_len, parts: '',
)


def is_plain(ends_BT: jax.Array) -> jax.Array:
  """bool [], whether no two segments share a prefix.

  Then all tokens of a segment are seen up to the same place, its end.
  """
  here_BT, next_BT = ends_BT[:, :-1], ends_BT[:, 1:]
  place_T = jnp.arange(ends_BT.shape[1] - 1)
  is_last_BT = here_BT <= place_T[None, :] + 1
  return jnp.all(is_last_BT | (here_BT == next_BT))


def make_attend(
  how: Attention,
  mesh: jax.sharding.Mesh,
  config: model_config.ModelConfig,
  ends_BT: jax.Array,
  *,
  block: int,
) -> layers.Attend:
  """The attention of packed rows that are spread over a mesh.

  Kernels are opaque to the partitioner, and loops over blocks of time are as
  good as that, so each device is told what is its own: rows, a share of the
  heads (`sharding.head_layout`), and the queries of a part of the time. Keys
  and values of the other parts are gathered, nothing else crosses devices.

  Args:
    how: as from `kernels.choose`.
    mesh: where the arrays are.
    config: the model's shape.
    ends_BT: int32, see `batching.Batch`.
    block: tokens of a block of `packed_attention`.

  Returns:
    The attend function; what comes out for padding is finite. The cache passes
    through.
  """
  T = ends_BT.shape[1]
  table, copies = sharding.head_layout(
    mesh, config.num_heads, config.num_kv_heads, sharding.TRAIN_TABLE
  )
  blocks = dataclasses.replace(
    BLOCKS, attend=functools.partial(blocks_attend, block=block)
  )
  run = on_mesh(blocks, mesh, table, config.num_heads, T)
  if how.plain:
    run = functools.partial(
      jax.lax.cond,
      is_plain(ends_BT),
      on_mesh(how, mesh, table, config.num_heads, T),
      run,
    )

  def attend(layer, q_BTNH, k_BTKH, v_BTKH, cache):
    del layer
    if copies > 1:
      k_BTKH = jnp.repeat(k_BTKH, copies, axis=2)
      v_BTKH = jnp.repeat(v_BTKH, copies, axis=2)
    return run(q_BTNH, k_BTKH, v_BTKH, ends_BT), cache

  return attend


def on_mesh(
  how: Attention,
  mesh: jax.sharding.Mesh,
  table: sharding.Table,
  num_heads: int,
  T: int,
) -> Callable[..., jax.Array]:
  """(q_BTNH, k_BTKH, v_BTKH, ends_BT) -> out_BTNH, for arrays on a mesh."""
  operand, operand_spec = how.prepare(
    mesh, T, num_heads // sharding.ways(mesh, 'heads', table)
  )

  def local(operand, q_BtNH, k_BtKH, v_BtKH, ends_BT):
    first = jax.lax.axis_index('context') * q_BtNH.shape[1]
    k_BTKH, v_BTKH = (
      jax.lax.all_gather(x_BtKH, 'context', axis=1, tiled=True)
      for x_BtKH in (k_BtKH, v_BtKH)
    )
    return how.attend(operand, q_BtNH, k_BTKH, v_BTKH, ends_BT, first)

  query, key, rows = (
    sharding.full_spec(axes, table)
    for axes in (
      ('batch', 'time', 'heads', None),
      ('batch', 'time', 'kv_heads', None),
      ('batch', None),
    )
  )
  spread = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(operand_spec, query, key, key, rows),
    out_specs=query,
    # Kernels do not say along which mesh axes their results vary.
    check_vma=False,
  )
  return functools.partial(spread, operand)
