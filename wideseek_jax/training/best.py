"""Keeps the policy that did best in validation.

In come the validations of a run as they are made; out goes the run's folder
`best/`, with the policy and `validation.json`: its step and what it scored.
"""

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wideseek_jax import files

FOLDER, FILE_NAME, METRIC = 'best', 'validation.json', 'valid/reward'


def keeper(
  workdir: str | os.PathLike,
  rows: Iterable[Mapping[str, Any]],
  save_policy: Callable[[pathlib.Path, Any], None],
) -> Callable[[Any, Mapping[str, float]], None]:
  """What to tell of every validation.

  Args:
    workdir: the run's folder.
    rows: of the run's log up to where it begins or resumes; a validation must
      be better than those in them. Of equal ones the first is kept.
    save_policy: writes the policy of a state into a folder.

  Returns:
    A function of (state after its step, metrics with METRIC among them).
  """
  best = max((r[METRIC] for r in rows if METRIC in r), default=-math.inf)

  def keep(state: Any, metrics: Mapping[str, float]) -> None:
    nonlocal best
    if metrics[METRIC] <= best:
      return
    best = metrics[METRIC]
    folder = pathlib.Path(workdir) / FOLDER
    save_policy(folder, state)
    found = {'step': int(state.step), **metrics}
    files.write_text(folder / FILE_NAME, json.dumps(found, indent=2) + '\n')

  return keep
