import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax import sharding

P = jax.sharding.PartitionSpec


def test_mesh_has_its_axes():
  mesh = sharding.make_mesh(fsdp=2, tensor=4)
  assert dict(mesh.shape) == {'data': 1, 'fsdp': 2, 'context': 1, 'tensor': 4}


def test_one_axis_takes_the_rest():
  assert sharding.make_mesh(data=2, fsdp=-1).shape['fsdp'] == 4


@pytest.mark.parametrize(
  'sizes',
  [
    {'tensor': 3},
    {'data': -1, 'tensor': 3},
    {'data': -1, 'fsdp': -1, 'tensor': 2},
    {},
  ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes):
  with pytest.raises(ValueError, match='does not fit 8 devices'):
    sharding.make_mesh(**sizes)


@pytest.mark.parametrize(
  ('shape', 'axes', 'expected'),
  [
    ((8, 4), ('embed', 'mlp'), P(('fsdp', 'context'), 'tensor')),
    # 3 heads do not divide by 4: replicated, and trailing Nones are dropped.
    ((8, 3, 2), ('embed', 'heads', 'head_dim'), P(('fsdp', 'context'))),
    ((6, 4), ('batch', 'time'), P(('data', 'fsdp'), 'context')),
    ((6, 5), ('part', 'time'), P(('data', 'fsdp', 'context'))),
    ((4, 4), (None, 'vocab'), P(None, 'tensor')),
    # 'mlp' and 'heads' want the same mesh axis: the first gets it.
    ((4, 4), ('mlp', 'heads'), P('tensor')),
    ((), (), P()),
  ],
)
def test_specs_by_hand(shape, axes, expected):
  mesh = sharding.make_mesh(fsdp=2, tensor=4)
  table = sharding.TRAIN_TABLE
  assert sharding.partition_spec(mesh, shape, axes, table) == expected


def test_unknown_names_and_ranks_are_refused():
  mesh = sharding.make_mesh(fsdp=2, tensor=4)
  with pytest.raises(KeyError, match='widht'):
    sharding.partition_spec(mesh, (4,), ('widht',), sharding.TRAIN_TABLE)
  with pytest.raises(ValueError, match='differ'):
    sharding.partition_spec(mesh, (4, 4), ('mlp',), sharding.TRAIN_TABLE)


def test_decoding_gathers_no_weight():
  for name in ('vocab', 'embed', 'mlp', 'heads', 'kv_heads', 'head_dim'):
    assert sharding.DECODE_TABLE[name] in (None, 'tensor')


def test_constrain_shards_inside_jit():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  constrain = functools.partial(
    sharding.constrain, mesh=mesh, table=sharding.TRAIN_TABLE
  )
  double = jax.jit(lambda x: constrain(2 * x, ('batch', 'mlp')))
  x = np.arange(32.0).reshape(8, 4)
  y = double(jnp.asarray(x))
  np.testing.assert_array_equal(y, 2 * x)
  assert y.sharding.spec == P(('data', 'fsdp'), 'tensor')
  assert y.addressable_shards[0].data.shape == (2, 2)
