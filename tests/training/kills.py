"""Kills a run again and again and compares it with one that was left alone.

  python -m tests.training.kills --kills=50 --folder=/tmp/kills

Prints one line of JSON: how many kills, in which parts of the run, and whether
metrics, parameters and rollouts are those of the uninterrupted run. With
--terminate they are asked to end by SIGTERM, and `slowest` says how long that
took. Children are forks of this process, which never starts a back end of JAX:
each begins in a moment.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback

from tests.training import tiny_run
from wideseek_jax import run
from wideseek_jax.training import finished, metrics_log, preemption


def start(action) -> int:
  """Runs action in a child; returns its process id."""
  child = os.fork()
  if child:
    return child
  code = 1
  try:
    action()
    code = 0
  except SystemExit as error:
    code = error.code
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stderr.flush()
    os._exit(code)


def end(child: int) -> int:
  """Waits; returns the exit code, or the signal as a negative number."""
  return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(folder: pathlib.Path, name: str, config=None) -> int:
  """Begins the run `name`, or goes on with it, in a child."""
  workdir = folder / name

  def action():
    with (folder / f'{name}.log').open('a') as log:
      os.dup2(log.fileno(), 2)
      tiny_run.replace_parts(folder / f'{name}.journal')
      resume = (workdir / 'config.json').exists()
      run.train(config or tiny_run.config(folder), workdir, resume=resume)

  return start(action)


def result(workdir: pathlib.Path) -> tuple[str, bytes]:
  """What two equal runs have in common: metrics without times, parameters."""
  rows = [
    {k: v for k, v in row.items() if not k.startswith(('time/', 'engine/'))}
    for row in metrics_log.read_metrics(workdir)
  ]
  return json.dumps(rows), (workdir / 'policy/model.safetensors').read_bytes()


def phase(workdir: pathlib.Path) -> str:
  """How far a run has come, as its files tell."""
  done = len(metrics_log.read_metrics(workdir))
  partial = list((workdir / finished.FOLDER).glob(f'{done:08d}.*'))
  writing = list(workdir.glob('checkpoints/*tmp*'))
  return (
    f'step {done}' + ', rollouts' * bool(partial) + ', saving' * bool(writing)
  )


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--folder', type=pathlib.Path, required=True)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--terminate', action='store_true')
  # On a busy machine the next run may be much faster than the first.
  parser.add_argument('--within', type=float, help='seconds of a run')
  options = parser.parse_args()
  number = signal.SIGTERM if options.terminate else signal.SIGKILL
  # Before it can catch SIGTERM a process ends like any other.
  ends = (-number, preemption.EXIT_CODE)
  folder, rng = options.folder, random.Random(options.seed)
  folder.mkdir(parents=True)
  assert end(start(lambda: tiny_run.write_inputs(folder))) == 0
  # The first run compiles, the second shows how long one takes.
  for name in ('compiled', 'whole'):
    began = time.monotonic()
    assert end(train(folder, name)) == 0, (folder / f'{name}.log').read_text()
  seconds = options.within or time.monotonic() - began
  expected = result(folder / 'whole')
  assert result(folder / 'compiled') == expected, 'runs do not repeat'
  kills, runs, slowest = 0, 0, 0.0
  phases, wrong = collections.Counter(), []
  while kills < options.kills:
    name = f'killed {runs}'
    runs += 1
    code = None
    while code != 0:
      child = train(folder, name)
      if kills < options.kills:
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, number)
        sent = time.monotonic()
      code = end(child)
      if code in ends:
        kills += 1
        slowest = max(slowest, time.monotonic() - sent)
        phases[phase(folder / name)] += 1
      elif code:
        wrong.append((folder / f'{name}.log').read_text()[-2000:])
        break
    if code:
      break
    if result(folder / name) != expected:
      wrong.append(f'{name}: other metrics or parameters')
    made = (folder / f'{name}.journal').read_text().splitlines()
    if len(made) != 24 or len(set(made)) != 24:
      wrong.append(f'{name}: {len(made)} rollouts, {len(set(made))} distinct')
    print(f'{kills} kills in {runs} runs, wrong: {wrong}', file=sys.stderr)
  print(
    json.dumps(
      {
        'kills': kills,
        'runs': runs,
        'seconds': round(seconds, 2),
        'slowest': round(slowest, 2),
        'phases': dict(sorted(phases.items())),
        'wrong': wrong,
      }
    )
  )
  sys.exit(int(bool(wrong)))


if __name__ == '__main__':
  main()
