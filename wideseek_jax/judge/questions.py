"""What a judge is asked, and what its reply says.

In come texts of anybody; out go prompts, and from a reply the numbers that it
gives, if any. The wording is data: texts/<name>_<language>.txt, in which
{data} stands for the texts as JSON.

Policies write the texts that decide on their reward. So a text is cut to a
length, it can neither close its place in the prompt nor spell a chat marker
(`<` is written as \\u003c), and the prompts say that it gives no orders.
"""

import functools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Of a cell, a name or an answer; a page has a length of its own.
MAX_CHARS = 400

_TEXTS = pathlib.Path(__file__).parent / 'texts'
_OBJECT = re.compile(r'\{[^{}]*\}')
_ENTRY = re.compile(r'\s*["\']?(\d{1,6})["\']?\s*:\s*["\']?(\w{1,6})["\']?')
_WORDS = {'true': 1, 'yes': 1, 'false': 0, 'no': 0, 'null': 0, 'none': 0}


def cells(column: str, pairs: Sequence[tuple[str, str]], language: str) -> str:
  """Asks whether cells of a column mean the same.

  Args:
    column: its name.
    pairs: (what was answered, what is right).
    language: 'en' or 'zh'.

  Returns:
    A prompt; `read` of its reply gives 1 or 0 by the place of the pair.
  """
  rows = [
    {'id': i, 'answer': answer, 'gold': gold}
    for i, (answer, gold) in enumerate(pairs, 1)
  ]
  return _prompt('cells', language, {'column': column, 'pairs': rows})


def names(written: Sequence[str], gold: Sequence[str], language: str) -> str:
  """Asks which of some names mean which of the right ones.

  Returns:
    A prompt; `read` of its reply gives by the place of a written name the
    place of a right one counted from 1, or 0.
  """
  lists = {
    key: [{'id': i, 'name': name} for i, name in enumerate(values, 1)]
    for key, values in (('names', written), ('gold', gold))
  }
  return _prompt('names', language, lists)


def answer(
  question: str, written: str, gold: Sequence[str], language: str
) -> str:
  """Asks whether an answer is one of those that are accepted.

  Returns:
    A prompt; `read` of its reply gives 1 or 0 for place 0.
  """
  texts = {'question': question, 'answer': written, 'gold': list(gold)}
  return _prompt('answer', language, texts)


def summary(
  wanted: str, title: str, contents: str, language: str, max_chars: int
) -> str:
  """Asks what a page says about what is wanted; the reply is the report."""
  page = {'title': title, 'contents': contents[:max_chars]}
  data = {'wanted': wanted, 'page': page}
  return _prompt('summary', language, data, max_chars)


def read(reply: str, count: int, largest: int = 1) -> dict[int, int]:
  """The numbers that a reply gives for the ids 1 to `count`.

  They stand in the last {…} of the reply; true is 1, false and null are 0. An
  object that holds anything else, say a text quoted from the question, tells
  nothing. Ids that are missing, unknown or contradictory, and numbers above
  `largest`, are left out: they are undecided.

  Args:
    reply: anything, without the model's thought.
    count: how many ids were asked for.
    largest: the largest number that is an answer.

  Returns:
    Numbers by id - 1.
  """
  found: dict[int, set[int]] = {}
  objects = _OBJECT.findall(reply)
  entries = objects[-1][1:-1].split(',') if objects else []
  for entry in entries:
    match = _ENTRY.fullmatch(entry.strip())
    if match is None:
      if entry.strip():
        return {}
      continue
    word = match[2].lower()
    value = _WORDS.get(word, int(word) if word.isdecimal() else -1)
    found.setdefault(int(match[1]) - 1, set()).add(value)
  return {
    i: value
    for i, (value, *others) in found.items()
    if not others and 0 <= i < count and 0 <= value <= largest
  }


def _prompt(
  name: str, language: str, data: Mapping[str, Any], max_chars: int = MAX_CHARS
) -> str:
  shown = json.dumps(_cut(data, max_chars), ensure_ascii=False)
  # Half a surrogate pair has no UTF-8 form.
  shown = shown.encode('utf-8', 'replace').decode('utf-8')
  template = _template(name, 'zh' if language == 'zh' else 'en')
  return template.replace('{data}', shown.replace('<', '\\u003c'))


def _cut(value: Any, max_chars: int) -> Any:
  """A copy with every text cut to a length."""
  if isinstance(value, str):
    return value if len(value) <= max_chars else value[:max_chars] + '…'
  if isinstance(value, Mapping):
    return {key: _cut(item, max_chars) for key, item in value.items()}
  if isinstance(value, list):
    return [_cut(item, max_chars) for item in value]
  return value


@functools.cache
def _template(name: str, language: str) -> str:
  path = _TEXTS / f'{name}_{language}.txt'
  return path.read_text(encoding='utf-8').strip()
