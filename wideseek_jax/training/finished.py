"""The rollouts that a run has made and whose update is in no checkpoint yet.

In come rollouts, each as it ends; out come the same ones, to the bit, in the
run that takes up a killed one, so that none is made twice. One file a step and
process, to which lines are only ever added.
"""

import base64
import dataclasses
import json
import os
import pathlib
import zlib
from typing import Any

import numpy as np

from wideseek_jax import types

FOLDER = 'finished'

# (task_id, index of the rollout in its group).
Key = tuple[str, int]


class Finished:
  """What a run's folder `finished/` holds."""

  def __init__(self, workdir: str | os.PathLike, process: int = 0):
    """Looks at nothing yet.

    Args:
      workdir: the run's folder.
      process: whose rollouts are added; those of all processes are read.
    """
    self._folder = pathlib.Path(workdir) / FOLDER
    self._process = process

  def add(self, step: int, rollout: types.Rollout, weights_step: int) -> None:
    """Writes a rollout down before it returns.

    Args:
      step: of the run that will learn from it.
      rollout: whole.
      weights_step: how many steps the policy that sampled it had behind it.
    """
    text = json.dumps([weights_step, to_json(rollout)])
    self._folder.mkdir(parents=True, exist_ok=True)
    path = self._folder / f'{step:08d}.{self._process}.jsonl'
    # The line break comes first: what a kill cut short spoils nothing else.
    with path.open('ab') as file:
      file.write(f'\n{_checksum(text)} {text}'.encode())

  def read(self, step: int) -> dict[Key, tuple[types.Rollout, int]]:
    """The rollouts of a step with their weights_step; cut lines are not any."""
    found = {}
    for path in sorted(self._folder.glob(f'{step:08d}.*.jsonl')):
      for line in path.read_text(errors='replace').split('\n'):
        checksum, _, text = line.partition(' ')
        if checksum and checksum == _checksum(text):
          weights_step, fields = json.loads(text)
          rollout = from_json(fields)
          found[rollout.task_id, rollout.index] = rollout, weights_step
    return found

  def forget(self, before: int | None = None) -> int:
    """Removes the rollouts of steps before this one, or all.

    Returns:
      The number of files that were removed.
    """
    old = [
      path
      for path in self._folder.glob('*.jsonl')
      if before is None or int(path.name.partition('.')[0]) < before
    ]
    for path in old:
      path.unlink(missing_ok=True)  # Another process may have done it.
    return len(old)


def _checksum(text: str) -> str:
  return f'{zlib.crc32(text.encode()):08x}'


def to_json(rollout: types.Rollout) -> dict[str, Any]:
  """All of a rollout, as what `json.dumps` takes; see `from_json`."""
  fields = dataclasses.asdict(rollout)
  for agent in fields['trajectories']:
    for name, value in agent.items():
      if isinstance(value, np.ndarray):
        data = base64.b64encode(value.tobytes()).decode()
        agent[name] = [value.dtype.str, data]
  return fields


def from_json(fields: dict[str, Any]) -> types.Rollout:
  """The rollout that `to_json` was given, equal to the bit."""
  agents = []
  for agent in fields['trajectories']:
    arrays = {
      name: np.frombuffer(base64.b64decode(agent[name][1]), agent[name][0])
      for name in ('token_ids', 'sample_mask', 'behavior_logprobs')
    }
    turns = tuple(
      types.Turn(**turn | {'tool_names': tuple(turn['tool_names'])})
      for turn in agent['turns']
    )
    failures = tuple(agent['failures'])
    agents.append(
      types.Trajectory(
        **agent | arrays | {'turns': turns, 'failures': failures}
      )
    )
  return types.Rollout(**fields | {'trajectories': tuple(agents)})
