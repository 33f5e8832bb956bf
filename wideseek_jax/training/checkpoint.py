"""Saving a training run and taking it up again.

In: a `TrainState`, what else the loop must remember, the run's config. Out: one
directory a step, complete or absent (it is renamed into place when all of it is
written), and the same state back, laid on whatever mesh the resumed run has.
"""

import logging
import os
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from wideseek_jax.training import train_state

_STATE, _EXTRA, _CONFIG = 'state', 'extra', 'config'


def _manager(
  directory: str | os.PathLike, keep: int | None = None
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
    options=ocp.CheckpointManagerOptions(
      max_to_keep=keep, enable_async_checkpointing=False
    ),
  )


def save(
  directory: str | os.PathLike,
  state: train_state.TrainState,
  *,
  extra: dict[str, Any],
  config: dict[str, Any],
  keep: int = 2,
) -> int:
  """Writes `directory/step` for the step of the state.

  Args:
    directory: the run's checkpoints; made if missing.
    state: sharded or not; every process of the job calls this.
    extra: JSON values that the loop needs to go on (data position, counters).
    config: the run's configuration, for people and for `restore_config`.
    keep: older checkpoints beyond this number are removed.

  Returns:
    The step.

  Raises:
    FileExistsError: there is a checkpoint of this step or a later one.
  """
  step = int(state.step)
  with _manager(directory, keep) as manager:
    latest = manager.latest_step()
    if latest is not None and latest >= step:
      raise FileExistsError(
        f'{directory} holds a checkpoint of step {latest}, not saving {step}'
      )
    manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        extra=ocp.args.JsonSave(extra),
        config=ocp.args.JsonSave(config),
      ),
    )
  return step


def latest_step(directory: str | os.PathLike) -> int | None:
  """The step of the newest complete checkpoint, None if there is none."""
  if not pathlib.Path(directory).is_dir():
    return None
  with _manager(directory) as manager:
    return manager.latest_step()


def restore_latest(
  directory: str | os.PathLike, abstract_state: train_state.TrainState
) -> tuple[train_state.TrainState, dict[str, Any]]:
  """Reads the newest checkpoint straight into its shardings.

  Args:
    directory: where `save` wrote.
    abstract_state: from `train_state.abstract_train_state`; the mesh may be
      another than the one that saved.

  Returns:
    (state, extra).

  Raises:
    FileNotFoundError: there is no checkpoint.
    ValueError: it is one of another model or optimiser; names the first array
      that differs.
  """
  step = latest_step(directory)
  if step is None:
    raise FileNotFoundError(f'no checkpoint in {directory}')
  with _manager(directory) as manager:
    saved = manager.item_metadata(step)[_STATE].tree
    _check_same(f'{directory}/{step}', saved, abstract_state)
    restored = manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract_state),
        extra=ocp.args.JsonRestore(),
      ),
    )
  return restored[_STATE], restored[_EXTRA]


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
