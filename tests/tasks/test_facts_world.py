"""Cleaning, splits, groups and pages, on worlds small enough for a pencil."""

import collections
import dataclasses
import re
import unicodedata

import hypothesis
import pytest
from hypothesis import strategies as st

from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import pages
from wideseek_jax.tasks.facts import world as facts_world
from wideseek_jax.tools import search

_LAKE = facts_world.EntityType(
  name='lake',
  plural='lakes',
  attributes=('land', 'depth m'),
  group_by=('land',),
  split='train',
)


def _lakes(*rows, **options):
  rows = [(name, {'land': land, 'depth m': deep}) for name, land, deep in rows]
  source = facts_world.Source(_LAKE, rows, **options)
  return facts_world.make_world([source], [])


@pytest.mark.parametrize(
  ('raw', 'clean'),
  [
    ('  Lake\u00a0 of\tthe\u200b Woods ', 'Lake of the Woods'),
    ('Zu\u0308rich', 'Zürich'),  # NFC: one code point.
    ('Abkhazia*', 'Abkhazia'),
    ('M`Boki', "M'Boki"),
    ('St. X-Y (Z), 1.5%', 'St. X-Y (Z), 1.5%'),
    ('x' * 40, 'x' * 40),
    ('x' * 41, ''),
    ('a|b', ''),
    ('a;b', ''),
    ('a "b"', ''),
    ('a\\b', ''),
    ('{a}', ''),
    ('\n', ''),
  ],
)
def test_text_is_cleaned_or_refused(raw, clean):
  assert facts_world.clean_text(raw) == clean


@hypothesis.given(st.text(max_size=50))
def test_clean_text_fits_tables_lists_and_boxes(raw):
  clean = facts_world.clean_text(raw)
  assert len(clean) <= 40
  assert not set('|;"\\{}\n\r\t*`') & set(clean)
  assert clean == ' '.join(clean.split())
  assert clean == unicodedata.normalize('NFC', clean)
  assert facts_world.clean_text(clean) == clean


def test_world_counts_what_it_drops():
  world = _lakes(
    ('Blue', 'Ardia', '12'),
    ('Bad|name', 'Ardia', '1'),
    ('Green', 'x' * 41, '7'),
    ('Grey', '', None),  # Nothing is known of it.
  )
  assert [dataclasses.astuple(entity) for entity in world.entities] == [
    ('lake', 'Blue', {'land': 'Ardia', 'depth m': '12'}),
    ('lake', 'Green', {'depth m': '7'}),
  ]
  assert world.dropped == {
    'lake: name': 1,
    'lake: land': 1,
    'lake: same name': 1,
  }


def test_equal_names_are_told_apart_or_dropped():
  rows = (
    ('Blue', 'Ardia', '1'),
    ('BLUE', 'Bor', '2'),  # Scorers see the same name.
    ('Blue', 'Ardia', '3'),
    ('Red', 'Bor', '4'),
  )
  assert [entity.name for entity in _lakes(*rows).entities] == ['Blue', 'Red']
  told_apart = _lakes(*rows, distinguish_by='land')
  assert [entity.name for entity in told_apart.entities] == [
    'Blue (Ardia)',
    'BLUE (Bor)',
    'Red',
  ]
  assert told_apart.dropped == {'lake: same name': 1}


def test_groups_are_whole_and_of_3_to_60():
  rows = [(f'a{i}', 'two', '1') for i in range(2)]
  rows += [(f'b{i}', 'three', '1') for i in range(3)]
  rows += [(f'c{i}', 'sixty', '1') for i in range(60)]
  rows += [(f'd{i}', 'more', '1') for i in range(61)]
  found = {
    group.value: [entity.name for entity in group.members]
    for group in facts_world.groups(_lakes(*rows))
  }
  assert found == {
    'three': ['b0', 'b1', 'b2'],
    'sixty': [f'c{i}' for i in range(60)],
  }


def test_pages_say_exactly_this():
  world = _lakes(
    ('Blue', 'Ardia', '12'), ('Red', 'Ardia', None), ('Grün', 'Ardia', '7')
  )
  written = facts.build_corpus(world).pages
  assert {(page.title, page.contents) for page in written} == {
    ('Blue (lake)', '- lake: Blue\n- land: Ardia\n- depth m: 12'),
    ('Red (lake)', '- lake: Red\n- land: Ardia'),
    ('Grün (lake)', '- lake: Grün\n- land: Ardia\n- depth m: 7'),
    (
      'List: every lake with land Ardia',
      'lakes with land Ardia\nNames: Blue; Red; Grün',
    ),
  }
  # Urls number the pages in an order of their own, at every call the same.
  assert [page.url for page in written] == [f'facts/{i}' for i in range(4)]
  assert facts.build_corpus(world).pages == written


def test_urls_do_not_tell_the_type():
  world = facts.build_synthetic_world(seed=0, num_types=4, entities_per_type=50)
  kinds = [
    page.title.split('(')[-1] for page in facts.build_corpus(world).pages
  ]
  first = collections.Counter(kinds[: len(kinds) // 2])
  # Of each type's 50 pages about 25 stand in the first half.
  for kind in world.types:
    assert 12 <= first[f'{kind.name})'] <= 38


def test_fingerprint_tells_any_change():
  rows = [('Blue', 'Ardia', '12'), ('Red', 'Bor', '3')]
  same = _lakes(*rows).fingerprint
  assert _lakes(*rows).fingerprint == same
  others = [
    _lakes(*rows[:1]).fingerprint,
    _lakes(*reversed(rows)).fingerprint,
    _lakes(('Blue', 'Ardia', '12'), ('Red', 'Bor', '4')).fingerprint,
    facts_world.make_world(
      [facts_world.Source(dataclasses.replace(_LAKE, split='test'), [])], []
    ).fingerprint,
  ]
  assert len({same, *others}) == 5
  assert len(same) == 64


def test_splits_are_these_forever_and_about_70_10_20():
  # Pinned: another hash would hand test entities to training.
  assert facts_world.split_of_value('United States') == 'train'
  assert facts_world.split_of_value('Colombia') == 'validation'
  assert facts_world.split_of_value('Brazil') == 'test'
  count = collections.Counter(
    facts_world.split_of_value(str(i)) for i in range(10_000)
  )
  # Four standard deviations: 4 · √(10,000 · p · (1 − p)) = 183, 120, 160.
  assert abs(count['train'] - 7_000) < 183
  assert abs(count['validation'] - 1_000) < 120
  assert abs(count['test'] - 2_000) < 160


@pytest.mark.parametrize(
  ('changes', 'what'),
  [
    ({'attributes': tuple('abcdefg'), 'group_by': ()}, '7 attributes'),
    ({'attributes': ('land', 'lake')}, 'two columns of one name'),
    ({'group_by': ('colour',)}, "'colour'"),
    ({'split': 'shared'}, 'give split_by'),
    ({'split_by': 'land'}, 'give split_by'),
  ],
)
def test_impossible_types_are_refused(changes, what):
  with pytest.raises(ValueError, match=what):
    dataclasses.replace(_LAKE, **changes)


def test_links_and_sources_are_checked():
  source = facts_world.Source(_LAKE, [])
  with pytest.raises(ValueError, match='does not lead'):
    facts_world.make_world([source], [facts_world.Link('lake', 'land', 'land')])
  with pytest.raises(ValueError, match='two sources'):
    facts_world.make_world([source, source], [])


def test_synthetic_worlds_differ_and_their_pages_are_found():
  world = facts.build_synthetic_world(
    seed=1, num_types=10, entities_per_type=40
  )
  assert len(world.types) == 10
  assert len(world.entities) == 400
  assert world.dropped == {}
  other = facts.build_synthetic_world(
    seed=2, num_types=10, entities_per_type=40
  )
  # Days are called the same everywhere, and short names may meet by chance.
  names, others = (
    {e.name for e in w.entities if any(c.isalpha() for c in e.name)}
    for w in (world, other)
  )
  assert len(names) > 200 and len(names & others) < 5
  index = search.SearchIndex(facts.build_corpus(world))
  for entity in world.entities[::10]:
    title, _ = pages.entity_page(entity)
    assert index.search(f'{entity.type} {entity.name}', 1)[0].title == title
  for group in facts_world.groups(world):
    title, _ = pages.list_page(group)
    query = f'list {group.type.plural} with {group.attribute} {group.value}'
    assert index.search(query, 1)[0].title == title


def test_most_names_of_a_synthetic_world_can_be_made_of_pieces():
  pieces = ('zurg', 'blip', 'quoz', 'fnar', 'womp', 'skri', 'yegg', 'tlon')
  word = f'({"|".join(pieces)}){{1,2}}'
  made = re.compile(f'{word}( {word})?')
  world = facts.build_synthetic_world(1, 4, 3, pieces)
  labels = [kind.name for kind in world.types]
  labels += [name for kind in world.types for name in kind.attributes]
  pieced = [label for label in labels if made.fullmatch(label)]
  # 8 in 10 are drawn so, of about 25.
  assert len(labels) // 2 < len(pieced) < len(labels)
  plain = facts.build_synthetic_world(1, 4, 3)
  assert not any(made.fullmatch(kind.name) for kind in plain.types)


def test_neighbours_in_synthetic_worlds_share_words():
  world = facts.build_synthetic_world(
    seed=0, num_types=20, entities_per_type=30
  )
  alike = []
  for kind in world.types:
    words = [
      word
      for entity in world.entities
      if entity.type == kind.name
      for word in entity.name.split()
    ]
    alike.append(len(set(words)) < 0.6 * len(words))
  # Half of the types draw words from a pool of 11; 30 names have about 60.
  assert 4 <= sum(alike) <= 16
  echoes = [
    entity
    for entity in world.entities
    for value in entity.attributes.values()
    if value.startswith(entity.name.split()[0])
  ]
  assert len(echoes) > 30


def test_synthetic_world_too_small_is_refused():
  with pytest.raises(ValueError, match='0 types'):
    facts.build_synthetic_world(seed=0, num_types=0, entities_per_type=9)
  with pytest.raises(ValueError, match='2 entities'):
    facts.build_synthetic_world(seed=0, num_types=1, entities_per_type=2)
