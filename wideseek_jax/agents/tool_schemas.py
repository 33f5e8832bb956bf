"""The tools as JSON schemas: what is shown to the policy and checked in calls.

Data for prompts.py. The names and arguments are those that the released
weights were trained with (arXiv 2602.04634 §3); the descriptions are templates.
"""

import dataclasses
from typing import Any

from wideseek_jax import types
from wideseek_jax.agents import templates

# The released weights were told to ask for less than ten.
MAX_COUNT = 9


@dataclasses.dataclass(frozen=True)
class Tool:
  """A tool as the policy sees it.

  Attributes:
    name: how it is called.
    description: what it does (shown in style 'full').
    parameters: JSON schema of the arguments; calls are checked against it.
  """

  name: str
  description: str
  parameters: dict[str, Any]


def tools_of(
  role: types.Role,
  words: templates.Templates,
  *,
  max_calls: int,
  max_subagents: int,
  search_count: int,
  needs_info: bool,
  lead_searches: bool,
) -> tuple[Tool, ...]:
  """The tools of a role.

  A lead creates subagents; a subagent searches and opens several pages at
  once; a single agent does the same one by one.

  Args:
    role: 'lead', 'subagent' or 'single'.
    words: the descriptions.
    max_calls: searches and pages of a turn that run, told to the policy.
    max_subagents: subagents of a turn that run, told to the policy.
    search_count: hits of a search that names no count.
    needs_info: whether a page is opened only for a stated purpose.
    lead_searches: whether a lead has the tools of a subagent beside its own.
  """
  search, access = _search(words, search_count), _access(words, needs_info)
  if role == 'single':
    return (search, access)
  searching = (
    _as_list(words, search, 'queries', max_calls),
    _as_list(words, access, 'urls', max_calls),
  )
  if role == 'subagent':
    return searching
  create = _as_list(
    words, _create_sub_agents(words), 'sub_agents', max_subagents
  )
  return (create, *searching) if lead_searches else (create,)


def _string(words: templates.Templates, name: str) -> dict[str, Any]:
  return {'type': 'string', 'description': words.fill(f'tools.{name}')}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
  return {'type': 'object', 'properties': properties, 'required': required}


def _tool(
  words: templates.Templates,
  name: str,
  properties: dict[str, Any],
  required: list[str],
) -> Tool:
  description = words.fill(f'tools.{name}')
  return Tool(name, description, _object(properties, required))


def _create_sub_agents(words: templates.Templates) -> Tool:
  properties = {'prompt': _string(words, 'prompt')}
  return _tool(words, 'create_sub_agents', properties, ['prompt'])


def _search(words: templates.Templates, search_count: int) -> Tool:
  count = {
    'type': 'integer',
    'description': words.fill('tools.count', count=search_count),
    'minimum': 1,
    'maximum': MAX_COUNT,
    'default': search_count,
  }
  properties = {'query': _string(words, 'query'), 'count': count}
  return _tool(words, 'search', properties, ['query'])


def _access(words: templates.Templates, needs_info: bool) -> Tool:
  names = ['url', 'info_to_extract']
  properties = {name: _string(words, name) for name in names}
  return _tool(words, 'access', properties, names if needs_info else ['url'])


def _as_list(
  words: templates.Templates, tool: Tool, name: str, limit: int
) -> Tool:
  """The tool for several items at once, run at the same time."""
  items = {
    'type': 'array',
    'description': words.fill('tools.list', limit=limit),
    'items': tool.parameters,
  }
  return dataclasses.replace(tool, parameters=_object({name: items}, [name]))
