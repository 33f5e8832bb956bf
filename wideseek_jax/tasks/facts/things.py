"""Elements, isotopes, currencies, languages, cars and days as sources."""

import collections
import csv
import datetime
from collections.abc import Mapping
from typing import Any

from wideseek_jax.tasks.facts import package_files, places, world


def element_source() -> world.Source:
  kind = world.EntityType(
    name='element',
    plural='elements',
    attributes=(
      'symbol',
      'atomic number',
      'series',
      'group',
      'discovery year',
      'discovery place',
    ),
    group_by=('series', 'group', 'discovery place', 'discovery year'),
    split='test',
  )
  found = package_files.query_elements(
    'select e.name, e.symbol, e.atomic_number, s.name, e.group_id,'
    ' e.discovery_year, e.discovery_location from elements e'
    ' join series s on e.series_id = s.id order by e.atomic_number'
  )
  rows = [
    (name, dict(zip(kind.attributes, facts, strict=True)))
    for name, *facts in found
  ]
  return world.Source(kind, rows)


def isotope_source() -> world.Source:
  kind = world.EntityType(
    name='isotope',
    plural='isotopes',
    attributes=(
      'element',
      'mass number',
      'half life',
      'spin',
      'discovery year',
      'mass u',
    ),
    group_by=('mass number', 'element', 'discovery year'),
    split='shared',
    split_by='mass number',
  )
  found = package_files.query_elements(
    'select e.name, i.mass_number, i.half_life, i.half_life_unit, i.spin,'
    ' i.discovery_year, i.mass from isotopes i join elements e'
    ' on i.atomic_number = e.atomic_number'
    ' order by i.atomic_number, i.mass_number'
  )
  rows = [
    (
      f'{element}-{number}',
      {
        'element': element,
        'mass number': number,
        'half life': f'{half:g} {unit}' if half and unit else None,
        'spin': spin,
        'discovery year': year,
        'mass u': f'{mass:.3f}' if mass else None,
      },
    )
    for element, number, half, unit, spin, year, mass in found
  ]
  return world.Source(kind, rows)


def currency_source(countries: Mapping[str, dict[str, Any]]) -> world.Source:
  """Currencies; one belongs to the country whose code its code starts with."""
  kind = world.EntityType(
    name='currency',
    plural='currencies',
    attributes=('code', 'number', 'country', 'subregion', 'users'),
    group_by=('subregion',),
    split='shared',
    split_by='subregion',
  )
  users = collections.Counter(row['currencycode'] for row in countries.values())
  rows = []
  for row in package_files.read_iso('4217'):
    home = countries.get(row['alpha_3'][:2], {'name': None, 'subregion': None})
    facts = {
      'code': row['alpha_3'],
      'number': row['numeric'],
      'country': home['name'],
      'subregion': home['subregion'],
      'users': users[row['alpha_3']] or None,
    }
    rows.append((row['name'], facts))
  return world.Source(kind, rows)


def language_source(countries: Mapping[str, dict[str, Any]]) -> world.Source:
  """Languages; `country` where GeoNames lists one in a single country."""
  kind = world.EntityType(
    name='language',
    plural='languages',
    attributes=('code', 'type', 'scope', 'country'),
    group_by=('country', 'type', 'scope'),
    split='train',
  )
  spoken = collections.defaultdict(list)
  for row in countries.values():
    for code in places.languages_of(row):
      spoken[code].append(row['name'])
  types = {
    'L': 'living',
    'E': 'extinct',
    'H': 'historical',
    'C': 'constructed',
    'S': 'special',
  }
  scopes = {'I': 'individual', 'M': 'macrolanguage', 'S': 'special'}
  rows = []
  for row in package_files.read_iso('639-3'):
    homes = spoken[row['alpha_3']] + spoken[row.get('alpha_2')]
    facts = {
      'code': row['alpha_3'],
      'type': types[row['type']],
      'scope': scopes[row['scope']],
      'country': homes[0] if len(homes) == 1 else None,
    }
    rows.append((row['name'], facts))
  return world.Source(kind, rows)


def car_source() -> world.Source:
  kind = world.EntityType(
    name='car',
    plural='cars',
    attributes=(
      'maker',
      'horsepower',
      'weight lb',
      'miles per gallon',
      'model year',
      'origin',
    ),
    group_by=('maker', 'horsepower', 'model year'),
    split='test',
  )
  rows = [
    (
      row['Name'],
      {
        'maker': row['Name'].split()[0],
        'horsepower': row['Horsepower'],
        'weight lb': row['Weight_in_lbs'],
        'miles per gallon': row['Miles_per_Gallon'],
        'model year': row['Year'][:4],
        'origin': row['Origin'],
      },
    )
    for row in package_files.read_json('vega_datasets', '_data/cars.json')
  ]
  return world.Source(kind, rows, distinguish_by='model year')


def weather_source() -> world.Source:
  kind = world.EntityType(
    name='seattle day',
    plural='seattle days',
    attributes=('week', 'weather', 'rain mm', 'high c', 'low c', 'wind'),
    group_by=('week',),
    split='shared',
    split_by='week',
  )
  path = package_files.find('vega_datasets', '_data/seattle-weather.csv')
  rows = []
  with path.open(encoding='utf-8', newline='') as file:
    for row in csv.DictReader(file):
      date = row['date'].replace('/', '-')
      year, week, _ = datetime.date.fromisoformat(date).isocalendar()
      facts = {
        'week': f'{year} W{week:02d}',
        'weather': row['weather'],
        'rain mm': row['precipitation'],
        'high c': row['temp_max'],
        'low c': row['temp_min'],
        'wind': row['wind'],
      }
      rows.append((date, facts))
  return world.Source(kind, rows)
