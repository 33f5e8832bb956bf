"""Facts as records: types of entities, entities, links, splits and groups.

`sources` (facts inside packages) and `synthetic` (random strings) hand in rows
of text; `make_world` cleans them, makes names unique and returns a frozen
`FactsWorld` with a fingerprint. `pages` writes it out as a corpus and
`questions` asks about it, so both see the very same text.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

Split = Literal['train', 'validation', 'test']
SPLITS = ('train', 'validation', 'test')

MAX_TEXT = 40  # Characters of a name or value.
MAX_ATTRIBUTES = 6
MIN_GROUP = 3
MAX_GROUP = 60  # A larger group has no list page, so nobody could find it.

# Cells of a Markdown table, joined lists and JSON strings must survive.
_FORBIDDEN = frozenset('|;"\\{}')
_REPLACED = str.maketrans({'`': "'", '*': None})

# Which part of the values of a `split_by` attribute goes where: 70/10/20. With
# few values (22 subregions) chance may be far off; this salt, one of the first
# that were tried, brings every real type near to these shares.
_SPLIT_SALT = b'39'
_TRAIN_SHARE = 0.7
_VALIDATION_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class EntityType:
  """A kind of thing.

  Attributes:
    name: singular, lower case; also the key column of a table.
    plural: as list pages say it.
    attributes: lower-case column names, at most 6.
    group_by: the attributes by which 'every X with A V' is asked.
    split: where all entities belong, or 'shared': each goes where the hash of
      its `split_by` value sends it.
    split_by: an attribute, '' unless split is 'shared'.
  """

  name: str
  plural: str
  attributes: tuple[str, ...]
  group_by: tuple[str, ...]
  split: Literal['train', 'validation', 'test', 'shared']
  split_by: str = ''

  def __post_init__(self):
    if len(self.attributes) > MAX_ATTRIBUTES:
      raise ValueError(
        f'type {self.name!r} has {len(self.attributes)} attributes; at most '
        f'{MAX_ATTRIBUTES} fit a page'
      )
    columns = {self.name, *self.attributes}
    if len(columns) != len(self.attributes) + 1:
      raise ValueError(f'type {self.name!r} has two columns of one name')
    unknown = {*self.group_by, *filter(None, [self.split_by])} - columns
    if unknown:
      raise ValueError(
        f'type {self.name!r} groups or splits by {sorted(unknown)}, which are '
        f'not among its attributes'
      )
    if (self.split == 'shared') != bool(self.split_by):
      raise ValueError(
        f"type {self.name!r}: give split_by with split 'shared' and only then"
      )


@dataclasses.dataclass(frozen=True)
class Entity:
  """A thing with its facts; every value is clean text, none is ''."""

  type: str
  name: str
  attributes: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Link:
  """Values of `attribute` of `source` are names of entities of `target`."""

  source: str
  attribute: str
  target: str


@dataclasses.dataclass(frozen=True)
class Group:
  """All entities of a type that share one attribute's value, in world order."""

  type: EntityType
  attribute: str
  value: str
  members: tuple[Entity, ...]


@dataclasses.dataclass(frozen=True)
class FactsWorld:
  """A closed world of facts.

  Attributes:
    types: in a fixed order.
    entities: ordered by type, then as the source orders them; names are
      unique within a type.
    links: where a second hop may start.
    dropped: how many names and values were left out, by 'type: reason'.
    fingerprint: sha256 (hex) of all of the above but `dropped`.
  """

  types: tuple[EntityType, ...]
  entities: tuple[Entity, ...]
  links: tuple[Link, ...]
  dropped: Mapping[str, int]
  fingerprint: str


@dataclasses.dataclass(frozen=True)
class Source:
  """Raw facts of one type.

  Attributes:
    type: what they are facts of.
    rows: name and raw attributes, most important first; an empty value or
      None means that the fact is not known.
    distinguish_by: where two names are equal, this attribute's value is added
      to both in brackets; '' leaves the first and drops the others.
  """

  type: EntityType
  rows: Sequence[tuple[str, Mapping[str, object]]]
  distinguish_by: str = ''


@functools.lru_cache(maxsize=1 << 16)
def clean_text(text: str) -> str:
  """NFC text on one line with single spaces, or '' if it cannot be used.

  Text is unusable if it is longer than 40 characters or holds a character
  that tables, lists or answer boxes need for themselves.
  """
  plain = unicodedata.normalize('NFC', text).translate(_REPLACED)
  if not (plain.isascii() and plain.isprintable()):
    # Controls, format characters and foreign spaces become plain spaces.
    plain = ''.join(
      ' ' if unicodedata.category(char)[0] in 'CZ' else char for char in plain
    )
  clean = ' '.join(plain.split())
  if len(clean) > MAX_TEXT or not _FORBIDDEN.isdisjoint(clean):
    return ''
  return clean


def name_key(name: str) -> str:
  """What two names must differ in: scorers ignore case and spaces."""
  return ''.join(name.casefold().split())


@functools.lru_cache(maxsize=1 << 16)
def split_of_value(value: str) -> Split:
  """Where the hash of a `split_by` value sends an entity."""
  digest = hashlib.blake2b(value.encode(), digest_size=8, salt=_SPLIT_SALT)
  share = int.from_bytes(digest.digest(), 'big') / 2**64
  if share < _TRAIN_SHARE:
    return 'train'
  if share < _TRAIN_SHARE + _VALIDATION_SHARE:
    return 'validation'
  return 'test'


def entity_split(entity_type: EntityType, entity: Entity) -> Split:
  """The one split whose gold answers may tell of this entity.

  An entity of a shared type without a `split_by` value goes by its name.
  """
  if entity_type.split != 'shared':
    return entity_type.split
  return split_of_value(
    entity.attributes.get(entity_type.split_by, entity.name)
  )


def by_name(world: FactsWorld) -> dict[tuple[str, str], Entity]:
  """Entities by (type, name)."""
  return {(entity.type, entity.name): entity for entity in world.entities}


def groups(world: FactsWorld) -> Iterator[Group]:
  """Every group of 3 to 60 entities, by type, attribute and first member."""
  by_type = collections.defaultdict(list)
  for entity in world.entities:
    by_type[entity.type].append(entity)
  for entity_type in world.types:
    for attribute in entity_type.group_by:
      members = collections.defaultdict(list)
      for entity in by_type[entity_type.name]:
        if attribute in entity.attributes:
          members[entity.attributes[attribute]].append(entity)
      for value, found in members.items():
        if MIN_GROUP <= len(found) <= MAX_GROUP:
          yield Group(entity_type, attribute, value, tuple(found))


def make_world(sources: Sequence[Source], links: Iterable[Link]) -> FactsWorld:
  """Cleans raw facts into a world.

  Args:
    sources: one for each type, in the order of the world.
    links: both ends must be types of the sources, the attribute its type's.

  Raises:
    ValueError: two sources of one type, or a link to nowhere.
  """
  types = {source.type.name: source.type for source in sources}
  if len(types) != len(sources):
    raise ValueError('two sources give entities of one type')
  links = tuple(links)
  for link in links:
    if (
      link.target not in types
      or link.attribute not in types[link.source].attributes
    ):
      raise ValueError(f'{link} does not lead from one type to another')
  dropped: collections.Counter[str] = collections.Counter()
  entities = tuple(
    entity for source in sources for entity in _entities(source, dropped)
  )
  return FactsWorld(
    types=tuple(types.values()),
    entities=entities,
    links=links,
    dropped=dict(dropped),
    fingerprint=_fingerprint(types.values(), entities, links),
  )


def _entities(
  source: Source, dropped: collections.Counter[str]
) -> Iterator[Entity]:
  kind = source.type.name
  cleaned = []
  for raw_name, raw_attributes in source.rows:
    name = clean_text(raw_name)
    if not name:
      dropped[f'{kind}: name'] += 1
      continue
    attributes = {}
    for attribute in source.type.attributes:
      raw = raw_attributes.get(attribute)
      if raw is None or raw == '':
        continue
      value = clean_text(str(raw))
      if value:
        attributes[attribute] = value
      else:
        dropped[f'{kind}: {attribute}'] += 1
    cleaned.append((name, attributes))
  count = collections.Counter(name_key(name) for name, _ in cleaned)
  seen = set()
  for name, attributes in cleaned:
    if source.distinguish_by in attributes and count[name_key(name)] > 1:
      name = clean_text(f'{name} ({attributes[source.distinguish_by]})')
    if not name or not attributes or name_key(name) in seen:
      dropped[f'{kind}: same name'] += 1
      continue
    seen.add(name_key(name))
    yield Entity(kind, name, attributes)


def _fingerprint(
  types: Iterable[EntityType],
  entities: Iterable[Entity],
  links: Iterable[Link],
) -> str:
  digest = hashlib.sha256()
  for record in (*types, *links):
    fields = json.dumps(dataclasses.astuple(record), ensure_ascii=False)
    digest.update(fields.encode() + b'\n')
  for entity in entities:
    # Not astuple: it deep-copies, which is slow for many entities.
    fields = json.dumps(
      [entity.type, entity.name, *entity.attributes.items()],
      ensure_ascii=False,
    )
    digest.update(fields.encode() + b'\n')
  return digest.hexdigest()
