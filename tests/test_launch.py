"""The set-up scripts, and README's demo command at its smallest."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / 'launch').glob('*.sh'))


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
