"""Questions about a world of facts, with gold answers read off its records.

Wide: 'List every airport with country Peru. Columns: airport, city.', whose
gold table is the group's entities. Deep: 'What is the capital of the country
of the airport Jorge Chavez?', whose answer is two pages away.

Splits. An entity has one split (`world.entity_split`). A wide task belongs to
a split if all entities of its group do; a deep task if both its entities do:
others are asked in no split. So no fact that answers a test question answers
a training question, and a type kept for a split appears in no other one.
"""

import hashlib
import itertools
import random
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Literal

from wideseek_jax import types
from wideseek_jax.tasks.facts import world as facts_world

_VERBS = ('List', 'Find', 'Make a table of', 'I need a table of')


def build_tasks(
  world: facts_world.FactsWorld,
  split: facts_world.Split,
  kind: Literal['wide', 'deep'],
  num: int | None = None,
  seed: int = 0,
  min_rows: int = 3,
  max_rows: int = 40,
  min_columns: int = 2,
  max_columns: int = 4,
) -> list[types.Task]:
  """Draws tasks without repetition.

  The first tasks are about different groups (wide) or different answers
  (deep); only then does one come up again with other columns or another way
  to it.

  Args:
    world: whom to ask about.
    split: 'train', 'validation' or 'test'.
    kind: 'wide' or 'deep'.
    num: how many tasks; None gives all.
    seed: decides which tasks, their order, their wording and their columns'
      order; the same arguments give the same tasks.
    min_rows: rows of a wide gold table at least.
    max_rows: and at most.
    min_columns: columns of a wide gold table at least, the key included.
    max_columns: and at most.

  Raises:
    ValueError: unknown split or kind, or fewer than `num` tasks exist.
  """
  if split not in facts_world.SPLITS:
    raise ValueError(f'split {split!r}: choose of {facts_world.SPLITS}')
  if kind not in ('wide', 'deep'):
    raise ValueError(f"kind {kind!r}: choose 'wide' or 'deep'")
  rng = random.Random(f'{seed} {split} {kind}')
  if kind == 'wide':
    found = _spread(
      _wide_candidates(
        world, split, (min_rows, max_rows), (min_columns, max_columns)
      ),
      # A group's rank in `groups` is unique; its fields are not hashable.
      key=lambda candidate: candidate[0],
      rng=rng,
    )
  else:
    found = _spread(
      _deep_candidates(world, split),
      key=lambda candidate: (
        (candidate[2].type, candidate[2].name, *candidate[3:])
      ),
      rng=rng,
    )
  if num is None:
    num = len(found)
  if num > len(found):
    raise ValueError(
      f'{num} {kind} {split} tasks asked for, {len(found)} exist; ask for '
      f'fewer, allow more rows and columns, or build a larger world'
    )
  build = _wide_task if kind == 'wide' else _deep_task
  return [build(*candidate, split, rng) for candidate in found[:num]]


def _spread(
  candidates: Iterable[tuple[Any, ...]],
  key: Callable[[tuple[Any, ...]], Hashable],
  rng: random.Random,
) -> list[tuple[Any, ...]]:
  """Shuffles so that no key comes up n + 1 times before all came up n."""
  shuffled = list(candidates)
  rng.shuffle(shuffled)
  times: dict[Hashable, int] = {}
  rounds = []
  for candidate in shuffled:
    times[key(candidate)] = times.get(key(candidate), 0) + 1
    rounds.append(times[key(candidate)])
  order = sorted(range(len(shuffled)), key=rounds.__getitem__)
  return [shuffled[i] for i in order]


def _wide_candidates(
  world: facts_world.FactsWorld,
  split: str,
  rows: tuple[int, int],
  columns: tuple[int, int],
) -> Iterator[tuple[int, facts_world.Group, tuple[str, ...]]]:
  """(rank of the group, group, attributes asked for)."""
  for rank, group in enumerate(facts_world.groups(world)):
    if not rows[0] <= len(group.members) <= rows[1]:
      continue
    members = group.members
    if {facts_world.entity_split(group.type, m) for m in members} != {split}:
      continue
    known = [
      attribute
      for attribute in group.type.attributes
      if attribute != group.attribute
      and all(attribute in member.attributes for member in members)
    ]
    for size in range(max(columns[0], 1) - 1, columns[1]):
      for attributes in itertools.combinations(known, size):
        yield rank, group, attributes


def _wide_task(
  rank: int,
  group: facts_world.Group,
  attributes: tuple[str, ...],
  split: str,
  rng: random.Random,
) -> types.Task:
  del rank
  key = group.type.name
  columns = (key, *rng.sample(attributes, len(attributes)))
  question = (
    f'{rng.choice(_VERBS)} every {key} with {group.attribute} {group.value}. '
    f'Columns: {", ".join(columns)}.'
  )
  rows = tuple(
    (member.name, *(member.attributes[column] for column in columns[1:]))
    for member in group.members
  )
  return types.Task(
    task_id=_task_id('wide', split, question),
    question=question,
    kind='wide',
    table=types.Table(columns, rows),
    unique_columns=(key,),
    metadata={
      'split': split,
      'entity_type': key,
      'unseen_type': group.type.split != 'shared',
      'group_attribute': group.attribute,
      'group_value': group.value,
      'num_rows': len(rows),
      'names': [member.name for member in group.members],
    },
  )


def _deep_candidates(
  world: facts_world.FactsWorld, split: str
) -> Iterator[tuple[facts_world.Entity, str, facts_world.Entity, str]]:
  """(entity, its attribute, the entity that it names, that one's attribute)."""
  kinds = {kind.name: kind for kind in world.types}
  entities = facts_world.by_name(world)
  links: dict[str, list[facts_world.Link]] = {}
  for link in world.links:
    links.setdefault(link.source, []).append(link)
  for entity in world.entities:
    if facts_world.entity_split(kinds[entity.type], entity) != split:
      continue
    for link in links.get(entity.type, ()):
      middle = entity.attributes.get(link.attribute)
      target = entities.get((link.target, middle))
      if target is None:
        continue
      if facts_world.entity_split(kinds[target.type], target) != split:
        continue
      for attribute, answer in target.attributes.items():
        if answer not in (entity.name, middle):
          yield entity, link.attribute, target, attribute


def _deep_task(
  entity: facts_world.Entity,
  first: str,
  target: facts_world.Entity,
  second: str,
  split: str,
  rng: random.Random,
) -> types.Task:
  del rng
  question = (
    f'What is the {second} of the {first} of the {entity.type} {entity.name}?'
  )
  return types.Task(
    task_id=_task_id('deep', split, question),
    question=question,
    kind='deep',
    answers=(target.attributes[second],),
    metadata={
      'split': split,
      'entity_type': entity.type,
      'hops': [
        [entity.name, entity.type, first],
        [target.name, target.type, second],
      ],
    },
  )


def _task_id(kind: str, split: str, question: str) -> str:
  digest = hashlib.blake2b(question.encode(), digest_size=8).hexdigest()
  return f'facts-{kind}-{split}-{digest}'
