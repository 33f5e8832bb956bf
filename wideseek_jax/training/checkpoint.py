"""Saving a training run and taking it up again.

In: a `TrainState`, what else the loop must remember, the run's config. Out: one
directory a step, complete or absent (it is renamed into place when all of it is
written), with a list of its files and their checksums beside it; and the same
state back, laid on whatever mesh the resumed run has. Files are written while
the run goes on.
"""

import concurrent.futures
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from wideseek_jax import files, progress
from wideseek_jax.training import train_state

_STATE, _EXTRA, _CONFIG = 'state', 'extra', 'config'


def _manager(
  directory: str | os.PathLike, **options: Any
) -> ocp.CheckpointManager:
  # Orbax tells each of its inner steps at INFO and more at WARNING.
  logging.getLogger('absl').setLevel(logging.ERROR)
  return ocp.CheckpointManager(
    pathlib.Path(directory).absolute(),
    item_handlers={
      _STATE: ocp.StandardCheckpointHandler(),
      _EXTRA: ocp.JsonCheckpointHandler(),
      _CONFIG: ocp.JsonCheckpointHandler(),
    },
    options=ocp.CheckpointManagerOptions(**options),
  )


class Saver:
  """Writes checkpoints of one run while it goes on.

  Attributes:
    begun: the newest step that was saved or begun to be; None if there is none.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    *,
    keep: int = 2,
    on_saved: Callable[[int], None] = lambda step: None,
  ):
    """Makes the directory if it is missing.

    Args:
      directory: the run's checkpoints.
      keep: older checkpoints beyond this number are removed.
      on_saved: told each step whose checkpoint is whole, from a thread.
    """
    self._directory = pathlib.Path(directory)
    self._on_saved = on_saved
    # What a killed run had begun to write goes.
    self._manager = _manager(
      directory, max_to_keep=keep, cleanup_tmp_directories=True
    )
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._writing: concurrent.futures.Future | None = None
    self.begun = latest_step(directory)

  def __enter__(self) -> 'Saver':
    return self

  def __exit__(self, *exc_info: object) -> None:
    try:
      self.wait()
    finally:
      self._thread.shutdown()
      self._manager.close()

  def save(
    self,
    state: train_state.TrainState,
    *,
    extra: dict[str, Any],
    config: dict[str, Any],
  ) -> int:
    """Begins to write `directory/step`; returns when the state is copied.

    Args:
      state: sharded or not; every process of the job calls this. It may be
        donated as soon as this returns.
      extra: JSON values that the loop needs to go on.
      config: the run's configuration, for people and for `restore_config`.

    Returns:
      The step.

    Raises:
      FileExistsError: there is a checkpoint of this step or a later one.
      OSError: this one, or the one before, could not be written.
    """
    self.wait()
    step = int(state.step)
    if self.begun is not None and self.begun >= step:
      raise FileExistsError(
        f'{self._directory} holds a checkpoint of step {self.begun}, not '
        f'saving {step}'
      )
    self.begun = step
    if jax.default_backend() == 'cpu':
      # There, Orbax writes from the very memory that the next step is given.
      state = jax.tree.map(jnp.copy, state)
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          extra=ocp.args.JsonSave(extra),
          config=ocp.args.JsonSave(config),
        ),
      )
    except Exception as error:
      raise self._failure(step, error) from error
    self._writing = self._thread.submit(self._finish, step)
    return step

  def wait(self) -> None:
    """Returns when all that was saved is whole.

    Raises:
      OSError: it could not be written; the checkpoint before it is as it was.
    """
    writing, self._writing = self._writing, None
    if writing is not None:
      writing.result()

  def _finish(self, step: int) -> None:
    try:
      self._manager.wait_until_finished()
      if jax.process_index() == 0:
        _write_list(self._directory, step)
    except Exception as error:
      raise self._failure(step, error) from error
    self._on_saved(step)

  def _failure(self, step: int, error: Exception) -> OSError:
    # Of any type: Orbax and its storage raise many for a full disk.
    return OSError(
      f'cannot write the checkpoint of step {step} in {self._directory}: '
      f'{type(error).__name__}: {error}; what was saved before is whole: make '
      f'room there, then go on with --resume'
    )


def save(
  directory: str | os.PathLike,
  state: train_state.TrainState,
  *,
  extra: dict[str, Any],
  config: dict[str, Any],
  keep: int = 2,
) -> int:
  """One checkpoint, whole when this returns; see `Saver.save`."""
  with Saver(directory, keep=keep) as saver:
    return saver.save(state, extra=extra, config=config)


def steps(directory: str | os.PathLike) -> list[int]:
  """The steps of all complete checkpoints, the newest last."""
  folder = pathlib.Path(directory)
  found = folder.iterdir() if folder.is_dir() else ()
  return sorted(int(path.name) for path in found if path.name.isdigit())


def latest_step(directory: str | os.PathLike) -> int | None:
  """The step of the newest complete checkpoint, None if there is none."""
  return max(steps(directory), default=None)


def restore_latest(
  directory: str | os.PathLike, abstract_state: train_state.TrainState
) -> tuple[train_state.TrainState, dict[str, Any]]:
  """Reads the newest checkpoint that is sound straight into its shardings.

  One that is not is said aloud and set aside as `damaged-STEP`.

  Args:
    directory: where a `Saver` wrote.
    abstract_state: from `train_state.abstract_train_state`; the mesh and the
      number of processes may be others than those that saved.

  Returns:
    (state, extra).

  Raises:
    FileNotFoundError: there is no checkpoint, or no sound one.
    ValueError: it is one of another model or optimiser; names the first array
      that differs.
  """
  directory = pathlib.Path(directory)
  while (step := _newest_sound(directory)) is not None:
    with _manager(directory) as manager:
      try:
        saved = manager.item_metadata(step)[_STATE].tree
      except Exception as error:  # Whatever broken metadata may raise.
        _set_aside(directory, step, f'{type(error).__name__}: {error}')
        continue
      _check_same(f'{directory}/{step}', saved, abstract_state)
      try:
        restored = manager.restore(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract_state),
            extra=ocp.args.JsonRestore(),
          ),
        )
      except Exception as error:
        _set_aside(directory, step, f'{type(error).__name__}: {error}')
        continue
    return restored[_STATE], restored[_EXTRA]
  raise FileNotFoundError(f'no checkpoint in {directory}')


def restore_config(directory: str | os.PathLike) -> dict[str, Any]:
  """The configuration saved beside the newest checkpoint.

  Raises:
    FileNotFoundError: there is no checkpoint.
  """
  step = latest_step(directory)
  if step is None:
    raise FileNotFoundError(f'no checkpoint in {directory}')
  with _manager(directory) as manager:
    args = ocp.args.Composite(config=ocp.args.JsonRestore())
    return manager.restore(step, args=args)[_CONFIG]


def _list_path(directory: pathlib.Path, step: int) -> pathlib.Path:
  return directory / f'files-{step}.json'


def _checksums(folder: pathlib.Path) -> dict[str, list[int]]:
  """Size and checksum of every file of a checkpoint, by its path there."""
  found = {}
  for path in sorted(folder.rglob('*')):
    if path.is_file():
      size = checksum = 0
      with path.open('rb') as file:
        while block := file.read(1 << 24):
          size, checksum = size + len(block), zlib.crc32(block, checksum)
      found[path.relative_to(folder).as_posix()] = [size, checksum]
  return found


def _write_list(directory: pathlib.Path, step: int) -> None:
  text = json.dumps(_checksums(directory / str(step)), indent=1)
  files.write_text(_list_path(directory, step), text)
  kept = {_list_path(directory, one) for one in steps(directory)}
  for path in set(directory.glob('files-*.json')) - kept:
    path.unlink()


def _newest_sound(directory: pathlib.Path) -> int | None:
  """The newest step whose files are what they were; the same on all hosts.

  Those of a run that was killed before it made the list are taken to be.
  """
  step = -1
  if jax.process_index() == 0:
    for step in reversed(steps(directory)):
      path = _list_path(directory, step)
      known = json.loads(path.read_text()) if path.exists() else None
      if known is None or known == _checksums(directory / str(step)):
        break
      _set_aside(directory, step, 'its files are not what was written')
    else:
      step = -1
  if jax.process_count() > 1:
    step = int(multihost_utils.broadcast_one_to_all(jnp.int32(step)))
  return None if step < 0 else step


def _set_aside(directory: pathlib.Path, step: int, why: str) -> None:
  if jax.process_index():
    return
  progress.say(
    f'the checkpoint of step {step} in {directory} is damaged ({why}); it is '
    f'now damaged-{step}, and the one before it is used'
  )
  os.replace(directory / str(step), directory / f'damaged-{step}')
  _list_path(directory, step).unlink(missing_ok=True)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Shape by path, the same for a live tree and for what Orbax remembers."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    '.'.join(_key_name(key) for key in path): tuple(leaf.shape)
    for path, leaf in flat
  }


def _key_name(key: Any) -> str:
  for attribute in ('name', 'key', 'idx'):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  raise TypeError(f'unknown tree key {key!r}')


def _check_same(where: str, saved: Any, wanted: Any) -> None:
  saved_shapes, wanted_shapes = _shapes(saved), _shapes(wanted)
  for name in sorted(saved_shapes.keys() | wanted_shapes.keys()):
    there, here = saved_shapes.get(name), wanted_shapes.get(name)
    if there != here:
      raise ValueError(
        f'checkpoint {where} is of another model: {name} is '
        f'{there or "absent"} there and {here or "absent"} here'
      )
