"""How many tokens a step has, from a few numbers of its rollouts.

In: how many turns agents take and how long these are. Out: tokens that are
sampled, read and trained on. Of the run of arXiv 2602.04634 only the limits are
known (ten lead turns, twenty of a subagent, ten subagents a fan-out, 32,000
tokens an agent); the defaults are a plausible rollout within them.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Workload:
  """A step's mean rollout.

  The lead reads the question, and in every turn but the last sends out
  subagents, whose reports it then reads. A subagent reads its subtask and in
  every turn but the last calls a tool. Without subagents the lead is a single
  agent and reads what its tools return.

  Attributes:
    rollouts: of a step.
    group: rollouts of a task.
    lead_prompt: tokens of the system prompt and the question.
    lead_turns: turns of the lead.
    lead_turn: tokens that it samples in one.
    subagents: sent out in a turn; 0 for a single agent.
    report: tokens that the lead reads of each.
    sub_prompt: tokens of the system prompt, the question and the subtask.
    sub_shared: those that all subagents of a task have in common.
    sub_turns: turns of a subagent.
    sub_turn: tokens that it samples in one.
    observation: tokens that a tool returns.
  """

  rollouts: int
  group: int
  lead_prompt: int = 1500
  lead_turns: int = 3
  lead_turn: int = 800
  subagents: int = 6
  report: int = 300
  sub_prompt: int = 1200
  sub_shared: int = 1000
  sub_turns: int = 6
  sub_turn: int = 300
  observation: int = 1200

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if value < (name != 'subagents'):
        raise ValueError(f'{name}={value} is too small')
    if self.rollouts % self.group:
      raise ValueError(
        f'{self.rollouts} rollouts are no whole groups of {self.group}'
      )
    if self.sub_shared > self.sub_prompt:
      raise ValueError(
        f'sub_shared={self.sub_shared} is more than sub_prompt='
        f'{self.sub_prompt}'
      )

  @property
  def num_subagents(self) -> int:
    """Of a rollout."""
    return self.subagents * (self.lead_turns - 1)

  @property
  def lead_reads(self) -> int:
    """Tokens that a lead reads between two of its turns."""
    return self.subagents * self.report or self.observation

  @property
  def lead_len(self) -> int:
    """Tokens of a lead's trajectory."""
    reports = (self.lead_turns - 1) * self.lead_reads
    return self.lead_prompt + self.lead_turns * self.lead_turn + reports

  @property
  def sub_len(self) -> int:
    """Tokens of a subagent's trajectory."""
    observations = (self.sub_turns - 1) * self.observation
    return self.sub_prompt + self.sub_turns * self.sub_turn + observations

  @property
  def tokens(self) -> int:
    """Tokens of a rollout's trajectories."""
    return self.lead_len + self.num_subagents * self.sub_len

  @property
  def sampled(self) -> int:
    """Those of them that the policy samples."""
    subs = self.num_subagents * self.sub_turns * self.sub_turn
    return self.lead_turns * self.lead_turn + subs

  @property
  def shared(self) -> float:
    """Those that another agent of the group has computed, on average."""
    leads = (self.group - 1) * self.lead_prompt
    subs = max(self.group * self.num_subagents - 1, 0) * self.sub_shared
    return (leads + subs) / self.group

  @property
  def read(self) -> float:
    """Tokens of a rollout that the engine computes without sampling them."""
    return self.tokens - self.sampled - self.shared

  @property
  def context(self) -> float:
    """Tokens that an agent holds while it samples one, on average."""
    lead = (
      self.lead_prompt
      + (self.lead_turns - 1) / 2 * self.lead_reads
      + self.lead_turns * self.lead_turn / 2
    )
    sub = (
      self.sub_prompt
      + (self.sub_turns - 1) / 2 * self.observation
      + self.sub_turns * self.sub_turn / 2
    )
    leads = self.lead_turns * self.lead_turn
    return (leads * lead + (self.sampled - leads) * sub) / self.sampled

  @property
  def keys(self) -> float:
    """Tokens that a token of a trajectory sees, on average."""
    subs = self.num_subagents * self.sub_len**2
    return (self.lead_len**2 + subs) / 2 / self.tokens
