"""The records that pass between the parts: tasks, trajectories, rollouts.

Everything here is plain Python and NumPy, frozen, and free of behaviour beyond
what can be read off the fields. Token ids are the truth: a `Trajectory` is what
an engine sampled and what the tools answered, in the order in which the policy
saw it; text is derived from it for parsing and display, never the other way.

Shape letters used in names throughout the package:
  B rows · T query time · S cache positions · D width · F mlp width ·
  N query heads · K kv heads · H head size · V vocab · L layers · P pages ·
  G rollouts of a task · A agents of a rollout.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

Role = Literal['lead', 'subagent', 'single']
FinishReason = Literal['stop', 'length', 'context']

# Why an agent failed (after arXiv 2602.04634, released code). An agent without
# any of these ended by itself.
CONTEXT_FAILED = 'context_failed'
TURN_LIMIT_FAILED = 'max_turn_limit_failed'
TURN_REPEAT_FAILED = 'turn_repeat_failed'
TOOL_CALL_FAILED = 'tool_call_failed'  # malformed calls beyond all repairs


@dataclasses.dataclass(frozen=True)
class Table:
  """A gold or predicted table; every cell is text."""

  columns: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]

  def __post_init__(self):
    for row in self.rows:
      if len(row) != len(self.columns):
        raise ValueError(
          f'row {row!r} has {len(row)} cells; the table has '
          f'{len(self.columns)} columns'
        )


@dataclasses.dataclass(frozen=True)
class Task:
  """One question with its gold answer.

  Attributes:
    task_id: unique in its data set.
    question: what the agent is asked.
    kind: 'wide' (answer is a table) or 'deep' (answer is a short text).
    table: the gold table of a wide task, None for a deep one.
    unique_columns: the key columns of a wide task, a subset of its columns.
    answers: the accepted texts of a deep task, empty for a wide one.
    language: 'en' or 'zh'.
    metadata: what the data set knows beside it (entity type, split …).
  """

  task_id: str
  question: str
  kind: Literal['wide', 'deep']
  table: Table | None = None
  unique_columns: tuple[str, ...] = ()
  answers: tuple[str, ...] = ()
  language: str = 'en'
  metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.kind == 'wide':
      if self.table is None:
        raise ValueError(f'wide task {self.task_id!r} has no gold table')
      unknown = set(self.unique_columns) - set(self.table.columns)
      if unknown or not self.unique_columns:
        raise ValueError(
          f'wide task {self.task_id!r}: unique_columns '
          f'{self.unique_columns!r} must name columns of '
          f'{self.table.columns!r}'
        )
    elif not self.answers:
      raise ValueError(f'deep task {self.task_id!r} has no accepted answer')


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How one turn is sampled.

  Attributes:
    temperature: > 0 samples; 0 takes the most likely token.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set of tokens with this probability; 1 keeps all.
    max_tokens: a turn ends after so many tokens.
    stop_ids: a turn ends with (and includes) any of these tokens.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  max_tokens: int = 256
  stop_ids: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Generation:
  """What the engine sampled in one turn.

  Attributes:
    token_ids: int32 [n], a stop token included.
    logprobs: float32 [n], of the distribution that was sampled from.
    finish_reason: 'stop' (a stop token), 'length' (max_tokens reached) or
      'context' (the sequence has no room left).
  """

  token_ids: np.ndarray
  logprobs: np.ndarray
  finish_reason: FinishReason


class Engine(Protocol):
  """What the agents' floor sees of a rollout engine."""

  max_context: int

  def open(self) -> int:
    """Starts an empty sequence with a cache of its own; returns its handle."""

  def submit(
    self,
    sequence: int,
    token_ids: np.ndarray,
    sampling: Sampling,
    key: tuple[int, ...],
  ) -> None:
    """Appends token_ids to the sequence and asks for one turn.

    Args:
      sequence: handle from `open`.
      token_ids: int32 [n], n ≥ 1, read after all that the sequence holds.
      sampling: how to sample.
      key: the turn's address (seed, step, task, rollout, agent, turn): equal
        addresses sample equal tokens whoever shares the batch.
    """

  def step(self) -> list[tuple[int, Generation]]:
    """Works for one chunk; returns turns that ended, maybe none yet."""

  def close(self, sequence: int) -> None:
    """Frees what the sequence holds."""


@dataclasses.dataclass(frozen=True)
class Turn:
  """One generation and what was answered to it.

  Attributes:
    start: index in the trajectory of the first sampled token.
    stop: index after the last sampled token.
    finish_reason: why the generation ended.
    text: the sampled tokens as text (display only).
    tool_names: the tools that the turn called, one entry a call item.
    tool_text: the tool message that answered it, '' after the final turn.
    error: what was wrong with the turn's tool call, '' if nothing.
  """

  start: int
  stop: int
  finish_reason: FinishReason
  text: str
  tool_names: tuple[str, ...] = ()
  tool_text: str = ''
  error: str = ''


@dataclasses.dataclass(frozen=True)
class Trajectory:
  """All that one agent read and wrote, in order.

  Attributes:
    agent: index of the agent in its rollout; 0 is the lead (or single) agent.
    role: what the agent was.
    subtask: the prompt that the lead gave it, '' for the lead itself.
    parent_turn: the lead's turn that created it, -1 for the lead itself.
    token_ids: int32 [T].
    sample_mask: bool [T], True where the policy sampled the token.
    behavior_logprobs: float32 [T], 0 where not sampled.
    turns: the agent's turns, in order.
    answer: the final text after its thought, '' if the agent did not end.
    failures: names such as CONTEXT_FAILED, empty if the agent ended by itself.
  """

  agent: int
  role: Role
  subtask: str
  parent_turn: int
  token_ids: np.ndarray
  sample_mask: np.ndarray
  behavior_logprobs: np.ndarray
  turns: tuple[Turn, ...]
  answer: str
  failures: tuple[str, ...] = ()

  @property
  def num_sampled(self) -> int:
    return int(self.sample_mask.sum())


@dataclasses.dataclass(frozen=True)
class Rollout:
  """One attempt at a task: the lead's trajectory and its subagents'.

  Attributes:
    task_id: the task that was attempted.
    index: which rollout of its group this is.
    trajectories: the lead (or single) agent first, then its subagents in the
      order of their creation.
  """

  task_id: str
  index: int
  trajectories: tuple[Trajectory, ...]

  @property
  def lead(self) -> Trajectory:
    return self.trajectories[0]

  @property
  def answer(self) -> str:
    return self.lead.answer

  @property
  def subagents(self) -> Sequence[Trajectory]:
    return self.trajectories[1:]


@dataclasses.dataclass(frozen=True)
class Hit:
  """One search result."""

  url: str
  title: str
  snippet: str


@dataclasses.dataclass(frozen=True)
class Page:
  """One document of a corpus."""

  url: str
  title: str
  contents: str


class Tools(Protocol):
  """What the agents can ask of the world outside."""

  def search(self, query: str, count: int) -> list[Hit]:
    """The best `count` pages for the query, best first."""

  def access(self, url: str) -> Page | None:
    """The page at exactly this url, None if there is none."""


class Judge(Protocol):
  """A language model that reads a prompt and replies, without sampling.

  One call takes many prompts, so that they share a batch or a connection pool;
  equal prompts get equal replies. Safe for many threads.
  """

  def __call__(self, prompts: Sequence[str]) -> list[str]:
    """The replies, in the order of the prompts.

    A reply may be anything, the empty text included: that is what a prompt
    gets that the judge refuses or cannot take.

    Raises:
      JudgeUnavailable: there is no judge to be had, or its budget is spent.
    """


class JudgeUnavailable(ConnectionError):
  """No verdict can be had: an error of the run, never of a rollout."""


@dataclasses.dataclass(frozen=True)
class Score:
  """A scored rollout.

  Attributes:
    reward: what the policy is trained on.
    parts: the reward's summands and the metrics beside it, by name
      (item_f1, row_f1, success, format …).
  """

  reward: float
  parts: dict[str, float]
