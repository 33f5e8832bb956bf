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

_OPEN = '<tool_call>'
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
    calls: the call items in order, at most the role's max_calls.
    error: why the turn's call cannot run, in one sentence, or ''.
    notice: what was dropped, in one sentence, or ''.
  """

  calls: tuple[Call, ...] = ()
  error: str = ''
  notice: str = ''


class _MalformedError(ValueError):
  """A call that cannot run; the message is for the policy."""


def parse_turn(text: str, spec: prompts.RoleSpec) -> Parsed:
  """Reads the calls of a turn.

  Args:
    text: the turn, without the token that ended it.
    spec: the role that wrote it: its tools, their schemas, its max_calls.

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
    return Parsed(error=str(error))
  notice = ''
  if len(calls) > spec.max_calls:
    notice = f'Only the first {spec.max_calls} of {len(calls)} calls were run.'
  return Parsed(tuple(calls[: spec.max_calls]), notice=notice)


def _blocks(text: str) -> list[str]:
  """The contents of all <tool_call> blocks."""
  head, *rest = text.split(_OPEN)
  if _CLOSE in head:
    raise _MalformedError(f'There is a {_CLOSE} without {_OPEN}.')
  blocks = []
  for piece in rest:
    block, close, tail = piece.partition(_CLOSE)
    if not close:
      raise _MalformedError(f'There is a {_OPEN} without {_CLOSE}.')
    if _CLOSE in tail:
      raise _MalformedError(f'There is a {_CLOSE} without {_OPEN}.')
    blocks.append(block)
  return blocks


def _read_block(block: str, spec: prompts.RoleSpec) -> list[Call]:
  try:
    call = json.loads(block)
  except RecursionError:
    raise _MalformedError('The tool call is nested too deeply.') from None
  except ValueError as error:
    raise _MalformedError(f'The tool call is not JSON: {error}.') from None
  if not isinstance(call, dict) or not isinstance(call.get('name'), str):
    raise _MalformedError(
      'The tool call must be a JSON object with "name" and "arguments".'
    )
  tool = next((t for t in spec.tools if t.name == call['name']), None)
  if tool is None:
    names = ' and '.join(t.name for t in spec.tools)
    raise _MalformedError(
      f'There is no tool "{call["name"][:40]}" here; you have {names}.'
    )
  if 'arguments' not in call:
    raise _MalformedError(f'The call of {tool.name} lacks "arguments".')
  arguments = _conform(call['arguments'], tool.parameters, 'arguments')
  items = next((v for v in arguments.values() if isinstance(v, list)), None)
  make = _CALLS[tool.name]
  return [make(**item) for item in (items or [arguments])]


def _conform(value: Any, schema: dict[str, Any], where: str) -> Any:
  """The value as the schema wants it, defaults filled in."""
  if schema['type'] == 'object':
    if not isinstance(value, dict):
      raise _MalformedError(f'{where} must be an object.')
    return _conform_object(value, schema, where)
  if schema['type'] == 'array':
    if not isinstance(value, list) or not value:
      raise _MalformedError(f'{where} must be a list with at least one item.')
    return [
      _conform(item, schema['items'], f'{where}[{i}]')
      for i, item in enumerate(value)
    ]
  if schema['type'] == 'integer':
    low, high = schema['minimum'], schema['maximum']
    # A JSON true is an int for Python.
    if type(value) is not int or not low <= value <= high:
      raise _MalformedError(
        f'{where} must be a whole number from {low} to {high}.'
      )
    return value
  # Half a surrogate pair is legal JSON and no text.
  text = value if isinstance(value, str) else ''
  text = text.encode('utf-8', 'replace').decode('utf-8').strip()
  if not text:
    raise _MalformedError(f'{where} must be a text that is not empty.')
  return text


def _conform_object(
  value: dict[str, Any], schema: dict[str, Any], where: str
) -> dict[str, Any]:
  conformed = {}
  for name, part in schema['properties'].items():
    if name in value:
      conformed[name] = _conform(value[name], part, f'{where}.{name}')
    elif name in schema['required']:
      raise _MalformedError(f'{where} lacks "{name}".')
    elif 'default' in part:
      conformed[name] = part['default']
  return conformed
