"""Questions as records, on six airports written out by hand."""

import itertools

import pytest

from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import forms, second

_ROWS = {
  # name: region, elevation of the first source, of the second ('' unknown)
  'A': ('North', '100', '100'),
  'B': ('North', '300', '300'),
  'C': ('North', '300', '310'),
  'D': ('North', '1250', ''),
  'E': ('South', '50', '50'),
  'F': ('North', '-20', '-20'),
}
_FIRST = {
  ('airport', name): {'region': region, 'elevation ft': high, 'iata code': name}
  for name, (region, high, _) in _ROWS.items()
}
# The second source does not know of D, and of no region.
_SECOND = {
  ('airport', name): {'elevation ft': high}
  for name, (_, _, high) in _ROWS.items()
  if high
}


def _record(**changes):
  return {
    'type': 'airport',
    'verb': 'List',
    'where': [['region', 'North']],
    'bound': [],
    'top': [],
    'columns': ['elevation ft'],
    'rounded': [],
  } | changes


@pytest.fixture
def first():
  return forms.Index(_FIRST, _FIRST)


@pytest.fixture
def other():
  return forms.Index(_SECOND, _FIRST)


def test_both_sources_answer_the_same_record(first, other):
  record = _record()
  assert forms.wide_answer(record, first).columns == ('airport', 'elevation ft')
  assert forms.wide_answer(record, first).rows == (
    ('A', '100'),
    ('B', '300'),
    ('C', '300'),
    ('D', '1250'),
    ('F', '-20'),
  )
  # Of regions it goes by the first source, of elevations by itself; D it lacks.
  assert forms.wide_answer(record, other).rows == (
    ('A', '100'),
    ('B', '300'),
    ('C', '310'),
    ('F', '-20'),
  )


def test_bounds_orders_and_second_conditions(first, other):
  above = _record(bound=['elevation ft', 'above', '300'])
  assert [r[0] for r in forms.wide_answer(above, first).rows] == ['D']
  assert [r[0] for r in forms.wide_answer(above, other).rows] == ['C']
  below = _record(bound=['elevation ft', 'below', '100'])
  assert [r[0] for r in forms.wide_answer(below, first).rows] == ['F']
  low = _record(top=['elevation ft', 'smallest', 3])
  assert [r[0] for r in forms.wide_answer(low, first).rows] == ['F', 'A', 'B']
  high = _record(top=['elevation ft', 'largest', 2])
  assert [r[0] for r in forms.wide_answer(high, other).rows] == ['C', 'B']
  both = _record(where=[['region', 'North'], ['elevation ft', '300']])
  assert [r[0] for r in forms.wide_answer(both, first).rows] == ['B', 'C']


def test_a_cut_between_equal_values_is_moved(first):
  # The largest are D 1250, then B and C with 300 each: two is no number of
  # rows that one answer fits, three is.
  record = _record(top=['elevation ft', 'largest', 3])
  assert forms.refine(record, first)[0]['top'][2] == 3
  record = _record(top=['elevation ft', 'largest', 2])
  refined, reason = forms.refine(record, first)
  assert refined['top'][2] == 1 and reason == 'fewer than 3 rows'
  gap = {key: dict(value) for key, value in _FIRST.items()}
  del gap['airport', 'B']['iata code']
  index = forms.Index(gap, gap)
  record = _record(columns=['iata code'])
  assert forms.refine(record, index)[1] == 'a cell is not known'
  assert forms.refine(_record(), first)[1] == ''


def test_rounding_is_what_the_question_says(first):
  record = _record(rounded=['elevation ft'])
  # Halves go away from zero, and nothing is -0: 12.5 and -0.2.
  assert [r[1] for r in forms.wide_answer(record, first).rows] == [
    '1',
    '3',
    '3',
    '13',
    '0',
  ]
  _, question = forms.question(record, 'airports')
  assert question == (
    'List every airport with region North. Columns: airport, elevation ft. '
    'Give elevation ft in hundreds of feet, rounded to whole numbers.'
  )
  # What has to be read is what stands on the pages.
  assert '1250' in forms.wide_evidence(record, first)


def test_a_column_without_a_second_source_is_named(other):
  record = _record(columns=['elevation ft', 'iata code'])
  assert forms.unknown(record, other) == 'airport, iata code'
  assert forms.unknown(_record(), other) == ''


def test_draws_are_addressed_and_keep_to_their_split():
  world = facts.build_synthetic_world(3, 6, 30)
  told = second.first_facts(world)
  index = forms.Index(told, told)
  seen = {}
  for split in ('train', 'test'):
    draws = [
      list(itertools.islice(forms.wide_draws(world, index, split, seed), 60))
      for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    deep = list(forms.deep_draws(world, split, 0))
    assert deep == list(forms.deep_draws(world, split, 0)) and deep
    assert all(forms.deep_answer(record, index) for record in deep)
    seen[split] = {
      tuple(entity)
      for record in [*draws[0], *deep]
      for entity in forms.entities(record, index)
    }
  assert seen['train'] and seen['test']
  assert not seen['train'] & seen['test']
