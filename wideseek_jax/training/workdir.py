"""A run's folder: who may use it, and for which config.

In: the folder and the config of a run that begins or goes on. Out: the folder,
made, locked and with `config.json` in it, or one line on why not; nothing that
is there is lost either way.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from wideseek_jax import files, progress
from wideseek_jax.training import checkpoint, finished

CHECKPOINTS, CONFIG, LOCK = 'checkpoints', 'config.json', '.lock'

# What a run cannot change midway: other parameters, or another order of tasks.
FIXED = (
  *('policy', 'subagent_policy', 'lora', 'seed', 'data'),
  *('loop.tasks_per_step', 'loop.trained_roles'),
)


def prepare(workdir: str | os.PathLike, *, resume: bool) -> None:
  """Makes the workdir, or says why it cannot be used.

  Args:
    workdir: the run's folder.
    resume: whether a run in it is to go on.

  Raises:
    FileNotFoundError: asked to resume where there is no run.
    FileExistsError: it holds a run already, and resuming was not asked for.
    PermissionError: it cannot be made or written.
  """
  workdir = pathlib.Path(workdir)
  begun = (workdir / CONFIG).exists()
  step = checkpoint.latest_step(workdir / CHECKPOINTS)
  if resume and step is None and not begun:
    raise FileNotFoundError(
      f'{workdir} has no checkpoint to resume from; leave out --resume to '
      f'start a run there'
    )
  if not resume and (
    begun or step is not None or (workdir / 'metrics.jsonl').exists()
  ):
    raise FileExistsError(
      f'{workdir} holds a run already; go on with --resume or name another '
      f'--workdir'
    )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    probe = workdir / '.writable'
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise PermissionError(
      f'cannot write in {workdir} ({error.strerror}); name another --workdir'
    ) from error


def compare(workdir: str | os.PathLike, config: Mapping[str, Any]) -> None:
  """Says aloud how a config differs from that of the run in a workdir.

  If it does, rollouts for a step whose update is in no checkpoint are dropped:
  with the new config they would be others.

  Args:
    workdir: prepared, and locked.
    config: nested, ready for JSON.

  Raises:
    ValueError: the run cannot go on with this config; says what differs.
  """
  path = pathlib.Path(workdir) / CONFIG
  if not path.exists():
    return
  changed = difference(json.loads(path.read_text()), config)
  lines = [f'config.{name}: {change}' for name, change in changed.items()]
  if any(f'{name}.'.startswith(f'{one}.') for name in changed for one in FIXED):
    raise ValueError(
      f'the checkpoint in {workdir} cannot go on with this config '
      f'({"; ".join(lines)}): undo that, or name another --workdir'
    )
  for line in lines:
    progress.say(f'changed since this run began: {line}')
  if lines and finished.Finished(workdir).forget():
    progress.say('rollouts of the step that was begun are made again')


def write_config(workdir: str | os.PathLike, config: Mapping[str, Any]) -> None:
  """Writes `config.json`; from then on the workdir holds a run."""
  text = json.dumps(config, indent=2) + '\n'
  files.write_text(pathlib.Path(workdir) / CONFIG, text)


def difference(
  before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, str]:
  """What changed between two configs: 'old -> new' by dotted name."""
  old, new = _flat(before), _flat(json.loads(json.dumps(now)))
  absent = object()
  found = {}
  for name in sorted(old.keys() | new.keys()):
    was, is_ = old.get(name, absent), new.get(name, absent)
    if was != is_:
      texts = ['absent' if x is absent else repr(x) for x in (was, is_)]
      found[name] = ' -> '.join(texts)
  return found


def _flat(tree: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  found = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      found |= _flat(value, f'{prefix}{name}.')
    else:
      found[f'{prefix}{name}'] = value
  return found


@contextlib.contextmanager
def locked(workdir: str | os.PathLike) -> Iterator[None]:
  """Keeps other runs out of a workdir that exists; a killed one keeps no lock.

  Raises:
    FileExistsError: another run is in it; says which process, and where.
  """
  path = pathlib.Path(workdir) / LOCK
  with path.open('a+', encoding='utf-8') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise FileExistsError(
        f'{workdir} is in use by {file.read().strip() or "another run"}: wait '
        f'for its end, or name another --workdir'
      ) from None
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    yield
