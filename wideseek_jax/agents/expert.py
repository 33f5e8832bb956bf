"""A scripted, deliberately imperfect expert for demonstrations.

In: the conversation of one agent, as text. Out: the text of its next turn.
`scripted.ScriptedEngine` turns that into tokens, so that a demonstration runs
through the very agents, tools and chat format that a policy will meet, and a
policy fitted to it starts with a format that earns some reward.

The expert can do every task, and each of its habits in `Flaws` spoils a share
of its rollouts. A policy fitted to the mixture can do the right thing and
often does not: that is the room in which reinforcement learning works.
"""

import dataclasses
import json
import re
from collections.abc import Sequence

import numpy as np

Messages = Sequence[tuple[str, str]]

_WIDE = re.compile(r'every (.+)\. Columns: (.+?)\.(?:\s|$)')
_DEEP = re.compile(r'What is the (.+?) of the (.+?) of the (.+)\?')
_HIT = re.compile(r'\]\((\S+?)\):')


@dataclasses.dataclass(frozen=True)
class Flaws:
  """How often the expert does each thing wrong; probabilities in [0, 1].

  Attributes:
    answer_at_once: the lead answers without any subagent.
    names_only: the lead stops after the names; other cells are '?'.
    under_delegate: the lead asks for the rows of some of the names only.
    drop_row: the lead forgets the last row in its table.
    no_fence: the lead's table is not in a markdown block.
    no_access: a subagent reports from the snippets, without opening a page.
    miss_entity: a subagent leaves out one of its entities.
    broken_json: a tool call that does not parse.
  """

  answer_at_once: float = 0.04
  names_only: float = 0.05
  under_delegate: float = 0.6
  drop_row: float = 0.2
  no_fence: float = 0.35
  no_access: float = 0.15
  miss_entity: float = 0.1
  broken_json: float = 0.01


FLAWLESS = Flaws(**{f.name: 0.0 for f in dataclasses.fields(Flaws)})


@dataclasses.dataclass(frozen=True)
class Expert:
  """Answers for an agent whose conversation it is shown.

  Attributes:
    flaws: how often which mistake is made.
    max_subagents: subagents that it creates at most in one fan-out.
    max_entities: entities that it gives to one subagent at most.
  """

  flaws: Flaws = Flaws()
  max_subagents: int = 8
  max_entities: int = 2

  def respond(self, messages: Messages, key: tuple[int, ...]) -> str:
    """The next turn's text for the conversation so far.

    Args:
      messages: (chat role, text) pairs, the system message first.
      key: the turn's address; equal keys draw equal mistakes.
    """
    rng = np.random.default_rng([part & 0xFFFFFFFF for part in key])
    question = messages[1][1]
    if 'Subtask: ' in question:
      return self._subagent(messages, rng)
    if _DEEP.search(question):
      return self._deep_lead(messages, rng)
    return self._wide_lead(messages, rng)

  def _wide_lead(self, messages: Messages, rng: np.random.Generator) -> str:
    phrase, columns = _wide_parts(messages[1][1])
    replies = _replies(messages)
    if not replies:
      if rng.random() < self.flaws.answer_at_once:
        return self._table(columns, [], rng)
      prompt = f'Names of every {phrase}'
      return self._call('names', 'create_sub_agents', _subtasks([prompt]), rng)
    names = _names(replies[0])
    if len(replies) == 1 and names:
      if rng.random() < self.flaws.names_only:
        rows = [[name] + ['?'] * (len(columns) - 1) for name in names]
        return self._table(columns, rows, rng)
      if rng.random() < self.flaws.under_delegate:
        names = names[: int(rng.integers(1, max(2, len(names))))]
      prompts = [
        f'Rows of {"; ".join(part)}' for part in self._split(names, rng)
      ]
      return self._call('rows', 'create_sub_agents', _subtasks(prompts), rng)
    rows = [
      [cell.strip() for cell in line.strip().strip('|').split('|')]
      for line in replies[-1].splitlines()
      if line.lstrip().startswith('| ')
    ]
    return self._table(columns, rows, rng)

  def _deep_lead(self, messages: Messages, rng: np.random.Generator) -> str:
    outer, inner, entity = _DEEP.search(messages[1][1]).groups()
    replies = _replies(messages)
    if not replies:
      prompt = f'The {inner} of the {entity}'
      return self._call('step', 'create_sub_agents', _subtasks([prompt]), rng)
    value = _value(replies[-1])
    if len(replies) == 1 and value:
      # Not 'the country Peru': that would find the lists of such things.
      prompt = f'The {outer} of the {value}'
      return self._call('step', 'create_sub_agents', _subtasks([prompt]), rng)
    return _say('answer', f'\\boxed{{{value}}}')

  def _subagent(self, messages: Messages, rng: np.random.Generator) -> str:
    question, subtask = messages[1][1].rsplit('Subtask: ', 1)
    subtask = subtask.split('\n')[0]
    replies = _replies(messages)
    if subtask.startswith('Names of '):
      return self._name_finder(subtask.removeprefix('Names of '), replies, rng)
    if subtask.startswith('Rows of '):
      phrase, columns = _wide_parts(question)
      kind = phrase.split(' with ')[0]
      names = subtask.removeprefix('Rows of ').split('; ')
      return self._row_finder(kind, columns[1:], names, replies, rng)
    attribute, entity = subtask.removeprefix('The ').split(' of the ', 1)
    return self._value_finder(attribute, entity, replies, rng)

  def _name_finder(
    self, phrase: str, replies: Sequence[str], rng: np.random.Generator
  ) -> str:
    if not replies:
      return self._search([f'list {phrase}'], rng)
    if len(replies) == 1:
      return self._access(_first_urls(replies[0]), rng)
    return _say('report', 'Names: ' + '; '.join(_names(replies[-1])))

  def _row_finder(
    self,
    kind: str,
    columns: Sequence[str],
    names: Sequence[str],
    replies: Sequence[str],
    rng: np.random.Generator,
  ) -> str:
    if not replies:
      # The kind as the question has it, behind a space: in brackets it would
      # be other tokens, which nobody can copy who has not seen them before.
      return self._search([f'page {name} {kind}' for name in names], rng)
    no_access = rng.random() < self.flaws.no_access
    if len(replies) == 1 and not no_access:
      return self._access(_first_urls(replies[0]), rng)
    pages = _attributes(replies[-1], kind) if len(replies) > 1 else {}
    if len(names) > 1 and rng.random() < self.flaws.miss_entity:
      names = names[:-1]
    # The thought says each value beside its column's name, as the page does:
    # two easy steps for a small policy, where a bare row would be a hard one.
    notes, rows = ['report'], []
    for name in names:
      values = [pages.get(name, {}).get(column, '?') for column in columns]
      notes.append(f'- {kind}: {name}')
      notes += [
        f'- {column}: {value}'
        for column, value in zip(columns, values, strict=True)
      ]
      rows.append(_row([name, *values]))
    return _say('\n'.join(notes), '\n'.join(rows))

  def _value_finder(
    self,
    attribute: str,
    entity: str,
    replies: Sequence[str],
    rng: np.random.Generator,
  ) -> str:
    if not replies:
      return self._search([f'page {entity}'], rng)
    if len(replies) == 1:
      return self._access(_first_urls(replies[0]), rng)
    found = re.search(rf'^- {re.escape(attribute)}: (.+)$', replies[-1], re.M)
    return _say('report', f'Value: {found[1] if found else "?"}')

  def _split(
    self, names: Sequence[str], rng: np.random.Generator
  ) -> list[Sequence[str]]:
    # Mostly one entity a subagent: what is split most is answered best.
    size = 1 if rng.random() < 0.7 else self.max_entities
    fewest = -(-len(names) // self.max_subagents)
    size = min(max(size, fewest), self.max_entities)
    parts = [names[i : i + size] for i in range(0, len(names), size)]
    return parts[: self.max_subagents]

  def _search(self, queries: Sequence[str], rng: np.random.Generator) -> str:
    items = [{'query': query} for query in queries]
    return self._call('search', 'search', {'queries': items}, rng)

  def _access(self, urls: Sequence[str], rng: np.random.Generator) -> str:
    items = [{'url': url} for url in urls]
    return self._call('open', 'access', {'urls': items}, rng)

  def _call(
    self, thought: str, name: str, arguments: dict, rng: np.random.Generator
  ) -> str:
    call = json.dumps(
      {'name': name, 'arguments': arguments}, ensure_ascii=False
    )
    if rng.random() < self.flaws.broken_json:
      call = call[:-2]
    return _say(thought, f'<tool_call>\n{call}\n</tool_call>')

  def _table(
    self,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    rng: np.random.Generator,
  ) -> str:
    if len(rows) > 1 and rng.random() < self.flaws.drop_row:
      rows = rows[:-1]
    lines = [_row(columns), '|---' * len(columns) + '|']
    text = '\n'.join(lines + [_row(row) for row in rows])
    if rng.random() >= self.flaws.no_fence:
      text = f'```markdown\n{text}\n```'
    return _say('table', text)


def _say(thought: str, text: str) -> str:
  return f'<think>\n{thought}\n</think>\n\n{text}'


def _row(cells: Sequence[str]) -> str:
  return '| ' + ' | '.join(cells) + ' |'


def _subtasks(prompts: Sequence[str]) -> dict:
  return {'sub_agents': [{'prompt': prompt} for prompt in prompts]}


def _wide_parts(question: str) -> tuple[str, list[str]]:
  found = _WIDE.search(question)
  if found is None:
    raise ValueError(f'the expert cannot read the question {question!r}')
  return found[1], found[2].split(', ')


def _replies(messages: Messages) -> list[str]:
  """The tool messages, in order."""
  return [text for role, text in messages[2:] if role == 'user']


def _names(text: str) -> list[str]:
  found = re.search(r'Names: (.+)', text)
  return found[1].strip().split('; ') if found else []


def _value(text: str) -> str:
  found = re.search(r'Value: (.+)', text)
  return found[1].strip() if found else ''


def _first_urls(text: str) -> list[str]:
  """The first hit of each query in a search result."""
  return [
    hit[1] for part in text.split('# Query: ')[1:] if (hit := _HIT.search(part))
  ]


def _attributes(text: str, kind: str) -> dict[str, dict[str, str]]:
  """Entity name → its attributes, from the pages of an access result."""
  pages, page = {}, {}
  for line in text.splitlines():
    name, _, value = line.removeprefix('- ').partition(': ')
    if name == kind:
      page = pages.setdefault(value, {})
    elif value:
      page[name] = value
  return pages
