"""What a running agent asks for, and is answered with."""

import dataclasses
from collections.abc import Generator
from typing import Any

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import tool_calls


@dataclasses.dataclass(frozen=True)
class Generate:
  """Asks for a turn; answered with a `types.Generation`.

  Attributes:
    role: whose turn: it decides which engine samples it.
    token_ids: int32 [n], what is new since the last turn.
    sampling: how to sample.
    key: address of the turn: (seed, step, task, rollout, agent, turn).
    deadline: when the turn is cut, on the scheduler's clock; None for never.
  """

  role: types.Role
  token_ids: np.ndarray
  sampling: types.Sampling
  key: tuple[int, ...]
  deadline: float | None = None


@dataclasses.dataclass(frozen=True)
class CallTools:
  """Asks for tool calls; answered with a list of one result a call.

  A result is what the tool returned, or the exception that it raised.

  Attributes:
    calls: what to run.
    deadline: when calls that have not ended fail, as in `Generate`.
  """

  calls: tuple[tool_calls.Search | tool_calls.Access, ...]
  deadline: float | None = None


@dataclasses.dataclass(frozen=True)
class CreateSubagents:
  """Asks to run agents; answered with the list of what each returned."""

  agents: tuple['Agent', ...]


Request = Generate | CallTools | CreateSubagents
Agent = Generator[Request, Any, tuple[types.Trajectory, ...]]
