"""Questions about the facts as records that any source of facts can answer.

`draws` makes an endless, addressed stream of such records; `question` says one
in words, fixing units, rounding and time so that one answer is right;
`wide_answer` and `deep_answer` answer it from whatever facts they are given,
the world's or a second source's (`second`).

Wide: {type, where: [[attribute, value] …], bound: [attribute, above or below,
number], top: [attribute, largest or smallest, count], columns: [attribute …]};
bound and top may be []. Deep: {start: [type, name], path: [[attribute, type]
…], wanted}.
"""

import collections
import dataclasses
import decimal
import random
from collections.abc import Iterator, Mapping
from typing import Any

from wideseek_jax import types
from wideseek_jax.tasks.facts import second, world

_VERBS = ('List', 'Find', 'Make a table of', 'I need a table of')
_NUMBERS = {
  ('airport', 'elevation ft'),
  ('city', 'latitude'),
  ('city', 'longitude'),
  ('city', 'population'),
  ('country', 'area km2'),
  ('country', 'population'),
  ('isotope', 'mass u'),
}
# How a column's numbers may be rounded: the unit, its decimals, in words.
_ROUNDED = {
  'elevation ft': (100, 0, 'in hundreds of feet, rounded to whole numbers'),
  'latitude': (1, 0, 'rounded to whole degrees'),
  'longitude': (1, 0, 'rounded to whole degrees'),
  'population': (10**6, 1, 'in millions, rounded to one decimal'),
  'area km2': (1000, 0, 'in thousands of km2, rounded to whole numbers'),
  'mass u': (1, 1, 'rounded to one decimal'),
}
_MAX_COLUMNS = 5  # Beside the key.
_MIN_ROWS, _MAX_ROWS = 3, 50
# Rows of a table that is cut: the paper's range.
_TOP_ROWS = (10, 50)

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Index:
  """Facts of one source, ready to be asked.

  Attributes:
    facts: attributes by (type, name).
    fallback: told of an attribute that this source knows of no thing of the
      type: conditions go by it, columns stay empty.
  """

  facts: second.Facts
  fallback: second.Facts

  def __post_init__(self):
    names = collections.defaultdict(list)
    known = collections.defaultdict(set)
    for (kind, name), attributes in self.facts.items():
      names[kind].append(name)
      known[kind] |= attributes.keys()
    members = collections.defaultdict(list)
    for (kind, name), attributes in self.fallback.items():
      for attribute, value in attributes.items():
        if attribute in known[kind]:
          value = self.facts.get((kind, name), {}).get(attribute)
        elif (kind, name) not in self.facts:
          continue
        if value is not None:
          members[kind, attribute, value].append(name)
    object.__setattr__(self, 'known', dict(known))
    object.__setattr__(self, 'members', dict(members))

  def value(self, kind: str, name: str, attribute: str) -> str:
    """An attribute, '' if it is not known."""
    return self.facts.get((kind, name), {}).get(attribute, '')


def wide_draws(
  facts: world.FactsWorld, index: Index, split: world.Split, seed: int
) -> Iterator[dict[str, Any]]:
  """Wide records of a split without end; they may repeat.

  Groups take turns, in a new order each round; a group whose things belong to
  several splits is asked about in none. Only what the index knows of a type is
  asked for; of a type that it does not know, anything, in the first round.
  """
  rng = random.Random(f'{seed} wide {split}')
  found = [
    group
    for group in world.groups(facts)
    if {world.entity_split(group.type, m) for m in group.members} == {split}
  ]
  while found:
    for group in rng.sample(found, len(found)):
      yield _draw_wide(group, index.known.get(group.type.name), rng)
    found = [group for group in found if group.type.name in index.known]


def deep_draws(
  facts: world.FactsWorld, split: world.Split, seed: int
) -> Iterator[dict[str, Any]]:
  """Deep records of a split, each once, in random order."""
  kinds = {kind.name: kind for kind in facts.types}
  things = world.by_name(facts)
  links = collections.defaultdict(list)
  for link in facts.links:
    links[link.source].append(link)

  def inside(entity: world.Entity | None) -> bool:
    return (
      entity is not None
      and world.entity_split(kinds[entity.type], entity) == split
    )

  found = []
  for entity in facts.entities:
    if not inside(entity):
      continue
    for link in links[entity.type]:
      middle = things.get((link.target, entity.attributes.get(link.attribute)))
      if not inside(middle):
        continue
      path = [[link.attribute, link.target]]
      found += [
        (entity, path, wanted)
        for wanted in middle.attributes
        if wanted != link.attribute
      ]
  random.Random(f'{seed} deep {split}').shuffle(found)
  for entity, path, wanted in found:
    start = [entity.type, entity.name]
    yield {'start': start, 'path': path, 'wanted': wanted}


def refine(record: Record, index: Index) -> tuple[dict[str, Any], str]:
  """Makes a wide record's answer unique, if that can be.

  A cut between equal values is moved to where values differ.

  Returns:
    (the record, ''), or (it, the reason why it cannot be asked).
  """
  record = dict(record)
  names = _members(record, index)
  if record['top']:
    attribute, direction, count = record['top']
    order = _ordered(record, index, names)
    values = [index.value(record['type'], n, attribute) for n in order]
    while 0 < count < len(order) and values[count - 1] == values[count]:
      count -= 1
    record['top'] = [attribute, direction, count]
    names = order[:count]
  if len(names) < _MIN_ROWS:
    return record, f'fewer than {_MIN_ROWS} rows'
  if len(names) > _MAX_ROWS:
    return record, f'more than {_MAX_ROWS} rows'
  for column in record['columns']:
    if not all(index.value(record['type'], n, column) for n in names):
      return record, 'a cell is not known'
  return record, ''


def wide_answer(record: Record, index: Index) -> types.Table:
  """The table that a source gives, in the order of its names or of `top`."""
  names = _members(record, index)
  if record['top']:
    names = _ordered(record, index, names)[: record['top'][2]]
  kind = record['type']

  def cell(name: str, column: str) -> str:
    value = index.value(kind, name, column)
    return _round(value, column) if column in record['rounded'] else value

  rows = tuple(
    (name, *(cell(name, column) for column in record['columns']))
    for name in names
  )
  return types.Table((kind, *record['columns']), rows)


def wide_evidence(record: Record, index: Index) -> list[str]:
  """The texts of pages that an answer is made from."""
  raw = wide_answer({**record, 'rounded': []}, index)
  return [cell for row in raw.rows for cell in row]


def deep_answer(record: Record, index: Index) -> str:
  """The short answer that a source gives, '' if it gives none."""
  kind, name = record['start']
  for attribute, target in record['path']:
    name, kind = index.value(kind, name, attribute), target
  return index.value(kind, name, record['wanted'])


def entities(record: Record, index: Index) -> list[list[str]]:
  """The [type, name] of all things whose facts the answer tells."""
  if 'start' not in record:
    kind = record['type']
    return [[kind, row[0]] for row in wide_answer(record, index).rows]
  kind, name = record['start']
  found = [[kind, name]]
  for attribute, target in record['path']:
    name, kind = index.value(kind, name, attribute), target
    found.append([kind, name])
  return found


def unknown(record: Record, index: Index) -> str:
  """An attribute that the source knows of no such thing, '' if none."""
  if 'start' in record:
    kind = record['start'][0]
    for attribute, target in record['path']:
      if attribute not in index.known.get(kind, ()):
        return f'{kind}, {attribute}'
      kind = target
    wanted = [record['wanted']]
  else:
    kind = record['type']
    wanted = [*record['columns'], *record['bound'][:1], *record['top'][:1]]
  for attribute in wanted:
    if attribute not in index.known.get(kind, ()):
      return f'{kind}, {attribute}'
  return ''


def question(record: Record, plural: str = '') -> tuple[str, str]:
  """A record in words.

  Args:
    record: wide or deep.
    plural: of a wide record's type.

  Returns:
    (the intent in one sentence, the question).
  """
  if 'start' in record:
    kind, name = record['start']
    steps = [attribute for attribute, _ in record['path']]
    way = ' of the '.join([record['wanted'], *reversed(steps)])
    return (
      f'Find out the {way} that belongs to {name}.',
      f'What is the {way} of the {kind} {name}?',
    )
  kind, columns = record['type'], record['columns']
  where = ' and '.join(f'{a} {v}' for a, v in record['where'])
  which = f'with {where}'
  if record['bound']:
    attribute, direction, value = record['bound']
    which += f' and {attribute} {direction} {value}'
  if record['top']:
    attribute, direction, count = record['top']
    head = f'{record["verb"]} the {count} {plural} {which} that have the '
    head += f'{direction} {attribute}.'
  else:
    head = f'{record["verb"]} every {kind} {which}.'
  parts = [head, f'Columns: {", ".join([kind, *columns])}.']
  for column in columns:
    if column in record['rounded']:
      parts.append(f'Give {column} {_ROUNDED[column][2]}.')
  if 'population' in columns:
    parts.append('Take the latest population that the pages give.')
  return f'Compare {plural} {which} by {", ".join(columns)}.', ' '.join(parts)


def _draw_wide(
  group: world.Group, told: set[str] | None, rng: random.Random
) -> dict[str, Any]:
  kind = group.type
  asked = [a for a in kind.attributes if told is None or a in told]
  numbers = [a for a in asked if (kind.name, a) in _NUMBERS]
  held = {a for member in group.members for a in member.attributes}
  # A group that the second source knows nothing of is rejected later.
  known = [a for a in asked if a != group.attribute and a in held] or [
    a for a in kind.attributes if a != group.attribute
  ]
  columns = rng.sample(known, rng.randint(1, min(_MAX_COLUMNS, len(known))))
  record = {
    'type': kind.name,
    'verb': rng.choice(_VERBS),
    'where': [[group.attribute, group.value]],
    'bound': [],
    'top': [],
    'columns': columns,
    'rounded': [
      a for a in columns if (kind.name, a) in _NUMBERS and rng.random() < 0.5
    ],
  }
  form = rng.choice(('all', 'all', 'bound', 'top', 'both'))
  values = {
    a: [m.attributes[a] for m in group.members if a in m.attributes]
    for a in numbers
  }
  if form == 'both':
    more = [a for a in kind.group_by if a in known and a not in columns]
    pairs = [
      [a, m.attributes[a]]
      for m in group.members
      for a in more
      if a in m.attributes
    ]
    if pairs:
      record['where'].append(rng.choice(pairs))
  elif numbers and form != 'all':
    a = rng.choice(numbers)
    if form == 'bound' and values[a]:
      limit = _round_limit(decimal.Decimal(rng.choice(values[a])))
      record['bound'] = [a, rng.choice(('above', 'below')), str(limit)]
    elif form == 'top' and len(group.members) > _TOP_ROWS[0]:
      most = min(_TOP_ROWS[1], len(group.members) - 1)
      count = rng.randint(_TOP_ROWS[0], most)
      record['top'] = [a, rng.choice(('largest', 'smallest')), count]
  return record


def _members(record: Record, index: Index) -> list[str]:
  kind = record['type']
  (attribute, value), *others = record['where']
  names = index.members.get((kind, attribute, value), [])
  for attribute, value in others:
    inside = set(index.members.get((kind, attribute, value), ()))
    names = [name for name in names if name in inside]
  if record['bound']:
    attribute, direction, text = record['bound']
    limit, sign = decimal.Decimal(text), 1 if direction == 'above' else -1
    names = [
      name
      for name in names
      if (number := _number(index.value(kind, name, attribute))) is not None
      and (number - limit) * sign > 0
    ]
  return names


def _ordered(record: Record, index: Index, names: list[str]) -> list[str]:
  attribute, direction, _ = record['top']
  sign = -1 if direction == 'largest' else 1
  keyed = [
    (number * sign, name)
    for name in names
    if (number := _number(index.value(record['type'], name, attribute)))
    is not None
  ]
  return [name for _, name in sorted(keyed)]


def _number(text: str) -> decimal.Decimal | None:
  try:
    return decimal.Decimal(text)
  except decimal.InvalidOperation:
    return None


def _round(cell: str, column: str) -> str:
  number = _number(cell)
  if number is None:
    return cell
  unit, decimals, _ = _ROUNDED[column]
  # Half up, as people round; never -0.
  step = decimal.Decimal(1).scaleb(-decimals)
  found = (number / unit).quantize(step, decimal.ROUND_HALF_UP)
  return str(found if found else abs(found))


def _round_limit(number: decimal.Decimal) -> decimal.Decimal:
  """One significant digit, two if that is all there is."""
  if not number:
    return decimal.Decimal(0)
  digits = number.adjusted()
  step = decimal.Decimal(1).scaleb(digits if digits > 0 else 0)
  return (number / step).to_integral_value() * step + 0
