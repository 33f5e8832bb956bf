"""Whole tables: which rows and cells are right, and what costs them all."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.evaluation.widesearch import helpers
from wideseek_jax.evaluation.widesearch import records

block, gold, result = helpers.block, helpers.gold, helpers.result
counts, assert_counts = helpers.counts, helpers.assert_counts
TEXT, NUMBER, DATE, URL, JUDGE, KEY, TWO = (
  helpers.TEXT,
  helpers.NUMBER,
  helpers.DATE,
  helpers.URL,
  helpers.JUDGE,
  helpers.KEY,
  helpers.TWO,
)


@pytest.mark.parametrize(
  ('rows', 'success', 'right_rows', 'items', 'n_found'),
  [
    (['b | 20', 'a | 10'], 1, 2, 4, 2),
    # 10.5 of 10 is within a tenth; the frames differ, the numbers are all 1.
    (['a | 10.5', 'b | 20'], 1, 2, 4, 2),
    # The key cell of b stays right.
    (['a | 10', 'b | 30'], 0, 1, 3, 2),
    (['a | 10'], 0, 1, 2, 1),
    (['a | 10', 'b | 20', 'c | 30'], 0, 2, 4, 3),
    # The first of equal keys stays, right or wrong.
    (['a | 10', 'a | 99', 'b | 20'], 1, 2, 4, 2),
    (['a | 99', 'a | 10', 'b | 20'], 0, 1, 3, 2),
    # A row that is too short is filled up with blanks.
    (['a | 10', 'b'], 0, 1, 3, 2),
    # One text keeps the column as it was written; a number is taken out.
    (['a | about 10', 'b | $20'], 1, 2, 4, 2),
    (['a | 10', '**B** | 20'], 1, 2, 4, 2),
    # Rows of blanks are no rows.
    (['a | 10', ' | ', 'b | 20'], 1, 2, 4, 2),
  ],
)
def test_right_rows_and_cells(rows, success, right_rows, items, n_found):
  found = result(TWO, block('Name | V', *rows))
  assert_counts(found, success, right_rows, items, n_found=n_found, n_gold=2)


def test_columns_in_any_order_case_and_spacing():
  found = result(TWO, block('v | N A M E', '10 | a', '20 | b'))
  assert_counts(found, 1, 2, 4, n_found=2, n_gold=2)


@pytest.mark.parametrize(
  'header', ['Name | V | Notes', 'Name | **V**', 'Name | Value', 'Name']
)
def test_another_set_of_columns_is_worth_nothing(header):
  cells = ' | '.join('a1x'[: header.count('|') + 1])
  found = result(TWO, block(header, cells))
  assert (found.status, *counts(found)) == ('columns_mismatch', 0, 0, 0, 0, 0)


def test_keys_that_become_equal_multiply():
  # Two answers meet the one gold row: 2 right rows of 2 found and 1 gold.
  one = gold(['Name,V', 'Alpha,10'], {'name': KEY, 'v': NUMBER})
  answer = block('Name | V', 'alpha | 10', 'ALPHA | 10')
  found = result(one, answer)
  assert found.recall_by_row == found.recall_by_item == 2.0
  assert_counts(found, 0, 2, 4, n_found=2, n_gold=1)
  # Counted once, as what they are: one row.
  strict = result(one, answer, strict=True)
  assert_counts(strict, 1, 1, 2, n_found=1, n_gold=1)


def test_gold_rows_of_equal_keys_count_once_as_the_first():
  twice = gold(['Name,V', 'a,10', 'a,20'], {'name': KEY, 'v': NUMBER})
  found = result(twice, block('Name | V', 'a | 10'))
  assert_counts(found, 1, 1, 2, n_found=1, n_gold=1)
  with pytest.raises(ValueError, match='two gold rows have the key'):
    result(twice, block('Name | V', 'a | 10'), strict=True)


def test_two_keys():
  both = gold(
    ['City,Year,V', 'x,2020,1', 'x,2021,2'],
    {'city': KEY, 'year': ('', 'number_near', 0), 'v': NUMBER},
    keys=('city', 'year'),
  )
  answer = block('City | Year | V', 'x | 2021 | 2', 'x | 2022 | 2')
  # One row with its three cells; number_near would let no other year pass,
  # but a key's metric is never asked.
  found = result(both, answer)
  assert_counts(found, 0, 1, 3, n_found=2, n_gold=2, width=3)


def test_whole_numbers_meet_fractions():
  rules = {'name': KEY, 'v': ('', 'exact_match', None)}
  # int64 and float64: 2020 is read as 2020.0 on both sides.
  ints = gold(['Name,V', 'a,2020', 'b,7'], rules)
  assert result(ints, block('Name | V', 'a | 2020.0', 'b | 7')).score == 1
  floats = gold(['Name,V', 'a,2020.0', 'b,7.5'], rules)
  found = result(floats, block('Name | V', 'a | 2020', 'b | 7'))
  assert_counts(found, 0, 1, 3, n_found=2, n_gold=2)
  # A text makes objects of one side: 2020.0 is not 2020.
  found = result(ints, block('Name | V', 'a | 2020.0', 'b | seven'))
  assert_counts(found, 0, 0, 2, n_found=2, n_gold=2)


def test_missing_cells_are_equal_texts():
  rules = {'name': KEY, 'v': ('', 'exact_match', None)}
  some = gold(['Name,V', 'NA,x', 'b,'], rules)
  found = result(some, block('Name | V', 'n/a | x', 'b | NULL'))
  assert_counts(found, 1, 2, 4, n_found=2, n_gold=2)
  found = result(some, block('Name | V', 'NA | x', 'b | -'))
  assert_counts(found, 0, 1, 3, n_found=2, n_gold=2)


@pytest.mark.parametrize(
  ('rule', 'cell', 'strict_cell'),
  [
    (TEXT, None, 0),
    (NUMBER, None, 0),
    (URL, None, 0),
    # No cell is compared, and this alone does not crash on that.
    (DATE, 0, 0),
    (JUDGE, 0, 0),
  ],
)
def test_no_common_key(rule, cell, strict_cell):
  one = gold(['Name,V', 'a,10'], {'name': KEY, 'v': rule})
  asked = []
  found = result(one, block('Name | V', 'b | 10'), asked=asked)
  if cell is None:
    assert found.status == 'evaluator_error'
    assert found.error.startswith('ValueError: Cannot set a DataFrame')
  else:
    assert_counts(found, 0, 0, cell, n_found=1, n_gold=1)
  assert asked == []
  strict = result(one, block('Name | V', 'b | 10'), strict=True)
  assert_counts(strict, 0, 0, strict_cell, n_found=1, n_gold=1)


def test_a_table_without_rows():
  # The frames are objects and numbers, and there is nothing to join.
  found = result(TWO, block('Name | V'))
  assert (found.status, *counts(found)) == ('evaluator_error', 0, 0, 0, 0, 0)
  strict = result(TWO, block('Name | V'), strict=True)
  assert (strict.status, *counts(strict)) == ('scored', 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
  ('answer', 'status'),
  [
    ('I do not know.', 'no_table'),
    ('```markdown\nnone\n```', 'evaluator_error'),
    (block('Name | V', 'a | 1', 'b | 2 | 3'), 'evaluator_error'),
  ],
)
def test_answers_that_cannot_be_read(answer, status):
  for strict in (False, True):
    found = result(TWO, answer, strict=strict)
    assert (found.status, *counts(found)) == (status, 0, 0, 0, 0, 0)
    assert found.error


@pytest.mark.parametrize(
  ('rules', 'message'),
  [
    # The values are near or not: that takes a criterion.
    ({'name': KEY, 'v': ('', 'number_near', None)}, 'criterion'),
    ({'name': KEY}, 'metric'),
  ],
)
def test_what_the_gold_lacks(rules, message):
  lacking = gold(['Name,V', 'a,10'], rules)
  answer = block('Name | V', 'a | 11')
  found = result(lacking, answer)
  assert (found.status, found.score) == ('evaluator_error', 0)
  with pytest.raises(ValueError, match=message):
    result(lacking, answer, strict=True)


def test_one_crash_costs_the_table():
  urls = gold(
    ['Name,V', 'a,https://a.org', 'b,https://b.org'], {'name': KEY, 'v': URL}
  )
  answer = block('Name | V', 'a | https://a.org', 'b | [https://b](https://b)')
  found = result(urls, answer)
  assert (found.status, found.f1_by_item) == ('evaluator_error', 0)
  strict = result(urls, answer, strict=True)
  assert_counts(strict, 0, 1, 3, n_found=2, n_gold=2)


def test_several_metrics_are_several_cells():
  twice = gold(
    ['Name,V', 'a,10', 'b,20'],
    {'name': KEY, 'v': ('', 'exact_match number_near', 0.1)},
  )
  # Row a: 1 + 1 + 1; row b, 21 of 20: 1 + 0 + 1. Five cells of four.
  answer = block('Name | V', 'a | 10', 'b | 21')
  found = result(twice, answer)
  assert_counts(found, 0, 1, 5, n_found=2, n_gold=2)
  # Even a perfect table is none by these numbers, but for the short way: the
  # frames are equal.
  found = result(twice, block('Name | V', 'a | 10', 'b | 20'))
  assert_counts(found, 1, 2, 6, n_found=2, n_gold=2)
  strict = result(twice, answer, strict=True)
  assert_counts(strict, 0, 1, 3, n_found=2, n_gold=2)


def test_no_metric_is_no_cell():
  none = gold(['Name,V', 'a,10'], {'name': KEY, 'v': ('', '', None)})
  # The row is right by its key; the cell of v is never counted.
  found = result(none, block('Name | V', 'a | 99'))
  assert_counts(found, 0, 1, 1, n_found=1, n_gold=1)


@pytest.mark.parametrize(
  ('rule', 'name'),
  [(('', 'nearly', None), 'nearly'), (('norm', 'in_match', None), 'norm')],
)
def test_names_that_stand_for_no_rule(rule, name):
  with pytest.raises(ValueError, match=f"column 'v': .*'{name}'"):
    gold(['Name,V', 'a,1'], {'v': rule})


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'required': None}, "'required' is NoneType, not list"),
    ({'unique_columns': ['x']}, "['x'] must name columns"),
    ({'unique_columns': []}, 'must name columns'),
    ({'required': ['name', 'name']}, 'names a column twice'),
    ({'eval_pipeline': {'v': 'exact_match'}}, "'v' is no object"),
    ({'eval_pipeline': {'v': {'metric': 'exact_match'}}}, 'no list of texts'),
  ],
)
def test_evaluations_that_are_none(change, words):
  evaluation = {
    'required': ['name', 'v'],
    'unique_columns': ['name'],
    'eval_pipeline': {},
  }
  with pytest.raises(ValueError) as caught:
    records.make_gold(evaluation | change, lambda _: TWO.table)
  assert words in str(caught.value)
  for name in evaluation:
    with pytest.raises(ValueError, match=f"'{name}' is missing"):
      rest = {k: v for k, v in evaluation.items() if k != name}
      records.make_gold(json.dumps(rest), lambda _: TWO.table)


def test_scoring_leaves_the_gold_table_as_it_was():
  before = TWO.table.copy()
  answer = block('Name | V', 'a | 10.5', 'b | 20')
  assert result(TWO, answer) == result(TWO, answer)
  assert TWO.table.equals(before)


ROW = st.lists(
  st.sampled_from(['a', 'b', '10', '20', '', '"', '-', '*A*', 'nan', '1|2']),
  min_size=1,
  max_size=3,
).map(' | '.join)


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.lists(ROW, max_size=5), st.booleans())
def test_no_answer_is_beyond_scoring(rows, fenced):
  answer = block('Name | V', *rows)
  if not fenced:
    answer = answer.strip('`markdown')
  official, strict = (result(TWO, answer, strict=s) for s in (False, True))
  assert all(0.0 <= number <= 1.0 for number in counts(strict))
  # Where both score, what is right is right in both: no fault of the official
  # scorer is met in these columns but keys that become equal.
  if official.status == strict.status == 'scored':
    assert strict.recall_by_row <= official.recall_by_row
