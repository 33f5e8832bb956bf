"""Evaluations as a user runs them."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.evaluation.widesearch import helpers as tables
from tests.evaluation.widesearch import test_released as files_of
from tests.experiments import helpers
from wideseek_jax.evaluation.widesearch import released


def test_what_cannot_be_used_is_named_and_the_rest_is_scored(tmp_path):
  unknown = json.dumps(
    files_of.EVALUATION | {'eval_pipeline': {'v': {'metric': ['near']}}}
  )
  lines = [
    json.dumps(files_of.QUERY),
    json.dumps({'instance_id': 'ws_en_002'}),
    json.dumps(files_of.QUERY | {'instance_id': 'c', 'evaluation': unknown}),
    json.dumps(files_of.QUERY),
    json.dumps(files_of.QUERY)[:60],
  ]
  data = tmp_path / 'test.jsonl'
  data.write_text('\n'.join(lines), encoding='utf-8')
  answers = tmp_path / 'answers.jsonl'
  right = tables.block('Name | V', 'a | 7', 'NA | 1.5')
  released.write_responses(
    answers,
    [
      released.Response('ws_en_001', right, trial_idx=0),
      released.Response('ws_de_001', right, trial_idx=0),
    ],
  )
  args = (
    f'--data={data}',
    f'--responses={answers}',
    f'--workdir={tmp_path}/scores',
  )
  for _ in range(2):  # The second time everything is there.
    found = helpers.run('score_responses', *args, timeout=400)
    assert found.returncode == 3, found.stderr
    skipped = [
      line for line in found.stderr.splitlines() if line.startswith('skipped:')
    ]
    for line, (path, number, words) in zip(
      skipped,
      [
        (data, 2, "'answer' is missing"),
        (data, 3, "no metric 'near'"),
        (data, 4, "the id 'ws_en_001'"),
        (data, 5, 'half of one'),
        (answers, 2, "'ws_de_001'"),
      ],
      strict=True,
    ):
      assert f'{path}:{number}: ' in line and words in line
    assert '| all | 1 | score | 100.0 [100.0, 100.0] |' in found.stdout


def command(workdir):
  options = ['--tasks=3', '--samples=2', '--config.engine.num_rows=4']
  return [
    *(sys.executable, '-m', 'experiments.evaluate'),
    f'--workdir={workdir}',
    *options,
  ]


@pytest.mark.slow
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
