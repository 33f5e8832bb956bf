"""What a user gets who asks for what cannot be: one line, exit code 2, and
nothing written."""

import functools

import pytest

from tests.experiments import helpers

run = functools.partial(helpers.run, timeout=200)


def assert_refused(found, *words):
  lines = found.stderr.strip().splitlines()
  assert found.returncode == 2, found.stderr
  assert lines[-1].startswith('error: ') and len(lines) == 1, found.stderr
  for word in words:
    assert word in lines[-1]


@pytest.mark.parametrize(
  ('args', 'words'),
  [
    (['--config.typo=1'], ['no option', 'typo']),
    (['--config.grpo.clip_high=many'], ['clip_high', 'many']),
    (['--config.rollout.max_subagents=0'], ['max_subagents', 'at least 1']),
    (['--config.policy=nowhere'], ['no policy at nowhere']),
    (['--resume'], ['no checkpoint', 'leave out --resume']),
    (['--config=nowhere.py'], ['nowhere.py']),
    (['stray'], ["'stray'"]),
  ],
)
def test_train_refuses(tmp_path, args, words):
  workdir = tmp_path / 'run'
  assert_refused(run('train', f'--workdir={workdir}', *args), *words)
  assert not list(tmp_path.rglob('*.json*'))


def test_a_workdir_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('kept')
  found = run('train', f'--workdir={tmp_path}/file/run')
  assert_refused(found, 'cannot write in', 'name another --workdir')
  assert (tmp_path / 'file').read_text() == 'kept'


def test_a_workdir_that_holds_a_run(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 0}\n')
  found = run('train', f'--workdir={tmp_path}')
  assert_refused(found, 'holds a run already', '--resume')
  assert (tmp_path / 'metrics.jsonl').read_text() == '{"step": 0}\n'


def test_results_are_not_overwritten(tmp_path):
  (tmp_path / 'results.jsonl').write_text('kept\n')
  assert_refused(run('evaluate', f'--workdir={tmp_path}'), 'results already')
  assert (tmp_path / 'results.jsonl').read_text() == 'kept\n'


def test_an_empty_task_file(tmp_path):
  (tmp_path / 'tasks.jsonl').write_text('')
  found = run(
    'evaluate',
    f'--workdir={tmp_path}/eval',
    f'--config.data.test_file={tmp_path}/tasks.jsonl',
  )
  assert_refused(found, 'tasks.jsonl')
