"""A run that is killed at any moment ends as if it had been left alone."""

import json
import os
import subprocess
import sys

import pytest


def _run(script, tmp_path, *args):
  """The line of JSON that a script of this folder prints last."""
  found = subprocess.run(
    [
      *(sys.executable, '-m', f'tests.training.{script}', *args),
      f'--folder={tmp_path / "runs"}',
    ],
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'cache'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    },
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stdout + found.stderr[-4000:]
  return json.loads(found.stdout.splitlines()[-1])


@pytest.mark.parametrize('kills', [5, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_killed_at_random_moments(kills, tmp_path):
  """Metrics and parameters to the bit; no finished rollout is made twice."""
  found = _run('kills', tmp_path, f'--kills={kills}')
  assert found['kills'] == kills and found['wrong'] == []


@pytest.mark.parametrize('count', [2, 4])
@pytest.mark.timeout(3600)
def test_several_processes_are_one(count, tmp_path):
  found = _run('hosts', tmp_path, f'--count={count}')
  # float32, summed in another order; three updates of 1e-4.
  assert found['metrics'] < 1e-4
  assert found['params'] < 1e-6 and found['learned'] > 1e-4
  # 3 steps of 4 tasks of 3 rollouts, dealt out evenly.
  assert found['rollouts'] == [36 // count] * count


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('how', ['kill', 'stop'])
def test_a_lost_process_is_named_and_the_run_goes_on(how, tmp_path):
  found = _run('hosts', tmp_path, f'--lose={how}')
  assert found['codes'] == [75] and found['resumed'] == [0, 0]
  assert 'process 1 on ' in found['said'][0] and '--resume' in found['said'][0]
