import json
import pathlib

import pytest

from wideseek_jax import testing, types
from wideseek_jax.training import finished, workdir

CONFIG = {'seed': 1, 'loop': {'num_steps': 3, 'sizes': (1, 2)}}


def _changed(**loop):
  return {'seed': 1, 'loop': CONFIG['loop'] | loop}


def test_a_second_run_is_told_who_is_there(tmp_path):
  with (
    workdir.locked(tmp_path),
    pytest.raises(FileExistsError, match=r'in use by process \d+ on '),
    workdir.locked(tmp_path),
  ):
    pass
  with workdir.locked(tmp_path):
    pass


def test_only_a_run_is_resumed_and_none_is_overwritten(tmp_path):
  folder = tmp_path / 'run'
  with pytest.raises(FileNotFoundError, match='leave out --resume'):
    workdir.prepare(folder, resume=True)
  assert not folder.exists()
  workdir.prepare(folder, resume=False)
  # It failed before it began: it may begin again.
  workdir.prepare(folder, resume=False)
  workdir.write_config(folder, CONFIG)
  with pytest.raises(FileExistsError, match='go on with --resume'):
    workdir.prepare(folder, resume=False)
  # Killed before its first checkpoint.
  workdir.prepare(folder, resume=True)


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(PermissionError, match='cannot write in'):
    workdir.prepare(tmp_path / 'file/run', resume=False)


def test_what_changed_is_said_and_what_breaks_is_refused(tmp_path, capsys):
  made = finished.Finished(tmp_path)
  rollout = types.Rollout('t', 0, (testing.trajectory([0, 1]),))
  made.add(0, rollout, 0)
  workdir.compare(tmp_path, CONFIG)  # There is none to compare with.
  workdir.write_config(tmp_path, CONFIG)
  workdir.compare(tmp_path, CONFIG)
  assert not capsys.readouterr().err and made.read(0)
  with pytest.raises(
    ValueError, match=r'config.seed: 1 -> 2.*another --workdir'
  ):
    workdir.compare(tmp_path, CONFIG | {'seed': 2})
  assert made.read(0)
  workdir.compare(tmp_path, _changed(num_steps=4, more=None))
  told = capsys.readouterr().err
  assert 'config.loop.num_steps: 3 -> 4\n' in told
  assert 'config.loop.more: absent -> None\n' in told
  assert not made.read(0) and 'made again' in told
  # Only `write_config` changes what is known.
  path = pathlib.Path(tmp_path) / workdir.CONFIG
  assert json.loads(path.read_text())['loop']['num_steps'] == 3


@pytest.mark.parametrize('name', ['data.num_train', 'lora.rank', 'policy'])
def test_a_fixed_option_is_refused(name, tmp_path):
  def nested(value):
    for part in reversed(name.split('.')):
      value = {part: value}
    return value

  workdir.write_config(tmp_path, nested(1))
  with pytest.raises(ValueError, match=rf'{name}: 1 -> 2'):
    workdir.compare(tmp_path, nested(2))
