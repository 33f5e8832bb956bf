"""The wording of prompts and tool results: files of a folder, read and checked.

In comes a folder `<language>/` of templates, the shipped one or a user's; out
goes `Templates`, which the agents' floor fills in. All wording that an agent
reads is in these files: code never says anything to a policy itself.

  <language>/tools.toml            what the tools' schemas say
  <language>/notices.toml          errors and notices
  <language>/<style>/<role>.txt    system prompts
  <language>/<style>/texts.toml    questions, hints, results, reports

`{name}` is a placeholder where the table below names it and plain text
everywhere else.
"""

import dataclasses
import functools
import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

PACKAGED = pathlib.Path(__file__).parent.parent / 'prompts'

# What a file must hold, and the placeholders that must be in it.
_FILES = {
  'tools.toml': {
    'create_sub_agents': (),
    'prompt': (),
    'search': (),
    'query': (),
    'count': (),
    'access': (),
    'url': (),
    'info_to_extract': (),
    'list': ('limit',),
  },
  'notices.toml': {
    'no_close': (),
    'no_open': (),
    'nesting': (),
    'not_json': ('reason',),
    'no_name': (),
    'no_tool': ('name', 'tools'),
    'and': (),
    'no_arguments': ('tool',),
    'not_object': ('where',),
    'not_list': ('where',),
    'not_integer': ('where', 'low', 'high'),
    'not_text': ('where',),
    'lacks': ('where', 'name'),
    'calls_dropped': ('limit',),
    'url_not_seen': (),
    'no_page': (),
    'no_hits': (),
    'tool_failed': ('reason',),
    'empty_report': (),
    'report_cut': ('limit',),
  },
  '{style}/texts.toml': {
    'answer.wide': (),
    'answer.deep': (),
    'examples.lead': (),
    'examples.single': (),
    'chat.subtask': ('question', 'subtask'),
    'chat.first_turn': ('max_turns',),
    'chat.next_turn': ('turn', 'max_turns'),
    'chat.last_turn': ('turn',),
    'results.separator': (),
    'results.search': ('query', 'result'),
    'results.hit': ('number', 'url', 'title', 'snippet'),
    'results.access': ('url', 'result'),
    'results.page': ('contents',),
    'results.page_cut': (),
    'results.report': ('number', 'subtask', 'report'),
    'results.partial_report': ('failure', 'report'),
    'failures.context_failed': (),
    'failures.turn_too_long': (),
    'failures.max_turn_limit_failed': (),
    'failures.tool_call_failed': (),
    'failures.token_limit_failed': (),
    'failures.time_limit_failed': (),
    'failures.tail_cut_failed': (),
  },
}
_SYSTEM_PROMPTS = {
  'lead': ('answer',),
  'lead_search': ('answer',),
  'subagent': (),
  'single': ('answer',),
}
_PLACEHOLDER = re.compile(r'\{(\w+)\}')


@dataclasses.dataclass(frozen=True)
class Templates:
  """The wording of one language and style.

  Attributes:
    texts: templates by name: 'system.lead', 'tools.search', 'notices.no_page',
      'chat.subtask' …
  """

  texts: Mapping[str, str]

  def fill(self, name: str, /, **values: object) -> str:
    """The template with values in its placeholders.

    What the values hold is not looked at again: a question that spells a
    placeholder stays as it is.
    """
    return _PLACEHOLDER.sub(
      lambda found: str(values.get(found[1], found[0])), self.texts[name]
    )


@functools.cache
def load(folder: str, language: str, style: str) -> Templates:
  """Reads the templates of a language and style.

  Args:
    folder: holds a folder a language; '' for the shipped one.
    language: 'en', 'zh' or whatever the folder has.
    style: 'compact' or 'full'.

  Raises:
    FileNotFoundError: the language or one of its files is missing.
    ValueError: a text or a placeholder is missing, or a text is one that
      nothing reads; the message names the file.
  """
  root = pathlib.Path(folder) if folder else PACKAGED
  if not (root / language).is_dir():
    raise FileNotFoundError(
      f'no prompts for language {language!r}: {root / language} is no folder; '
      f'start from a copy of {PACKAGED}'
    )
  texts = {}
  for name, placeholders in _SYSTEM_PROMPTS.items():
    path = root / language / style / f'{name}.txt'
    text = texts[f'system.{name}'] = _read(path).removesuffix('\n')
    _check(path, '', text, placeholders)
  for file, wanted in _FILES.items():
    path = root / language / file.format(style=style)
    found = _read_toml(path)
    for name in found.keys() - wanted.keys():
      raise ValueError(f'{path}: nothing reads the text {name!r}; remove it')
    for name, placeholders in wanted.items():
      if not isinstance(found.get(name), str):
        raise ValueError(f'{path}: the text {name!r} is missing; add it')
      _check(path, f'{name!r} ', found[name], placeholders)
    prefix = '' if '{' in file else file.removesuffix('toml')
    texts |= {prefix + name: text for name, text in found.items()}
  return Templates(texts)


def _check(
  path: pathlib.Path, name: str, text: str, placeholders: tuple[str, ...]
) -> None:
  found = _PLACEHOLDER.findall(text)
  for placeholder in placeholders:
    if placeholder not in found:
      raise ValueError(
        f'{path}: {name}lacks the placeholder {{{placeholder}}}; add it'
      )


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text(encoding='utf-8')
  except FileNotFoundError:
    raise FileNotFoundError(
      f'no prompt file {path}; start from a copy of {PACKAGED}'
    ) from None
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8 ({error})') from None


def _read_toml(path: pathlib.Path) -> dict[str, Any]:
  """The texts of a file, those of a table as 'table.name'."""
  try:
    tree = tomllib.loads(_read(path))
  except tomllib.TOMLDecodeError as error:
    raise ValueError(f'{path}: not TOML ({error})') from None
  flat = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      flat |= {f'{name}.{inner}': text for inner, text in value.items()}
    else:
      flat[name] = value
  return flat
