"""Trains with several processes on this machine and compares them with one.

  python -m tests.training.hosts --count=2 --folder=/tmp/hosts

Prints one line of JSON: the largest errors of metrics and parameters. With
--lose=kill or --lose=stop the last process is killed or frozen in its second
step instead, and what the others say and how they end is printed.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import sys
import time

import numpy as np
import safetensors.numpy

from tests.training import kills, tiny_run
from wideseek_jax import run
from wideseek_jax.training import metrics_log, multihost


def _config(folder: pathlib.Path, count: int):
  config = tiny_run.config(folder)
  config.mesh.data = count
  config.batch.rows_per_micro_batch = count
  config.loop.update(num_steps=3, tasks_per_step=4)
  return config


def _start(folder, name, config, port, count, index, timeout) -> int:
  """One of `count` processes in a child, each with its share of the devices."""

  def action():
    # After the fork: a back end of JAX begins with the first array.
    import jax

    jax.config.update('jax_num_cpu_devices', config.mesh.data // count)
    tiny_run.replace_parts(folder / f'{name}.{index}.journal')
    hosts = None
    with (folder / f'{name}.{index}.log').open('a') as log:
      os.dup2(log.fileno(), 2)
      if count > 1:
        hosts = multihost.initialize(f'localhost:{port}', count, index, timeout)
      workdir = folder / name
      resume = (workdir / 'config.json').exists()
      run.train(config, workdir, resume=resume, hosts=hosts)

  return kills.start(action)


def _together(folder, name, count, timeout=60.0) -> list[int]:
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  config = _config(folder, count)
  return [
    _start(folder, name, config, port, count, index, timeout)
    for index in range(count)
  ]


def compare(folder: pathlib.Path, count: int) -> dict[str, float]:
  """The largest errors of a run of `count` processes."""
  children = _together(folder, 'several', count)
  codes = [kills.end(child) for child in children]
  logs = [path.read_text() for path in folder.glob('several.*.log')]
  assert codes == [0] * count, (codes, logs)
  alone = _start(folder, 'one', _config(folder, count), 0, 1, 0, 0.0)
  assert kills.end(alone) == 0, (folder / 'one.0.log').read_text()
  rows, expected = (
    metrics_log.read_metrics(folder / name) for name in ('several', 'one')
  )
  errors = {}
  assert len(rows) == len(expected) == 3
  for row, other in zip(rows, expected, strict=True):
    assert row.keys() == other.keys()
    for name in row:
      if not name.startswith(('time/', 'engine/')):
        error = abs(row[name] - other[name]) / max(1, abs(other[name]))
        errors[name] = max(errors.get(name, 0.0), error)
  found, alone, first = (
    safetensors.numpy.load_file(folder / path / 'model.safetensors')
    for path in ('several/policy', 'one/policy', 'policy')
  )
  made = [
    len(path.read_text().splitlines())
    for path in sorted(folder.glob('several.*.journal'))
  ]
  return {
    'metrics': max(errors.values()),
    'loss': errors['train/loss'],
    'grad_norm': errors['train/grad_norm'],
    'params': _distance(found, alone),
    'learned': _distance(found, first),
    'rollouts': made,
  }


def _distance(one, other) -> float:
  return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def lose(folder: pathlib.Path, count: int, how: str, timeout: float):
  """Kills or freezes the last process; what the others do."""
  children = _together(folder, 'lost', count, timeout)
  journal = folder / f'lost.{count - 1}.journal'
  while not journal.exists() or len(journal.read_text().splitlines()) < 4:
    assert os.waitpid(children[-1], os.WNOHANG)[0] == 0, 'it ended by itself'
    time.sleep(0.01)
  number = signal.SIGKILL if how == 'kill' else signal.SIGSTOP
  os.kill(children[-1], number)
  began = time.monotonic()
  codes = [kills.end(child) for child in children[:-1]]
  seconds = time.monotonic() - began
  if how == 'stop':
    os.kill(children[-1], signal.SIGKILL)
  kills.end(children[-1])
  said = [
    (folder / f'lost.{index}.log').read_text().splitlines()[-1]
    for index in range(count - 1)
  ]
  resumed = [kills.end(child) for child in _together(folder, 'lost', count)]
  return {
    'codes': codes,
    'said': said,
    'seconds': round(seconds, 1),
    'resumed': resumed,
  }


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--count', type=int, default=2)
  parser.add_argument('--folder', type=pathlib.Path, required=True)
  parser.add_argument('--lose', choices=('kill', 'stop'))
  parser.add_argument('--timeout', type=float, default=30.0)
  options = parser.parse_args()
  folder = options.folder
  folder.mkdir(parents=True)
  assert kills.end(kills.start(lambda: tiny_run.write_inputs(folder))) == 0
  if options.lose:
    found = lose(folder, options.count, options.lose, options.timeout)
  else:
    found = compare(folder, options.count)
  print(json.dumps(found))
  sys.stdout.flush()


if __name__ == '__main__':
  main()
