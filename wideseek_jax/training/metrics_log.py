"""The run's log: one row of scalars a step, for programs and for eyes.

In: a step number and named scalars. Out: `metrics.jsonl` (one JSON object a
line, flushed at once, so a killed run loses no row) and TensorBoard event files
beside it.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tensorboardX

from wideseek_jax import files

FILE_NAME = 'metrics.jsonl'


class MetricsLog:
  """Appends rows to the log of a work directory.

  A run that resumes after the checkpoint of step n repeats the steps from n
  on: rows with step ≥ resume_step are removed first, so every step is there
  once.
  """

  def __init__(self, workdir: str | os.PathLike, *, resume_step: int = 0):
    """Opens the log, made if missing.

    Args:
      workdir: its directory.
      resume_step: the first step that will be written; 0 empties the log.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / FILE_NAME
    rows = [row for row in read_metrics(workdir) if row['step'] < resume_step]
    files.write_jsonl(path, rows)
    self._file = path.open('a')
    # purge_step hides the same rows in TensorBoard.
    self._events = tensorboardX.SummaryWriter(
      str(workdir / 'tensorboard'), purge_step=resume_step
    )

  def write(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes one row.

    Args:
      step: the row's step.
      scalars: anything float() takes, device scalars included; NaN and
        infinities are kept (as JSON null in the file, which has no word for
        them).
    """
    values = {name: float(value) for name, value in scalars.items()}
    row = {'step': int(step)} | {
      name: value if math.isfinite(value) else None
      for name, value in values.items()
    }
    self._file.write(json.dumps(row) + '\n')
    self._file.flush()
    for name, value in values.items():
      self._events.add_scalar(name, value, int(step))

  def close(self) -> None:
    """Writes out what is buffered; the log takes no more rows."""
    self._file.close()
    self._events.close()


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The rows of a work directory's log, [] if there is none.

  A last line that was cut off by a kill is left out.

  Raises:
    ValueError: a line before the last is no JSON object.
  """
  path = pathlib.Path(workdir) / FILE_NAME
  if not path.exists():
    return []
  rows, lines = [], path.read_text().splitlines()
  for number, line in enumerate(lines, start=1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      if number < len(lines):
        raise ValueError(f'{path}:{number} is not JSON: {line!r}') from error
  return rows
