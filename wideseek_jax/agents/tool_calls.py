"""Reads the tool calls out of a turn, or says precisely what is wrong.

In comes the text of one turn and the role that wrote it; out goes `Parsed`:
calls, or an error to send back, or neither (the turn is the final answer).
Calls count only after the last closed thought. A text that tries to call a
tool is never taken for an answer.
"""

import dataclasses
import json
from typing import Any, ClassVar

from wideseek_jax.agents import prompts
from wideseek_jax.tasks import tables

OPEN = '<tool_call>'
_CLOSE = '</tool_call>'


@dataclasses.dataclass(frozen=True)
class Search:
  """One query, and how many hits are wanted."""

  name: ClassVar[str] = 'search'
  query: str
  count: int


@dataclasses.dataclass(frozen=True)
class Access:
  """One page, and what is wanted from it ('' if the policy did not say)."""

  name: ClassVar[str] = 'access'
  url: str
  info_to_extract: str = ''


@dataclasses.dataclass(frozen=True)
class Subtask:
  """One subagent to create."""

  name: ClassVar[str] = 'create_sub_agents'
  prompt: str


Call = Search | Access | Subtask
_CALLS = {call.name: call for call in (Search, Access, Subtask)}


@dataclasses.dataclass(frozen=True)
class Parsed:
  """What a turn asks for.

  Attributes:
    calls: the call items in order, within the role's limits; those that create
      subagents come last.
    error: why the turn's call cannot run, in one sentence, or ''.
    notice: what was dropped, in one sentence, or ''.
  """

  calls: tuple[Call, ...] = ()
  error: str = ''
  notice: str = ''


class _MalformedError(ValueError):
  """A call that cannot run: the name of a notice, and what is filled in."""

  def __init__(self, notice: str, /, **values: object):
    super().__init__(notice)
    self.values = values


def parse_turn(text: str, spec: prompts.RoleSpec) -> Parsed:
  """Reads the calls of a turn.

  Args:
    text: the turn, without the token that ended it.
    spec: the role that wrote it: its tools, their schemas, its limits.

  Returns:
    Parsed; one malformed call makes the whole turn an error, so that a turn
    either runs as it was written or not at all.
  """
  try:
    calls = [
      call
      for block in _blocks(tables.after_thought(text))
      for call in _read_block(block, spec)
    ]
  except _MalformedError as error:
    return Parsed(error=spec.words.fill(f'notices.{error}', **error.values))
  kept, notices = [], []
  for creates, limit in ((False, spec.max_calls), (True, spec.max_subagents)):
    items = [call for call in calls if isinstance(call, Subtask) == creates]
    kept += items[:limit]
    if len(items) > limit:
      notices.append(
        spec.words.fill('notices.calls_dropped', limit=limit, total=len(items))
      )
  return Parsed(tuple(kept), notice=' '.join(notices))


def _blocks(text: str) -> list[str]:
  """The contents of all <tool_call> blocks."""
  head, *rest = text.split(OPEN)
  if _CLOSE in head:
    raise _MalformedError('no_open')
  blocks = []
  for piece in rest:
    block, close, tail = piece.partition(_CLOSE)
    if not close:
      raise _MalformedError('no_close')
    if _CLOSE in tail:
      raise _MalformedError('no_open')
    blocks.append(block)
  return blocks


def _read_block(block: str, spec: prompts.RoleSpec) -> list[Call]:
  try:
    call = json.loads(block)
  except RecursionError:
    raise _MalformedError('nesting') from None
  except ValueError as error:
    raise _MalformedError('not_json', reason=error) from None
  if not isinstance(call, dict) or not isinstance(call.get('name'), str):
    raise _MalformedError('no_name')
  tool = next((t for t in spec.tools if t.name == call['name']), None)
  if tool is None:
    names = spec.words.fill('notices.and').join(t.name for t in spec.tools)
    raise _MalformedError('no_tool', name=call['name'][:40], tools=names)
  if 'arguments' not in call:
    raise _MalformedError('no_arguments', tool=tool.name)
  arguments = _conform(call['arguments'], tool.parameters, 'arguments')
  items = next((v for v in arguments.values() if isinstance(v, list)), None)
  make = _CALLS[tool.name]
  return [make(**item) for item in (items or [arguments])]


def _conform(value: Any, schema: dict[str, Any], where: str) -> Any:
  """The value as the schema wants it, defaults filled in."""
  if schema['type'] == 'object':
    if not isinstance(value, dict):
      raise _MalformedError('not_object', where=where)
    return _conform_object(value, schema, where)
  if schema['type'] == 'array':
    if not isinstance(value, list) or not value:
      raise _MalformedError('not_list', where=where)
    return [
      _conform(item, schema['items'], f'{where}[{i}]')
      for i, item in enumerate(value)
    ]
  if schema['type'] == 'integer':
    low, high = schema['minimum'], schema['maximum']
    # A JSON true is an int for Python.
    if type(value) is not int or not low <= value <= high:
      raise _MalformedError('not_integer', where=where, low=low, high=high)
    return value
  # Half a surrogate pair is legal JSON and no text.
  text = value if isinstance(value, str) else ''
  text = text.encode('utf-8', 'replace').decode('utf-8').strip()
  if not text:
    raise _MalformedError('not_text', where=where)
  return text


def _conform_object(
  value: dict[str, Any], schema: dict[str, Any], where: str
) -> dict[str, Any]:
  conformed = {}
  for name, part in schema['properties'].items():
    if name in value:
      conformed[name] = _conform(value[name], part, f'{where}.{name}')
    elif name in schema['required']:
      raise _MalformedError('lacks', where=where, name=name)
    elif 'default' in part:
      conformed[name] = part['default']
  return conformed
