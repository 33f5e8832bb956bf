"""Shows a rollout as a tree that is safe to print.

In comes a rollout and, if there is one, its score; out goes text: the lead's
turns, and its subagents indented beneath the turn that created them. Calls and
results are folded to a line each. What a policy or a web page wrote can hold
anything; characters that steer a terminal or turn the reading direction are
spelled out.
"""

import unicodedata

from wideseek_jax import types

_FOLD = 200
_INDENT = '  '


def format_rollout(
  rollout: types.Rollout, score: types.Score | None = None
) -> str:
  """The rollout as text; the only control character in it is the newline."""
  head = f'rollout {rollout.index} of task {_fold(rollout.task_id)}'
  if score is not None:
    summands = ', '.join(
      f'{name} {score.parts[name]:.3f}'
      for name in ('answer', 'format', 'tool', 'length')
      if name in score.parts
    )
    head += f' · reward {score.reward:.3f}' + (summands and f' ({summands})')
  lines = [head, *_agent_lines(rollout.lead, rollout)]
  return '\n'.join(lines) + '\n'


def inert(text: str) -> str:
  """The text with every control and format character spelled out."""
  return ''.join(
    f'\\u{{{ord(c):x}}}'
    if unicodedata.category(c) in ('Cc', 'Cf', 'Cs', 'Co', 'Zl', 'Zp')
    else c
    for c in text
  )


def _agent_lines(agent: types.Trajectory, rollout: types.Rollout) -> list[str]:
  name = agent.role if agent.role != 'subagent' else f'subagent {agent.agent}'
  if agent.subtask:
    name += f': {_fold(agent.subtask)}'
  turns = 'turn' if len(agent.turns) == 1 else 'turns'
  head = f'{name} · {len(agent.turns)} {turns}, {agent.num_sampled} tokens'
  if agent.failures:
    head += ' · FAILED ' + ', '.join(agent.failures)
  lines = [head]
  for index, turn in enumerate(agent.turns):
    text = turn.text
    # The lead's answer is shown in full below.
    if agent is rollout.lead and turn is agent.turns[-1]:
      text = text.rstrip().removesuffix(agent.answer)
    lines.append(f'{_INDENT}turn {index + 1} · {_fold(text)}')
    if turn.error:
      lines.append(f'{_INDENT * 2}error: {_fold(turn.error)}')
    # Only the lead has children, and it is the only agent without a parent.
    if agent is rollout.lead:
      for child in rollout.subagents:
        if child.parent_turn == index:
          lines += [_INDENT * 2 + line for line in _agent_lines(child, rollout)]
    if turn.tool_text:
      names = ', '.join(dict.fromkeys(turn.tool_names)) or 'refused'
      count = f' ×{len(turn.tool_names)}' if len(turn.tool_names) > 1 else ''
      lines.append(f'{_INDENT * 2}{names}{count} → {_fold(turn.tool_text)}')
  if agent is rollout.lead and agent.answer:
    lines += [_INDENT * 2 + inert(line) for line in agent.answer.split('\n')]
  return lines


def _fold(text: str) -> str:
  """One line of bounded length."""
  text = ' ⏎ '.join(line.strip() for line in text.split('\n') if line.strip())
  if len(text) > _FOLD:
    text = f'{text[:_FOLD]} … ({len(text)} characters)'
  return inert(text)
