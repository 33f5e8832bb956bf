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
    (
      (6, 8, 3),
      ('batch', 'stream', None),
      P(('data', 'fsdp'), ('context', 'tensor')),
    ),
    ((6, 5), ('part', 'time'), P(('context', 'data', 'fsdp'))),
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


def test_an_array_is_made_of_its_parts():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  whole, asked = np.arange(32.0, dtype=np.float32).reshape(8, 4), []

  def read(index):
    asked.append(whole[index].shape)
    return whole[index]

  target = sharding.named_sharding(
    mesh, (8, 4), ('embed', 'mlp'), sharding.TRAIN_TABLE
  )
  made = sharding.make_array((8, 4), target, read)
  np.testing.assert_array_equal(made, whole)
  assert made.sharding == target
  # Four quarters, each once though two devices hold it.
  assert asked == [(4, 2)] * 4
  np.testing.assert_array_equal(sharding.make_array((8, 4), None, read), whole)


@pytest.mark.parametrize(
  ('num_heads', 'num_kv_heads', 'kept', 'copies'),
  [(8, 4, True, 1), (8, 2, True, 2), (4, 1, True, 4), (6, 2, False, 1)],
)
def test_heads_are_dealt_out_evenly(num_heads, num_kv_heads, kept, copies):
  mesh = sharding.make_mesh(data=2, tensor=4)
  table = sharding.TRAIN_TABLE
  found = sharding.head_layout(mesh, num_heads, num_kv_heads, table)
  assert found[1] == copies
  heads = 'tensor' if kept else None
  assert found[0]['heads'] == found[0]['kv_heads'] == heads
