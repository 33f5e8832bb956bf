"""What the agents are told: roles as data, and the chat format as token ids.

In comes a role, a question and the texts that tools answer with; out go the
token ids that are appended to an agent's sequence. Nothing here samples or
parses; the wording is data (templates.py).

Every message is made of pieces that are encoded apart from each other: the
frame (chat markers, system prompt) as trusted text, everything that comes from
a question, a tool or another agent as untrusted text, which can spell a marker
but never be one. Equal pieces give equal ids, so the agents of a role share
their system prompt and a group shares its whole prompt.

The format is Qwen3's chat template (system block with `# Tools`, calls as JSON
within <tool_call>, answers as <tool_response> in a user turn). Style 'full'
follows it to the byte, because released weights were trained on it; style
'compact' keeps the markers and the JSON convention and says the rest in as few
tokens as possible, for small policies.
"""

import dataclasses
import json
from typing import Any, Literal, Protocol

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import templates, tool_schemas

Style = Literal['compact', 'full']
Kind = Literal['wide', 'deep']

END_OF_TURN = '<|im_end|>'
END_OF_TEXT = '<|endoftext|>'


class Tokenizer(Protocol):
  """What the agents' floor sees of a tokenizer."""

  def encode(self, text: str) -> list[int]:
    """Ids of trusted text: a marker becomes its single id."""

  def encode_untrusted(self, text: str) -> list[int]:
    """Ids of any text: a marker stays ordinary characters."""

  def decode(self, ids) -> str:
    """The text of ids, markers visible."""

  def special(self, name: str) -> int:
    """The id of a marker."""


@dataclasses.dataclass(frozen=True)
class RoleSpec:
  """One role: the same agent code with another prompt, tools and limits.

  Attributes:
    role: whose turns these are.
    style: 'compact' or 'full'.
    system: the system prompt without the part on tools.
    tools: what the role may call.
    words: what else the role reads.
    max_turns: an agent of the role has so many turns.
    max_calls: so many searches and pages run in one turn; further ones are
      dropped.
    max_subagents: so many subagents are created in one turn.
  """

  role: types.Role
  style: Style
  system: str
  tools: tuple[tool_schemas.Tool, ...]
  words: templates.Templates
  max_turns: int
  max_calls: int
  max_subagents: int


def role_spec(
  role: types.Role,
  *,
  style: Style,
  kind: Kind,
  max_turns: int,
  max_calls: int,
  max_subagents: int,
  language: str = 'en',
  folder: str = '',
  search_count: int = 3,
  lead_searches: bool = False,
) -> RoleSpec:
  """The spec of a role (arXiv 2602.04634 §3).

  Args:
    role: 'lead', 'subagent' or 'single'.
    style: 'compact' or 'full'.
    kind: 'wide' asks for a markdown table, 'deep' for a boxed answer.
    max_turns: turns of an agent.
    max_calls: searches and pages of a turn that run.
    max_subagents: subagents of a turn.
    language: of the prompts.
    folder: of the templates; '' for the shipped ones.
    search_count: hits of a search that names no count.
    lead_searches: whether a lead has the tools of a subagent beside its own.

  Raises:
    ValueError, FileNotFoundError: a name is unknown, or see `templates.load`.
  """
  if style not in ('compact', 'full'):
    raise ValueError(f'prompt style {style!r} is neither compact nor full')
  if kind not in ('wide', 'deep'):
    raise ValueError(f'task kind {kind!r} is neither wide nor deep')
  if role not in ('lead', 'subagent', 'single'):
    raise ValueError(f'unknown role {role!r}')
  words = templates.load(folder, language, style)
  tools = tool_schemas.tools_of(
    role,
    words,
    max_calls=max_calls,
    max_subagents=max_subagents,
    search_count=search_count,
    needs_info=style == 'full',
    lead_searches=lead_searches,
  )
  name = 'lead_search' if role == 'lead' and lead_searches else role
  # Only tables have examples, and a subagent writes neither kind of answer.
  has_examples = kind == 'wide' and role != 'subagent'
  system = words.fill(
    f'system.{name}',
    answer=words.fill(f'answer.{kind}'),
    examples=words.fill(f'examples.{role}') if has_examples else '',
  )
  return RoleSpec(
    role, style, system, tools, words, max_turns, max_calls, max_subagents
  )


def system_text(spec: RoleSpec) -> str:
  """The system block of the chat, markers and tools included."""
  if spec.style == 'compact':
    lines = '\n'.join(
      json.dumps({'name': t.name, 'parameters': _shorthand(t.parameters)})
      for t in spec.tools
    )
    tools = f'\n# Tools\n<tools>\n{lines}\n</tools>'
  else:
    lines = '\n'.join(
      json.dumps(
        {
          'type': 'function',
          'function': {
            'name': t.name,
            'description': t.description,
            'parameters': t.parameters,
          },
        },
        ensure_ascii=False,
      )
      for t in spec.tools
    )
    tools = (
      '\n\n# Tools\n\n'
      'You may call one or more functions to assist with the user query.\n\n'
      'You are provided with function signatures within <tools></tools> XML '
      f'tags:\n<tools>\n{lines}\n</tools>\n\n'
      'For each function call, return a json object with function name and '
      'arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n'
      '{"name": <function-name>, "arguments": <args-json-object>}\n'
      '</tool_call>'
    )
  return f'<|im_start|>system\n{spec.system}{tools}{END_OF_TURN}\n'


def first_turn_ids(
  tokenizer: Tokenizer,
  spec: RoleSpec,
  question: str,
  subtask: str = '',
  *,
  max_turns: int | None = None,
) -> np.ndarray:
  """Everything that an agent reads before its first turn.

  Args:
    tokenizer: gives the ids.
    spec: the agent's role.
    question: the task's question; a subagent reads it before its subtask.
    subtask: what the lead asked a subagent to do.
    max_turns: turns that the agent has; the role's own by default.

  Returns:
    int32 [n].
  """
  text = question
  if spec.role == 'subagent':
    # The question stands first: the subagents of a group share it.
    text = spec.words.fill('chat.subtask', question=question, subtask=subtask)
  hint = spec.words.fill(
    'chat.first_turn', max_turns=max_turns or spec.max_turns
  )
  return _join(
    tokenizer.encode(system_text(spec)),
    tokenizer.encode('<|im_start|>user\n'),
    tokenizer.encode_untrusted(text + hint),
    tokenizer.encode(f'{END_OF_TURN}\n<|im_start|>assistant\n'),
  )


def tool_turn_ids(
  tokenizer: Tokenizer,
  spec: RoleSpec,
  text: str,
  *,
  turn: int,
  max_turns: int | None = None,
  closed: bool = True,
) -> np.ndarray:
  """What an agent reads between two of its turns.

  Args:
    tokenizer: gives the ids.
    spec: the agent's role.
    text: what the tools answered.
    turn: index of the turn that follows (0 is the first turn).
    max_turns: turns that the agent has; the role's own by default.
    closed: whether the turn before ended with <|im_end|> itself.

  Returns:
    int32 [n].
  """
  end = '' if closed else END_OF_TURN
  limit = max_turns or spec.max_turns
  hint = spec.words.fill(
    'chat.last_turn' if turn + 1 == limit else 'chat.next_turn',
    turn=turn + 1,
    max_turns=limit,
  )
  return _join(
    tokenizer.encode(f'{end}\n<|im_start|>user\n<tool_response>\n'),
    tokenizer.encode_untrusted(text + hint),
    tokenizer.encode(
      f'\n</tool_response>{END_OF_TURN}\n<|im_start|>assistant\n'
    ),
  )


def stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
  """The tokens that end a turn; the first is the regular one."""
  return (tokenizer.special(END_OF_TURN), tokenizer.special(END_OF_TEXT))


def _join(*pieces: list[int]) -> np.ndarray:
  return np.array([i for piece in pieces for i in piece], np.int32)


def _shorthand(schema: dict[str, Any]) -> Any:
  """A schema in few tokens: the required names and the types."""
  if schema['type'] == 'object':
    return {k: _shorthand(schema['properties'][k]) for k in schema['required']}
  if schema['type'] == 'array':
    return [_shorthand(schema['items'])]
  return schema['type']
