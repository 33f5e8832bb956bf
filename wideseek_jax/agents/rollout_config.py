"""Every option of a rollout, declared once with its default."""

import dataclasses
from typing import Literal

from wideseek_jax.agents import prompts


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
  """How tasks are attempted (defaults after arXiv 2602.04634 §3).

  Attributes:
    workflow: 'multi' (a lead agent with subagents) or 'single' (one agent).
    group_size: rollouts of a task.
    prompt_style: 'compact' or 'full' (agents/prompts.py).
    max_lead_turns: turns of a lead agent.
    max_subagent_turns: turns of a subagent.
    max_single_turns: turns of a single agent.
    max_subagents: subagents of one turn of the lead.
    max_tool_calls: queries or urls of one turn of a subagent.
    search_count: hits of a search that names no count.
    max_context: tokens of one agent's context; the engine's own bound holds
      as well.
    max_turn_tokens: sampled tokens of one turn.
    runaway_tokens: a turn that fills its room with so many tokens is flagged
      as runaway.
    report_tokens: what the lead reads of one report, in tokens.
    page_chars: what an agent reads of one page, in characters.
    snippet_chars: what an agent reads of one hit's snippet, in characters.
    max_repairs: malformed calls of an agent that are answered with an error;
      one more ends the agent.
    temperature: of the sampling; 0 takes the most likely token.
    top_k: of the sampling; 0 keeps all tokens.
    top_p: of the sampling; 1 keeps all tokens.
    max_open_rollouts: rollouts in flight at a time; 0 for all.
    tool_threads: tool calls in flight at a time.
    overlap_tools: decode while tools run; without it runs repeat to the bit.
  """

  workflow: Literal['multi', 'single'] = 'multi'
  group_size: int = 8
  prompt_style: prompts.Style = 'full'
  max_lead_turns: int = 10
  max_subagent_turns: int = 20
  max_single_turns: int = 50
  max_subagents: int = 10
  max_tool_calls: int = 5
  search_count: int = 3
  max_context: int = 32_000
  max_turn_tokens: int = 32_000
  runaway_tokens: int = 8_000
  report_tokens: int = 2_000
  page_chars: int = 25_000
  snippet_chars: int = 5_000
  max_repairs: int = 1
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  max_open_rollouts: int = 0
  tool_threads: int = 16
  overlap_tools: bool = True

  def __post_init__(self):
    if self.workflow not in ('multi', 'single'):
      raise ValueError(
        f'workflow {self.workflow!r} is neither multi nor single'
      )
    if self.prompt_style not in ('compact', 'full'):
      raise ValueError(
        f'prompt_style {self.prompt_style!r} is neither compact nor full'
      )
    for name in (
      'group_size',
      'max_lead_turns',
      'max_subagent_turns',
      'max_single_turns',
      'max_subagents',
      'max_tool_calls',
      'max_context',
      'max_turn_tokens',
      'runaway_tokens',
      'report_tokens',
      'page_chars',
      'snippet_chars',
      'tool_threads',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} must be at least 1')
    if not 1 <= self.search_count <= 10:
      raise ValueError('search_count must be from 1 to 10')
    for name in ('max_repairs', 'max_open_rollouts', 'temperature', 'top_k'):
      if getattr(self, name) < 0:
        raise ValueError(f'{name} must not be negative')
    if not 0 < self.top_p <= 1:
      raise ValueError('top_p must be in (0, 1]')
