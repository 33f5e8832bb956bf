"""What the lead agent reads of its subagents: their reports, nothing else.

In come the finished trajectories of one fan-out; out goes the text of the tool
message. Thoughts, searches and pages of a subagent stay in its own context.
"""

from collections.abc import Sequence

from wideseek_jax import types
from wideseek_jax.agents import prompts, tool_text

_FAILURES = {
  types.CONTEXT_FAILED: (
    'The subagent failed: its subtask took more text than fits its context. '
    'Ask again with smaller subtasks.'
  ),
  types.TURN_LIMIT_FAILED: (
    'The subagent failed: it used up its turns without a report. '
    'Ask again with simpler subtasks.'
  ),
  types.TOOL_CALL_FAILED: (
    'The subagent failed: it did not call its tools correctly. Ask again.'
  ),
}
_COMPACT_FAILURES = {
  types.CONTEXT_FAILED: 'Failed: the context was full.',
  types.TURN_LIMIT_FAILED: 'Failed: no turns left.',
  types.TOOL_CALL_FAILED: 'Failed: malformed tool call.',
}
EMPTY_REPORT = 'The report is empty.'


def reports_message(
  tokenizer: prompts.Tokenizer,
  subagents: Sequence[types.Trajectory],
  notice: str,
  *,
  style: prompts.Style,
  report_tokens: int,
) -> str:
  """The reports of one fan-out, in the order of the subtasks.

  Args:
    tokenizer: measures the reports.
    subagents: the finished trajectories.
    notice: what was dropped, '' if nothing.
    style: 'compact' or 'full'.
    report_tokens: what is shown of one report, in tokens.
  """
  parts = []
  for i, subagent in enumerate(subagents):
    subtask = tool_text.one_line(subagent.subtask)
    report = report_text(
      tokenizer, subagent, style=style, report_tokens=report_tokens
    )
    if style == 'compact':
      parts.append(f'# {i + 1}: {subtask}\n {report}')
    else:
      parts.append(f'# Subtask {i + 1}: {subtask}\n# Result: {report}')
  if notice:
    parts.append(notice)
  return ('\n' if style == 'compact' else '\n\n').join(parts)


def report_text(
  tokenizer: prompts.Tokenizer,
  subagent: types.Trajectory,
  *,
  style: prompts.Style,
  report_tokens: int,
) -> str:
  """One report, cut to report_tokens; or why there is none."""
  if subagent.failures:
    texts = _COMPACT_FAILURES if style == 'compact' else _FAILURES
    return texts[subagent.failures[0]]
  if not subagent.answer:
    return EMPTY_REPORT
  ids = tokenizer.encode_untrusted(subagent.answer)
  if len(ids) <= report_tokens:
    return subagent.answer
  # The cut can fall within a character of several bytes.
  kept = tokenizer.decode(ids[:report_tokens]).rstrip('\ufffd')
  return f'{kept} [report cut at {report_tokens} tokens]'
