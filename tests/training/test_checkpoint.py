import dataclasses

import jax
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.training import checkpoint, train_state

OPTIMIZER = train_state.make_optimizer(learning_rate=0.1)


def _state(mesh, step):
  state = train_state.init_train_state(
    examples.CONFIG, OPTIMIZER, mesh, examples.params()
  )
  # Every array gets numbers of its own, the zero moments too.
  leaves, tree = jax.tree.flatten(state)
  leaves = [
    jax.device_put(leaf + index, leaf.sharding)
    for index, leaf in enumerate(leaves)
  ]
  return dataclasses.replace(
    jax.tree.unflatten(tree, leaves), step=np.int32(step)
  )


def _abstract(mesh, **fields):
  config = dataclasses.replace(examples.CONFIG, **fields)
  return train_state.abstract_train_state(config, OPTIMIZER, mesh)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A directory after three saves of which two are kept, and the last state."""
  directory = tmp_path_factory.mktemp('checkpoints')
  state = _state(examples.mesh(1, 2, 2), 3)
  for step in (1, 2, 3):
    state = dataclasses.replace(state, step=np.int32(step))
    checkpoint.save(
      directory,
      state,
      extra={'position': step, 'rewards': [0.1, 0.2]},
      config={'model': 'tiny'},
      keep=2,
    )
  return directory, state


def test_round_trip_onto_another_mesh(saved):
  directory, state = saved
  abstract = _abstract(examples.mesh(2, 1, 1))
  restored, extra = checkpoint.restore_latest(directory, abstract)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  for leaf, before, want in zip(
    *map(jax.tree.leaves, (restored, state, abstract)), strict=True
  ):
    np.testing.assert_array_equal(leaf, before)
    assert leaf.dtype == want.dtype and leaf.sharding == want.sharding
  assert extra == {'position': 3, 'rewards': [0.1, 0.2]}
  assert checkpoint.restore_config(directory) == {'model': 'tiny'}


def test_keeps_the_newest(saved):
  directory, _ = saved
  assert checkpoint.latest_step(directory) == 3
  assert sorted(p.name for p in directory.iterdir()) == ['2', '3']


def test_refuses_to_go_back(saved):
  directory, state = saved
  with pytest.raises(FileExistsError, match='step 3, not saving 3'):
    checkpoint.save(directory, state, extra={}, config={})


def test_names_what_differs(saved):
  directory, _ = saved
  with pytest.raises(ValueError) as error:
    checkpoint.restore_latest(directory, _abstract(examples.mesh(), mlp_dim=40))
  message = str(error.value)
  assert 'down' in message and '(1, 24, 16) there' in message
  assert '(1, 40, 16) here' in message and '\n' not in message
  with pytest.raises(ValueError, match='absent there'):
    checkpoint.restore_latest(directory, _abstract(examples.mesh(), tied=False))


def test_no_checkpoint(tmp_path):
  assert checkpoint.latest_step(tmp_path / 'none') is None
  for directory in (tmp_path / 'none', tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint in'):
      checkpoint.restore_latest(directory, _abstract(examples.mesh()))
  with pytest.raises(FileNotFoundError, match='no checkpoint in'):
    checkpoint.restore_config(tmp_path)
