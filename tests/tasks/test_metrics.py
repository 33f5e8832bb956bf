import hypothesis
import pytest
from hypothesis import strategies as st

from wideseek_jax import types
from wideseek_jax.tasks import metrics

GOLD = types.Table(
  ('Country', 'Capital', 'People'),
  (('France', 'Paris', '2,000'), ('Spain', 'Madrid', '3,000')),
)


def table(*rows, columns=GOLD.columns):
  return types.Table(columns, tuple(tuple(row) for row in rows))


def score(predicted, gold=GOLD, keys=('Country',)):
  return metrics.table_metrics(predicted, gold, keys)


def figures(predicted, **options):
  m = score(predicted, **options)
  return (m['item_f1'], m['row_f1'], m['success'])


FRANCE, SPAIN = ('france', 'Paris', '2000'), ('Spain', 'Madrid', '3000')


def test_all_right():
  assert score(table(FRANCE, SPAIN)) == dict.fromkeys(metrics.ZERO, 1.0)
  assert figures(table(SPAIN, FRANCE)) == (1, 1, 1)


def test_one_wrong_cell():
  # 5 of 6 items right on both sides; 1 of 2 rows.
  m = score(table(FRANCE, ('Spain', 'Madrid', '3001')))
  assert m['item_precision'] == m['item_recall'] == 5 / 6
  assert m['item_f1'] == pytest.approx(5 / 6, abs=1e-15)
  assert m['row_f1'] == 1 / 2 and m['success'] == 0


def test_a_wrong_key_loses_its_row():
  assert figures(table(FRANCE, ('Spane', 'Madrid', '3000'))) == (0.5, 0.5, 0)


def test_a_missing_row():
  # P = 3/3, R = 3/6: F1 = 2/3; rows the same.
  m = score(table(FRANCE))
  assert (m['item_precision'], m['item_recall']) == (1, 0.5)
  assert (m['item_f1'], m['row_f1']) == pytest.approx((2 / 3, 2 / 3))
  assert m['success'] == 0


def test_a_row_too_many():
  # P = 6/9, R = 1: F1 = 12/15.
  m = score(table(FRANCE, SPAIN, ('Italy', 'Rome', '1')))
  assert (m['item_precision'], m['item_recall']) == (6 / 9, 1)
  assert m['item_f1'] == m['row_f1'] == pytest.approx(0.8)
  assert m['success'] == 0


def test_rows_with_the_same_key_count_once():
  twice = table(FRANCE, ('FRANCE', 'Lyon', '1'), SPAIN)
  assert figures(twice) == (1, 1, 1)
  # The first one stays.
  twice = table(('FRANCE', 'Lyon', '1'), FRANCE, SPAIN)
  assert figures(twice)[1] == 0.5
  # In the gold table as well: 2 rows of 3 are left.
  gold = table(*GOLD.rows, ('spain', 'Toledo', '1'))
  assert figures(table(FRANCE, SPAIN), gold=gold) == (1, 1, 1)


def test_columns_match_by_name_and_further_ones_are_dropped():
  predicted = types.Table(
    ('people', 'Note', 'CAPITAL', ' country'),
    (('2000', '', 'Paris', 'France'), ('3000', 'x', 'Madrid', 'Spain')),
  )
  assert figures(predicted) == (1, 1, 1)


def test_missing_or_doubled_columns_score_nothing():
  missing = types.Table(('country', 'capital'), (('France', 'Paris'),))
  doubled = types.Table(
    ('country', 'Country', 'capital', 'people'),
    (('France', 'France', 'Paris', '2000'),),
  )
  for predicted in (missing, doubled, None):
    assert score(predicted) == metrics.ZERO


def test_several_key_columns_join_together():
  keys = ('Country', 'Capital')
  assert figures(table(FRANCE, SPAIN), keys=keys) == (1, 1, 1)
  # Its two keys do not join as a pair.
  mixed = table(('France', 'Madrid', '2000'), SPAIN)
  assert figures(mixed, keys=keys) == (0.5, 0.5, 0)


def test_numbers_in_key_columns_keep_every_digit():
  # The released code reads both as 1.23457e+06, and 'Se7en' as ''.
  gold = table(
    *(('1234567', 'a', 'b'), ('1234568', 'c', 'd'), ('Se7en', 'e', 'f'))
  )
  assert score(gold, gold) == dict.fromkeys(metrics.ZERO, 1.0)
  swapped = table(('1234568', 'a', 'b'), ('1234567', 'c', 'd'))
  # Both keys join (2 items); no other cell is right: 2·2 / ((2 + 3) · 3).
  assert figures(swapped, gold=gold) == (pytest.approx(4 / 15), 0, 0)


def test_a_broken_gold_table_is_an_error():
  same_names = types.Table(('A', 'a '), (('1', '2'),))
  for gold, keys in (
    (types.Table(('a',), ()), ('a',)),
    (GOLD, ()),
    (GOLD, ('Continent',)),
    (same_names, ('A',)),
  ):
    for predicted in (None, GOLD):
      with pytest.raises(ValueError, match='columns'):
        score(predicted, gold, keys)


CELLS = st.sampled_from(['a', 'A', 'b', '1', '1.0', ''])
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5)


@hypothesis.settings(
  max_examples=300,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(ROWS, ROWS, st.sampled_from([1, 2]))
def test_figures_are_bounded_and_symmetric(one, two, num_keys):
  keys = GOLD.columns[:num_keys]
  a = score(table(*one), table(*two), keys)
  b = score(table(*two), table(*one), keys)
  assert all(0 <= value <= 1 for value in a.values())
  assert a['item_precision'] == b['item_recall']
  assert a['row_f1'] == b['row_f1'] and a['success'] == b['success']
  assert (a['success'] == 1) == (a['item_f1'] == 1)
  assert a['row_f1'] <= a['item_f1'] + 1e-12
  # F1 is the harmonic mean of precision and recall.
  total = a['item_precision'] + a['item_recall']
  product = 2 * a['item_precision'] * a['item_recall']
  assert a['item_f1'] * total == pytest.approx(product)
  assert score(table(*one), table(*one), keys)['success'] == 1
