"""An evaluation as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.experiments import helpers


def command(workdir):
  options = ['--tasks=3', '--samples=2', '--config.engine.num_rows=4']
  return [
    *(sys.executable, '-m', 'experiments.evaluate'),
    f'--workdir={workdir}',
    *options,
  ]


# Three runs that compile.
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_started_again_it_ends_with_the_same_numbers(tmp_path):
  options = {
    'cwd': helpers.ROOT,
    'env': os.environ | {'JAX_PLATFORMS': 'cpu'},
  }
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  subprocess.run(command(whole), check=True, **options)
  process = subprocess.Popen(command(killed), **options)
  path = killed / 'rollouts.jsonl'
  while not path.exists() or path.read_bytes().count(b'\n') < 2:
    assert process.poll() is None, 'it ended before it was killed'
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  lines = path.read_bytes().splitlines(keepends=True)
  lines[-1] = lines[-1][: len(lines[-1]) // 2]
  path.write_bytes(b''.join(lines))
  subprocess.run(command(killed), check=True, **options)
  one, other = (
    json.loads((folder / 'summary.json').read_text())
    for folder in (whole, killed)
  )
  for summary in (one, other):
    assert summary['costs'].pop('wall_seconds') > 0
  assert one == other and one['costs']['rollouts'] == 6
