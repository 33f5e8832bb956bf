"""The tools as JSON schemas: what is shown to the policy and checked in calls.

Data for prompts.py. The names and arguments are those that the released
weights were trained with (arXiv 2602.04634 §3); the descriptions are our own.
"""

import dataclasses
from typing import Any

from wideseek_jax import types


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
  role: types.Role, *, max_calls: int, search_count: int, needs_info: bool
) -> tuple[Tool, ...]:
  """The tools of a role.

  A lead creates subagents; a subagent searches and opens several pages at
  once; a single agent does the same one by one.

  Args:
    role: 'lead', 'subagent' or 'single'.
    max_calls: items of a turn that run, told to the policy.
    search_count: hits of a search that names no count.
    needs_info: whether a page is opened only for a stated purpose.
  """
  if role == 'lead':
    return (_create_sub_agents(max_calls),)
  search, access = _search(search_count), _access(needs_info)
  if role == 'single':
    return (search, access)
  return (
    _as_list(search, 'queries', max_calls),
    _as_list(access, 'urls', max_calls),
  )


def _string(description: str) -> dict[str, Any]:
  return {'type': 'string', 'description': description}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
  return {'type': 'object', 'properties': properties, 'required': required}


def _create_sub_agents(max_calls: int) -> Tool:
  prompt = _string(
    'The subtask: clear, self-contained and independent of the others.'
  )
  return _as_list(
    Tool(
      'create_sub_agents',
      'Starts subagents that work on their subtasks at the same time, each '
      'with its own tools and its own context, and returns the report of each.',
      _object({'prompt': prompt}, ['prompt']),
    ),
    'sub_agents',
    max_calls,
  )


def _search(search_count: int) -> Tool:
  count = {
    'type': 'integer',
    'description': f'How many results to return, {search_count} if not given.',
    'minimum': 1,
    'maximum': 10,
    'default': search_count,
  }
  return Tool(
    'search',
    'Searches for web pages. Returns their urls, titles and beginnings.',
    _object({'query': _string('What to look for.'), 'count': count}, ['query']),
  )


def _access(needs_info: bool) -> Tool:
  return Tool(
    'access',
    'Opens a web page. Only urls that a search returned can be opened.',
    _object(
      {
        'url': _string('The url, exactly as the search returned it.'),
        'info_to_extract': _string('What you want to know from the page.'),
      },
      ['url', 'info_to_extract'] if needs_info else ['url'],
    ),
  )


def _as_list(tool: Tool, name: str, max_calls: int) -> Tool:
  """The tool for several items at once, run at the same time."""
  items = {
    'type': 'array',
    'description': f'At most {max_calls} in one turn.',
    'items': tool.parameters,
  }
  return dataclasses.replace(tool, parameters=_object({name: items}, [name]))
