"""Worlds of random strings: nothing in them can be known before it is read.

A small policy that is trained on many such worlds has to learn to search,
read and copy; names, values and even the words for types and attributes
differ from world to world.
"""

import random
from collections.abc import Callable, Sequence

from wideseek_jax.tasks.facts import world

_ALPHABETS = (
  # (how often, consonants, vowels)
  (12, 'bcdfghjklmnpqrstvwxz', 'aeiouy'),
  (2, 'bcdfghjklmnprstvzñçšžł', 'áéíóúäöüåâ'),
  (1, 'бвгджзклмнпрстфхц', 'аеиоуыэя'),
  (1, 'βγδζθκλμνξπρσφχ', 'αεηιουω'),
)
_LATIN = _ALPHABETS[0][1:]
_MAX_NAME = 32
# Names and labels made from pieces, where there are any.
_PIECED = 0.8

# Of ten types one is for validation only and two for test only.
_SPLITS = ('shared',) * 3 + ('test',) + ('shared',) * 2 + ('validation',)
_SPLITS += ('shared', 'test', 'shared')


def build_synthetic_world(
  seed: int,
  num_types: int,
  entities_per_type: int,
  pieces: Sequence[str] = (),
) -> world.FactsWorld:
  """A world of random types, attributes, names and values.

  Entities of a type lie in areas of 3 to 8, areas in realms of 1 to 4 areas;
  both are attributes to group by, and splits go by realm. Realms of a type
  are named after entities of the type before it, which gives second hops.
  Further attributes (2 to 4) are words, numbers, decimals, dates, codes or the
  entity's own name in part. The names of most types share words or beginnings,
  as those of cars, airports and days do: to copy one, two or three tokens of
  what came before must be told apart from those of its neighbours.

  Args:
    seed: decides everything.
    num_types: ≥ 1.
    entities_per_type: ≥ 3.
    pieces: if given, most words are put together from one or two of these,
      at random: the letters of a tokenizer's ids, say, so that each id has its
      turn in names and labels. All words are random letters otherwise.

  Raises:
    ValueError: a world of this size cannot be.
  """
  if num_types < 1 or entities_per_type < world.MIN_GROUP:
    raise ValueError(
      f'{num_types} types of {entities_per_type} entities: ask for 1 type '
      f'and {world.MIN_GROUP} entities at least'
    )
  rng = random.Random(f'synthetic {seed}')
  words = _distinct(lambda: _label(rng, pieces), num_types * 8)
  names_before: list[str] = []
  sources, links = [], []
  for number in range(num_types):
    name = words.pop()
    area, realm = words.pop(), words.pop()
    others = [words.pop() for _ in range(rng.randint(2, 4))]
    split = _SPLITS[number % len(_SPLITS)]
    kind = world.EntityType(
      name=name,
      plural=name + 's',
      attributes=tuple(rng.sample([area, realm, *others], len(others) + 2)),
      group_by=(area, realm),
      split=split,
      split_by=realm if split == 'shared' else '',
    )
    names = _distinct(
      _name_maker(rng, pieces, entities_per_type), entities_per_type
    )
    places = _places(rng, pieces, entities_per_type, names_before)
    makers = [_value_maker(rng, pieces) for _ in others]
    rows = []
    for entity, place in zip(names, places, strict=True):
      facts = dict(zip((area, realm), place, strict=True))
      facts |= {
        attribute: make(entity)
        for attribute, make in zip(others, makers, strict=True)
      }
      rows.append((entity, facts))
    rng.shuffle(rows)
    sources.append(world.Source(kind, rows))
    if names_before:
      links.append(world.Link(name, realm, sources[-2].type.name))
    names_before = names
  return world.make_world(sources, links)


def _places(
  rng: random.Random, pieces: Sequence[str], num: int, realm_names: list[str]
) -> list[tuple[str, str]]:
  """(area, realm) of each entity; realms are taken from the given names."""
  realms = rng.sample(realm_names, len(realm_names))
  places: list[tuple[str, str]] = []
  used: set[str] = set()
  while len(places) < num:
    realm = realms.pop() if realms else _name(rng, pieces)
    for _ in range(rng.randint(1, 4)):
      (area,) = _distinct(lambda: _name(rng, pieces), 1, used)
      places += [(area, realm)] * rng.randint(3, 8)
  return places[:num]


def _distinct(
  make: Callable[[], str], num: int, used: set[str] | None = None
) -> list[str]:
  """So many results of `make` that differ from each other and from `used`."""
  used = set() if used is None else used
  found = []
  while len(found) < num:
    text = make()
    if world.name_key(text) not in used:
      used.add(world.name_key(text))
      found.append(text)
  return found


def _word(
  rng: random.Random, letters: tuple[str, str], fewest: int, most: int
) -> str:
  consonants, vowels = letters
  syllables = []
  for _ in range(rng.randint(fewest, most)):
    syllable = rng.choice(consonants) + rng.choice(vowels)
    if rng.random() < 0.4:
      syllable += rng.choice(consonants)
    syllables.append(syllable)
  return ''.join(syllables)


def _pieced(rng: random.Random, pieces: Sequence[str]) -> str:
  return ''.join(rng.choices(pieces, k=rng.choice((1, 1, 2))))


def _label(rng: random.Random, pieces: Sequence[str]) -> str:
  """What a type or an attribute is called: one lower-case word or two."""
  count = 2 if rng.random() < 0.25 else 1
  if pieces and rng.random() < _PIECED:
    return ' '.join(_pieced(rng, pieces).lower() for _ in range(count))
  return ' '.join(_word(rng, _LATIN, 1, 3) for _ in range(count))


def _name(rng: random.Random, pieces: Sequence[str]) -> str:
  """One to three words with now and then a number or punctuation."""
  pieced = bool(pieces) and rng.random() < _PIECED
  weights = [weight for weight, *_ in _ALPHABETS]
  ((_, *letters),) = rng.choices(_ALPHABETS, weights)
  while True:
    words = [
      _pieced(rng, pieces)
      if pieced
      else _word(rng, tuple(letters), 1, 4).capitalize()
      for _ in range(rng.choice((1, 1, 2, 2, 3)))
    ]
    form = rng.random()
    if form < 0.05:
      words[0] = f'St. {words[0]}'
    elif form < 0.1:
      words[0] += '-' + _word(rng, tuple(letters), 1, 2).capitalize()
    elif form < 0.15:
      words.append(f'({_word(rng, tuple(letters), 1, 2).capitalize()})')
    elif form < 0.2:
      words[0] = f"{words[0][0]}'{words[0]}"
    elif form < 0.25:
      words.append(str(rng.randint(2, 999)))
    elif form < 0.3:
      words = [word.upper() for word in words]
    name = ' '.join(words)
    if len(name) <= _MAX_NAME:
      return name


def _name_maker(
  rng: random.Random, pieces: Sequence[str], num: int
) -> Callable[[], str]:
  """What the names of one type look like, of which so many will be asked."""
  form = rng.random()
  if form < 0.4:
    return lambda: _name(rng, pieces)
  if form < 0.5:
    years = rng.sample(range(1200, 2031), 2 + num // 60)
    return lambda: _date(rng, rng.choice(years))
  words = [_name(rng, pieces).split()[0] for _ in range(4 + num // 4)]
  numbers = [str(rng.randint(2, 999)) for _ in range(4)]

  def alike() -> str:
    while True:
      chosen = rng.choices(words, k=rng.choice((1, 2, 2, 3)))
      if rng.random() < 0.3:
        chosen[-1] += _word(rng, _LATIN, 1, 2)
      if rng.random() < 0.2:
        chosen.append(rng.choice(numbers))
      name = ' '.join(chosen)
      if len(name) <= _MAX_NAME:
        return name

  return alike


def _date(rng: random.Random, year: int) -> str:
  return f'{year}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}'


def _echo(rng: random.Random, pieces: Sequence[str], name: str) -> str:
  """A value with words of the entity's name, or the name with one more."""
  words = name.split()
  form = rng.random()
  if form < 0.3:
    return words[0]
  if form < 0.6:
    return words[-1]
  if form < 0.8:
    return f'{name} {_name(rng, pieces).split()[0]}'[:_MAX_NAME].strip()
  return _name(rng, pieces)


def _value_maker(
  rng: random.Random, pieces: Sequence[str]
) -> Callable[[str], str]:
  """What the values of one attribute look like, from the entity's name."""
  form = rng.randrange(7)
  if form == 0:
    top = 10 ** rng.randint(2, 7)
    return lambda name: str(rng.randrange(top))
  if form == 1:
    places = rng.randint(1, 3)
    return lambda name: f'{rng.uniform(-100, 1000):.{places}f}'
  if form == 2:
    return lambda name: _date(rng, rng.randint(1200, 2030))
  if form == 3:
    letters = rng.randint(2, 4)
    return lambda name: (
      ''.join(rng.choices('ABCDEFGHKLMNPRSTUVWXYZ', k=letters))
      + f'-{rng.randrange(1000)}'
    )
  if form == 4:
    choices = [_name(rng, pieces) for _ in range(12)]
    return lambda name: rng.choice(choices)
  if form == 5:
    return lambda name: _echo(rng, pieces, name)
  return lambda name: _name(rng, pieces)
