"""The real facts: what is in them, and that pages, questions and gold agree.

The oracles read the pages, or the packages through their own interfaces.
"""

import collections
import random

import airportsdata
import pytest
import us

from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import world as facts_world
from wideseek_jax.tools import search


@pytest.fixture(scope='module')
def world():
  return facts.build_world()


@pytest.fixture(scope='module')
def corpus(world):
  return facts.build_corpus(world)


@pytest.fixture(scope='module')
def by_title(corpus):
  return {page.title: page.contents for page in corpus.pages}


@pytest.fixture(scope='module')
def tasks(world):
  """Every task by (split, kind)."""
  return {
    (split, kind): facts.build_tasks(world, split, kind)
    for split in facts_world.SPLITS
    for kind in ('wide', 'deep')
  }


def _facts_of(page):
  return dict(
    line.removeprefix('- ').split(': ', 1) for line in page.splitlines()
  )


def test_world_is_this_one(world, corpus):
  # Of the packages' versions in setup.py: a new fingerprint is a new world,
  # and policies and scores of the old one no longer compare.
  assert (
    world.fingerprint
    == '376717b772c0ac522c930541744034401933115bf1ac8a64f4a36c3ffd644025'
  )
  assert len(world.types) == 20
  assert len(world.entities) == 34_356
  assert len(corpus.pages) == len(world.entities) + sum(
    1 for _ in facts_world.groups(world)
  )
  titles = [page.title for page in corpus.pages]
  assert len(set(titles)) == len(titles) > 36_000


def test_few_facts_are_dropped(world):
  assert sum(world.dropped.values()) < 0.02 * len(world.entities)


@pytest.mark.parametrize(
  ('title', 'attribute', 'value'),
  [
    ('Peru (country)', 'capital', 'Lima'),
    ('Peru (country)', 'subregion', 'South America'),
    ('Peru (country)', 'language', 'Spanish'),
    ('France (country)', 'currency', 'Euro'),
    ('Carbon (element)', 'symbol', 'C'),
    ('Carbon-14 (isotope)', 'half life', '5.7 kyear'),
    ('Euro (currency)', 'code', 'EUR'),
    ('Ohio (us state)', 'capital', 'Columbus'),
    ('Ghotuo (language)', 'code', 'aaa'),
    ('Keflavik International Airport (airport)', 'iata code', 'KEF'),
    ('Lima (city)', 'country', 'Peru'),
    ('Quebec (province)', 'code', 'CA-QC'),
    ('ford pinto (1971) (car)', 'maker', 'ford'),
    ('2013-01-01 (seattle day)', 'week', '2013 W01'),
  ],
)
def test_well_known_facts(by_title, title, attribute, value):
  assert _facts_of(by_title[title])[attribute] == value


@pytest.mark.parametrize(
  ('code', 'country'), [('IS', 'Iceland'), ('NP', 'Nepal'), ('MN', 'Mongolia')]
)
def test_lists_are_whole_by_the_packages_own_count(by_title, code, country):
  ours = by_title[f'List: every airport with country {country}']
  theirs = [
    airport['iata']
    for airport in airportsdata.load('IATA').values()
    if airport['country'] == code and len(airport['name']) <= 40
  ]
  names = ours.split('Names: ')[1].split('; ')
  codes = [
    _facts_of(by_title[f'{name} (airport)'])['iata code'] for name in names
  ]
  assert sorted(codes) == sorted(theirs)


def test_us_states_by_the_packages_own_word(by_title):
  for state in us.states.STATES:
    found = _facts_of(by_title[f'{state.name} (us state)'])
    assert found['capital'] == state.capital
    assert found['statehood year'] == str(state.statehood_year)


def test_wide_gold_is_what_the_pages_say(by_title, tasks):
  rng = random.Random(0)
  for split in facts_world.SPLITS:
    for task in rng.sample(tasks[split, 'wide'], 150):
      kind, *columns = task.table.columns
      meta = task.metadata
      listed = by_title[
        f'List: every {kind} with {meta["group_attribute"]} '
        f'{meta["group_value"]}'
      ]
      names = listed.split('\nNames: ')[1].split('; ')
      assert [row[0] for row in task.table.rows] == names
      for name, *cells in task.table.rows:
        page = _facts_of(by_title[f'{name} ({kind})'])
        assert page[meta['group_attribute']] == meta['group_value']
        assert [page[column] for column in columns] == cells


def test_deep_gold_is_two_pages_away(by_title, tasks):
  rng = random.Random(0)
  for split in facts_world.SPLITS:
    for task in rng.sample(tasks[split, 'deep'], 150):
      (name, kind, first), (middle, other, second) = task.metadata['hops']
      assert task.question == (
        f'What is the {second} of the {first} of the {kind} {name}?'
      )
      assert _facts_of(by_title[f'{name} ({kind})'])[first] == middle
      answer = _facts_of(by_title[f'{middle} ({other})'])[second]
      assert task.answers == (answer,)
      assert answer not in (name, middle)


def test_no_entity_serves_two_splits(tasks):
  seen = {}
  for (split, kind), found in tasks.items():
    for task in found:
      if kind == 'wide':
        entity_type = task.metadata['entity_type']
        named = [(entity_type, name) for name in task.metadata['names']]
      else:
        named = [(hop[1], hop[0]) for hop in task.metadata['hops']]
      for name in named:
        assert seen.setdefault(name, split) == split


def test_there_are_tasks_enough_of_3_to_8_rows(tasks):
  kinds = {}
  for split, groups, fewest in (
    ('train', 700, 800),
    ('validation', 90, 100),
    ('test', 300, 200),
  ):
    small = [
      task
      for task in tasks[split, 'wide']
      if task.metadata['num_rows'] <= 8 and len(task.table.columns) <= 3
    ]
    assert len(small) >= fewest
    assert groups <= len(
      {
        tuple(
          task.metadata[key]
          for key in ('entity_type', 'group_attribute', 'group_value')
        )
        for task in small
      }
    )
    kinds[split] = collections.Counter(
      task.metadata['entity_type'] for task in small
    )
    assert len(kinds[split]) >= 6
    assert len(tasks[split, 'deep']) >= 300
  # Types that neither training nor validation has seen, and their flag.
  unseen = set(kinds['test']) - set(kinds['train']) - set(kinds['validation'])
  assert unseen == {'car', 'element', 'province'}
  for task in tasks['test', 'wide']:
    assert task.metadata['unseen_type'] == (
      task.metadata['entity_type'] in unseen
    )


def test_search_finds_the_page_that_is_meant(world, corpus):
  index = search.SearchIndex(corpus)
  rng = random.Random(0)

  def first(query):
    return index.search(query, 1)[0].title

  entities = rng.sample(world.entities, 300)
  for form in ('{type} {name}', '{name} {type}', 'page {name} ({type})'):
    found = sum(
      first(form.format(name=entity.name, type=entity.type))
      == f'{entity.name} ({entity.type})'
      for entity in entities
    )
    assert found >= 297
  groups = rng.sample(list(facts_world.groups(world)), 200)
  for form in ('list {0.name}', 'list {0.plural}', 'every {0.name}'):
    found = sum(
      first(f'{form.format(group.type)} with {group.attribute} {group.value}')
      == f'List: every {group.type.name} with {group.attribute} {group.value}'
      for group in groups
    )
    assert found >= 198
