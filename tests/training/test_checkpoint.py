import dataclasses
import errno
import shutil

import jax
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax import files
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
  assert checkpoint.steps(directory) == [2, 3]
  lists = sorted(path.name for path in directory.glob('*.json'))
  assert lists == ['files-2.json', 'files-3.json']


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


def _damage(folder, how):
  """Spoils the largest file of a checkpoint, which holds parameters."""
  path = max(folder.rglob('*'), key=lambda path: path.stat().st_size)
  data = bytearray(path.read_bytes())
  if how == 'changed':
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
  elif how == 'torn':
    path.write_bytes(data[: len(data) // 2])
  else:
    path.unlink()


@pytest.mark.parametrize('how', ['changed', 'torn', 'missing'])
def test_one_that_is_damaged_is_set_aside(how, saved, tmp_path, capsys):
  directory = tmp_path / 'checkpoints'
  shutil.copytree(saved[0], directory)
  _damage(directory / '3', how)
  abstract = _abstract(examples.mesh())
  restored, extra = checkpoint.restore_latest(directory, abstract)
  assert int(restored.step) == 2 and extra['position'] == 2
  told = capsys.readouterr().err
  assert 'the checkpoint of step 3' in told and 'damaged-3' in told
  assert (directory / 'damaged-3').is_dir()
  # The run makes it again.
  state = dataclasses.replace(restored, step=np.int32(3))
  checkpoint.save(directory, state, extra={}, config={})
  assert checkpoint.steps(directory) == [2, 3]


def test_torn_and_without_a_list(saved, tmp_path, capsys):
  """Killed before the list was made, and then the disk was spoiled."""
  directory = tmp_path / 'checkpoints'
  shutil.copytree(saved[0], directory)
  (directory / 'files-3.json').unlink()
  for path in (directory / '3').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  restored, _ = checkpoint.restore_latest(directory, _abstract(examples.mesh()))
  assert int(restored.step) == 2 and 'damaged' in capsys.readouterr().err
  _damage(directory / '2', 'torn')
  with pytest.raises(FileNotFoundError, match='no checkpoint in'):
    checkpoint.restore_latest(directory, _abstract(examples.mesh()))


def test_the_state_may_be_donated_while_it_is_written(tmp_path):
  state = _state(examples.mesh(), 1)
  expected = jax.tree.map(np.array, state)
  told = []
  with checkpoint.Saver(tmp_path, on_saved=told.append) as saver:
    saver.save(state, extra={}, config={})
    jax.jit(lambda x: jax.tree.map(lambda y: y * 0, x), donate_argnums=0)(state)
  assert told == [1] and saver.begun == 1
  restored, _ = checkpoint.restore_latest(tmp_path, _abstract(examples.mesh()))
  jax.tree.map(np.testing.assert_array_equal, restored, expected)


def test_a_full_disk_leaves_the_one_before(saved, tmp_path, monkeypatch):
  directory = tmp_path / 'checkpoints'
  shutil.copytree(saved[0], directory)

  def full(path, text):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(files, 'write_text', full)
  state = dataclasses.replace(saved[1], step=np.int32(4))
  with pytest.raises(OSError, match=r'step 4 .*No space left.*--resume'):
    checkpoint.save(directory, state, extra={}, config={}, keep=9)
  restored, _ = checkpoint.restore_latest(directory, _abstract(examples.mesh()))
  # It was complete but for its list.
  assert int(restored.step) == 4
  assert checkpoint.steps(directory) == [2, 3, 4]
