"""Every option of a rollout, declared once with its default."""

import dataclasses
import pathlib
from typing import Literal

from wideseek_jax.agents import prompts as prompts_lib
from wideseek_jax.agents import tool_schemas


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
  """How tasks are attempted (defaults after arXiv 2602.04634 §3).

  Attributes:
    workflow: 'multi' (a lead agent with subagents) or 'single' (one agent).
    group_size: rollouts of a task.
    prompt_style: 'compact' or 'full' (agents/prompts.py).
    prompts: folder of the prompts (agents/templates.py); '' for the shipped
      ones. A task's language chooses among its folders.
    max_lead_turns: turns of a lead agent.
    max_subagent_turns: turns of a subagent.
    max_single_turns: turns of a single agent.
    subagent_tokens: tokens that a subagent may sample in all; 0 for no limit.
    subagent_seconds: time that a subagent has; 0 for no limit. What it has
      written by then goes to the lead, if partial_reports is set.
    tail_fraction: when so many of a group's rollouts have ended, the others
      are cut short; 1 for never. With it results depend on timing.
    tail_turns: turns that every agent of theirs may still take.
    max_subagents: subagents of one turn of the lead.
    max_tool_calls: queries and urls of one turn of a subagent.
    lead_searches: whether a lead has the tools of a subagent beside its own.
    check_urls: whether only urls that a search of the rollout returned can be
      opened.
    search_count: hits of a search that names no count.
    max_context: tokens of one agent's context; the engine's own bound holds
      as well.
    max_turn_tokens: sampled tokens of one turn.
    runaway_tokens: a turn that fills its room with so many tokens is flagged
      as runaway.
    report_tokens: what the lead reads of one report, in tokens.
    partial_reports: the lead reads why a subagent failed, and what it had
      written last.
    page_chars: what an agent reads of one page, in characters.
    snippet_chars: what an agent reads of one hit's snippet, in characters.
    max_repairs: malformed calls of an agent that are answered with an error;
      one more ends the agent.
    temperature: of the sampling; 0 takes the most likely token.
    top_k: of the sampling; 0 keeps all tokens.
    top_p: of the sampling; 1 keeps all tokens.
    max_open_rollouts: rollouts in flight at a time; 0 for all.
    tool_threads: tool calls in flight at a time.
    tool_seconds: time of one tool call, after which it has failed; 0 for no
      limit.
    overlap_tools: decode while tools run; without it runs repeat to the bit.
  """

  workflow: Literal['multi', 'single'] = 'multi'
  group_size: int = 8
  prompt_style: prompts_lib.Style = 'full'
  prompts: str = ''
  max_lead_turns: int = 10
  max_subagent_turns: int = 20
  max_single_turns: int = 50
  subagent_tokens: int = 0
  subagent_seconds: float = 0.0
  tail_fraction: float = 1.0
  tail_turns: int = 1
  max_subagents: int = 10
  max_tool_calls: int = 5
  lead_searches: bool = False
  check_urls: bool = True
  search_count: int = 3
  max_context: int = 32_000
  max_turn_tokens: int = 32_000
  runaway_tokens: int = 8_000
  report_tokens: int = 2_000
  partial_reports: bool = True
  page_chars: int = 25_000
  snippet_chars: int = 5_000
  max_repairs: int = 1
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  max_open_rollouts: int = 0
  tool_threads: int = 16
  tool_seconds: float = 600.0
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
      'tail_turns',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'{name} must be at least 1')
    if self.prompts and not pathlib.Path(self.prompts).is_dir():
      raise ValueError(f'prompts {self.prompts!r} is no folder')
    most = tool_schemas.MAX_COUNT
    if not 1 <= self.search_count <= most:
      raise ValueError(f'search_count must be from 1 to {most}')
    for name in (
      'max_repairs',
      'max_open_rollouts',
      'subagent_tokens',
      'subagent_seconds',
      'tool_seconds',
      'temperature',
      'top_k',
    ):
      if getattr(self, name) < 0:
        raise ValueError(f'{name} must not be negative')
    for name in ('top_p', 'tail_fraction'):
      if not 0 < getattr(self, name) <= 1:
        raise ValueError(f'{name} must be in (0, 1]')
