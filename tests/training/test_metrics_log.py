import json

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from wideseek_jax.training import metrics_log


def _log(workdir, steps, **kwargs):
  log = metrics_log.MetricsLog(workdir, **kwargs)
  for step in steps:
    log.write(step, {'reward': step / 8})
  log.close()


def _steps(workdir):
  return [row['step'] for row in metrics_log.read_metrics(workdir)]


def test_rows_are_on_disk_at_once(tmp_path):
  log = metrics_log.MetricsLog(tmp_path / 'run')
  log.write(0, {'loss': jnp.float32(0.5), 'tokens': np.int64(7), 'bad': np.nan})
  # Not closed: what a kill would leave.
  lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(lines[0]) == {
    'step': 0,
    'loss': 0.5,
    'tokens': 7,
    'bad': None,
  }
  log.close()


def test_resume_repeats_no_step(tmp_path):
  _log(tmp_path, range(6))
  _log(tmp_path, range(4, 8), resume_step=4)
  assert _steps(tmp_path) == list(range(8))
  assert not list(tmp_path.glob('*.tmp'))


def test_a_fresh_run_starts_an_empty_log(tmp_path):
  _log(tmp_path, range(6))
  _log(tmp_path, range(2))
  assert _steps(tmp_path) == [0, 1]


def test_a_row_cut_off_by_a_kill_is_dropped(tmp_path):
  _log(tmp_path, range(3))
  path = tmp_path / 'metrics.jsonl'
  path.write_text(path.read_text()[:-4])
  assert _steps(tmp_path) == [0, 1]
  _log(tmp_path, [2], resume_step=2)
  assert _steps(tmp_path) == [0, 1, 2]


def test_a_broken_row_in_the_middle_is_an_error(tmp_path):
  _log(tmp_path, range(3))
  path = tmp_path / 'metrics.jsonl'
  path.write_text(path.read_text().replace('"step": 1', '"step" 1'))
  with pytest.raises(ValueError, match=r'metrics\.jsonl:2'):
    metrics_log.read_metrics(tmp_path)


def test_no_log(tmp_path):
  assert metrics_log.read_metrics(tmp_path / 'none') == []


def test_event_files_hold_the_scalars(tmp_path):
  _log(tmp_path, range(3))
  (path,) = (tmp_path / 'tensorboard').glob('events.*')
  data, found = path.read_bytes(), []
  while data:
    # A record: length (8 bytes), its checksum (4), the event, its checksum.
    size = int.from_bytes(data[:8], 'little')
    event = event_pb2.Event.FromString(data[12 : 12 + size])
    found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    data = data[16 + size :]
  assert found == [
    (0, 'reward', 0.0),
    (1, 'reward', 0.125),
    (2, 'reward', 0.25),
  ]
