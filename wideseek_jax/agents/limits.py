"""What an agent may use: turns, tokens, seconds; and when a group is to end.

In come the options, a role and a clock; out goes, before every turn, how much
is left or which limit was met.
"""

import dataclasses
from collections.abc import Callable

from wideseek_jax import types
from wideseek_jax.agents import prompts, rollout_config

Clock = Callable[[], float]


@dataclasses.dataclass
class Tail:
  """The end of a group: once most of its rollouts have ended, the rest hurry.

  Attributes:
    wanted: so many rollouts must have ended.
    turns: what every agent that runs or starts then may take, at least 1.
    done: rollouts that have ended.
  """

  wanted: int
  turns: int
  done: int = 0

  @property
  def is_cut(self) -> bool:
    return self.done >= self.wanted


class Budget:
  """What one agent may use; its time begins now.

  Only subagents are limited in tokens and seconds: a lead that is stopped
  would lose the work of all of them.

  Args:
    spec: the agent's role.
    config: the limits.
    clock: seconds from some moment.
    tail: of the agent's group; None if it is never cut.

  Attributes:
    max_turns: turns that the agent has; falls once, when the tail is cut.
    was_cut: whether the tail's cut took turns from it.
    deadline: when its time is up, on the clock; None for never.
  """

  def __init__(
    self,
    spec: prompts.RoleSpec,
    config: rollout_config.RolloutConfig,
    clock: Clock,
    tail: Tail | None,
  ):
    is_subagent = spec.role == 'subagent'
    self.max_turns = spec.max_turns
    self.deadline = None
    if is_subagent and config.subagent_seconds:
      self.deadline = clock() + config.subagent_seconds
    self._max_tokens = config.subagent_tokens if is_subagent else 0
    self._clock = clock
    self._tail = tail
    self.was_cut = False

  def begin_turn(self, turn: int) -> None:
    """Shortens max_turns if the group's tail is cut (turn 0 is the first)."""
    if self._tail is not None and self._tail.is_cut:
      shorter = min(self.max_turns, turn + self._tail.turns)
      self.was_cut |= shorter < self.max_turns
      self.max_turns = shorter

  def tokens(self, sampled: int, room: int) -> int:
    """Tokens that the next turn may have, in a context with so much room."""
    return min(room, self._max_tokens - sampled) if self._max_tokens else room

  def met(self, sampled: int) -> str:
    """The limit that an agent with so many sampled tokens has met, or ''."""
    if self._max_tokens and sampled >= self._max_tokens:
      return types.TOKEN_LIMIT_FAILED
    if self.deadline is not None and self._clock() >= self.deadline:
      return types.TIME_LIMIT_FAILED
    return ''
