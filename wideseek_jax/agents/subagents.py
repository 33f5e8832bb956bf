"""What the lead agent reads of its subagents: their reports, nothing else.

In come the finished trajectories of one fan-out; out go the parts of the tool
message. Thoughts, searches and pages of a subagent stay in its own context.
"""

from collections.abc import Sequence

from wideseek_jax import types
from wideseek_jax.agents import prompts, templates, tool_calls, tool_text
from wideseek_jax.tasks import tables


def report_parts(
  tokenizer: prompts.Tokenizer,
  subagents: Sequence[types.Trajectory],
  words: templates.Templates,
  *,
  report_tokens: int,
  partial: bool,
) -> list[str]:
  """The reports of one fan-out, a part each, in the order of the subtasks.

  Args:
    tokenizer: measures the reports.
    subagents: the finished trajectories.
    words: the wording.
    report_tokens: what is shown of one report, in tokens.
    partial: whether what a failed subagent wrote last is shown.
  """
  return [
    words.fill(
      'results.report',
      number=i + 1,
      subtask=tool_text.one_line(subagent.subtask),
      report=_report(tokenizer, subagent, words, report_tokens, partial),
    )
    for i, subagent in enumerate(subagents)
  ]


def partial_report(subagent: types.Trajectory) -> str:
  """The last text that a subagent wrote beside its thoughts and calls."""
  for turn in reversed(subagent.turns):
    text = tables.after_thought(turn.text).partition(tool_calls.OPEN)[0].strip()
    if text:
      return text
  return ''


def _report(
  tokenizer: prompts.Tokenizer,
  subagent: types.Trajectory,
  words: templates.Templates,
  report_tokens: int,
  partial: bool,
) -> str:
  """One report, cut to report_tokens; or why there is none."""
  if subagent.failures:
    failure = words.fill(f'failures.{_cause(subagent)}')
    text = partial_report(subagent) if partial else ''
    if not text:
      return failure
    text = _cut(tokenizer, text, words, report_tokens)
    return words.fill('results.partial_report', failure=failure, report=text)
  if not subagent.answer:
    return words.fill('notices.empty_report')
  return _cut(tokenizer, subagent.answer, words, report_tokens)


def _cause(subagent: types.Trajectory) -> str:
  """What the lead is told: a turn that ran on is not a context that filled."""
  cause = subagent.failures[0]
  if cause == types.CONTEXT_FAILED and subagent.turns:
    ran_on = subagent.turns[-1].finish_reason == 'length'
    return 'turn_too_long' if ran_on else cause
  return cause


def _cut(
  tokenizer: prompts.Tokenizer,
  text: str,
  words: templates.Templates,
  limit: int,
) -> str:
  ids = tokenizer.encode_untrusted(text)
  if len(ids) <= limit:
    return text
  # The cut can fall within a character of several bytes.
  kept = tokenizer.decode(ids[:limit]).rstrip('\ufffd')
  return kept + words.fill('notices.report_cut', limit=limit)
