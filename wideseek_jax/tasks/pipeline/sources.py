"""What data sets are made from: the facts, HybridQA, or a file of topics.

In comes the name of a source, with a judge or without; out go the back end that
draws from it, and the pages that its answers stand on. With a judge the source
gives topics only, and the model writes and answers (`model`); without one it
must be able to answer twice by itself (`offline`, `hybrid`).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wideseek_jax import types
from wideseek_jax.tasks import facts, hybridqa, lines
from wideseek_jax.tasks.facts import forms, second, world
from wideseek_jax.tasks.pipeline import hybrid, items, model, offline, stages
from wideseek_jax.tools import corpus

# Items drawn for a task, where a model writes and answers: the authors kept 73
# of 100.
_MODEL_OVERSAMPLE = 1.5


@dataclasses.dataclass(frozen=True)
class Source:
  """A source that is ready to be drawn from.

  Attributes:
    back_end: draws, asks, answers, compares.
    pages: where the answers stand; None if there is nothing to search.
    origin: what else decides on the items: a fingerprint, a path.
    problems: what of the source could not be read.
  """

  back_end: items.BackEnd
  pages: corpus.Corpus | None
  origin: str
  problems: tuple[str, ...] = ()


def open_source(
  name: str,
  wanted: Mapping[tuple[str, str], int],
  *,
  seed: int = 0,
  oversample: float = 1.0,
  hybridqa_folder: str = '',
  judge: types.Judge | None = None,
) -> Source:
  """Opens a source.

  Args:
    name: 'facts', 'hybridqa', or a file with one JSON object a line: the text
      of a topic under `text`, `intent`, `question` or `query`.
    wanted: how many tasks of each (split, kind) are to come out.
    seed: decides what is drawn.
    oversample: factor of the items that are drawn.
    hybridqa_folder: has tables_tok, request_tok and, maybe, train.json and
      dev.json.
    judge: writes and answers instead of the source.

  Raises:
    FileNotFoundError: there is no such file or folder.
    ValueError: a file of topics without a judge.
  """
  model_draws = {
    place: round(count * _MODEL_OVERSAMPLE * oversample)
    for place, count in wanted.items()
  }
  if name == 'facts':
    found = _facts(wanted, model_draws, seed, oversample, judge)
  elif name == 'hybridqa':
    found = _hybridqa(hybridqa_folder, wanted, seed, judge)
  elif judge is None:
    raise ValueError(
      f'{name}: topics of a file need a model that writes and answers; set '
      f'--config.judge.base_url and --config.judge.model'
    )
  else:
    topics, problems = lines.read(name, _topic, key=lambda topic: topic)
    draw = functools.partial(_topic_items, topics, model_draws)
    found = Source(_Topics(draw), None, name, tuple(problems))
  if judge is None:
    return found
  back_end = model.ModelBackEnd(judge, found.back_end.seeds, seed)
  return dataclasses.replace(found, back_end=back_end)


def _facts(
  wanted: Mapping[tuple[str, str], int],
  model_draws: Mapping[tuple[str, str], int],
  seed: int,
  oversample: float,
  judge: types.Judge | None,
) -> Source:
  known = facts.build_world()
  draws = {
    place: round(count * offline.OVERSAMPLE[place[1]] * oversample)
    for place, count in wanted.items()
  }
  told = second.second_facts(known)
  draws = draws if judge is None else model_draws
  back_end = offline.FactsBackEnd(known, told, draws, seed)
  plurals = {kind.name: kind.plural for kind in known.types}

  def topics() -> Iterator[items.Item]:
    for item in back_end.seeds():
      plural = plurals.get(item.seed.get('type', ''), '')
      yield _about(item, forms.question(item.seed, plural)[0])

  return Source(
    back_end if judge is None else _Topics(topics),
    facts.build_corpus(known),
    known.fingerprint,
  )


def _hybridqa(
  folder: str,
  wanted: Mapping[tuple[str, str], int],
  seed: int,
  judge: types.Judge | None,
) -> Source:
  if not folder:
    raise ValueError('name the folder of the data with --hybridqa_folder')
  tables, problems = hybridqa.read_tables(folder)
  questions: list[types.Task] = []
  for split in ('train', 'dev'):
    path = pathlib.Path(folder) / f'{split}.json'
    if path.exists():
      found, more = hybridqa.read_questions(path)
      questions += found
      problems += more
  # All of them may be needed.
  draws = dict.fromkeys(wanted, 10**9)
  back_end = hybrid.HybridBackEnd(tables, questions, draws, seed)
  by_uid = {linked.uid: linked for linked in tables}

  def topics() -> Iterator[items.Item]:
    for item in back_end.seeds():
      linked = by_uid.get(item.seed['table'])
      if linked is not None:
        shown = [linked.table.columns, *linked.table.rows[:3]]
        text = '\n'.join(
          [linked.title, linked.section, *map(' | '.join, shown)]
        )
        yield _about(item, text)

  return Source(
    back_end if judge is None else _Topics(topics),
    hybridqa.build_corpus(tables),
    folder,
    tuple(problems),
  )


@dataclasses.dataclass(frozen=True)
class _Topics:
  """Seeds of topics; a model does the rest."""

  seeds: Callable[[], Iterator[items.Item]]


def _about(item: items.Item, text: str) -> items.Item:
  return dataclasses.replace(item, seed={'text': text})


def _topic(record: dict[str, Any], number: int) -> str:
  del number
  for name in ('text', 'intent', 'question', 'query'):
    if name in record:
      return lines.field(record, name, str)
  raise ValueError('no field text, intent, question or query')


def _topic_items(
  topics: list[str], quotas: Mapping[tuple[str, str], int]
) -> Iterator[items.Item]:
  """Topics take turns to be wide and deep; their texts decide on the split."""
  left = dict(quotas)
  for number, text in enumerate(topics):
    split = world.split_of_value(text)
    kinds = stages.KINDS[number % 2], stages.KINDS[1 - number % 2]
    kind = next((k for k in kinds if left.get((split, k))), None)
    if kind:
      left[split, kind] -= 1
      yield items.Item(f'{split}-{kind}-{number}', kind, split, {'text': text})
