"""Whole tables. Expected are right rows and cells of n found and m gold rows,

from which the seven numbers follow: precision = right / found, recall = right /
gold, F1 their harmonic mean; a cell's counts are rows times columns.
"""

import json

import pytest

from tests.evaluation.widesearch import helpers
from wideseek_jax import types
from wideseek_jax.evaluation.widesearch import records, scoring

block, gold, result = helpers.block, helpers.gold, helpers.result
TEXT = ('norm_str', 'exact_match', None)
NUMBER = ('extract_number', 'number_near', 0.1)
DATE = ('', 'date_near', None)
URL = ('', 'url_match', None)
JUDGE = ('', 'llm_judge', 'same entity')
# A key by this rule is joined as it is; one by TEXT is put to the judge.
KEY = ('norm_str', 'in_match', None)


def counts(found):
  """(success, right rows / found, / gold, right cells / found, / gold)."""
  for kind in ('row', 'item'):
    p, r, f1 = (
      getattr(found, f'{name}_by_{kind}')
      for name in ('precision', 'recall', 'f1')
    )
    assert f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0.0, abs=1e-12)
  return (
    found.score,
    found.precision_by_row,
    found.recall_by_row,
    found.precision_by_item,
    found.recall_by_item,
  )


def assert_counts(found, success, rows, items, *, n_found, n_gold, width=2):
  assert found.status == 'scored', found.error
  assert counts(found) == pytest.approx(
    (
      success,
      rows / n_found,
      rows / n_gold,
      items / (n_found * width),
      items / (n_gold * width),
    ),
    abs=1e-12,
  )


TWO = gold(['Name,V', 'a,10', 'b,20'], {'name': KEY, 'v': NUMBER})


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


def test_the_judge_maps_column_names():
  answer = block('Name | Value', 'a | 10', 'b | 20')
  asked = []
  replies = {('columns', None): helpers.reply('{"value": "v"}')}
  found = result(TWO, answer, replies, asked=asked)
  assert_counts(found, 1, 2, 4, n_found=2, n_gold=2)
  assert [(q.kind, q.column) for q in asked] == [('columns', None)]
  # The normalised names of the answer, then those that are required.
  assert '["name", "value"]' in asked[0].prompt
  assert '["name", "v"]' in asked[0].prompt
  # By the name as it was written nothing is renamed.
  replies = {('columns', None): helpers.reply('{"Value": "v"}')}
  assert result(TWO, answer, replies).status == 'columns_mismatch'


@pytest.mark.parametrize(
  'text',
  [
    # Two columns by one name cannot be told apart any more.
    '{"value": "v", "other": "v"}',
    # No name at all.
    '{"value": ["v"], "other": 1}',
  ],
)
def test_a_map_of_columns_that_makes_no_sense(text):
  answer = block('Name | Value | Other', 'a | 10 | 1')
  found = result(TWO, answer, {('columns', None): helpers.reply(text)})
  assert (found.status, found.score) == ('evaluator_error', 0)


KEYS = gold(['Name,V', 'Alpha,10', 'Beta,20'], {'name': TEXT, 'v': NUMBER})


def test_the_judge_maps_key_cells_before_they_are_normalised():
  answer = block('Name | V', 'A. | 10', 'BETA | 20')
  asked = []
  replies = {('keys', 'name'): helpers.reply('{"A.": "Alpha"}')}
  found = result(KEYS, answer, replies, asked=asked)
  assert_counts(found, 1, 2, 4, n_found=2, n_gold=2)
  assert '["A.", "BETA"]' in asked[0].prompt
  assert '["Alpha", "Beta"]' in asked[0].prompt
  # 'a.' stands for nothing in the table: the texts are compared letter by
  # letter.
  replies = {('keys', 'name'): helpers.reply('{"a.": "Alpha"}')}
  found = result(KEYS, answer, replies)
  assert_counts(found, 0, 1, 2, n_found=2, n_gold=2)


@pytest.mark.parametrize(
  'reply',
  [
    None,
    '',
    'A. is Alpha',
    '```json\n{"A.": "Alpha"\n```',
    # Capitals; and the last block is the one that counts.
    '```JSON\n{"A.": "Alpha"}\n```',
    '```json\n{"A.": "Alpha"}\n``` no: ```json\n{}\n```',
  ],
)
def test_a_reply_without_a_map_maps_nothing(reply):
  answer = block('Name | V', 'A. | 10', 'Beta | 20')
  found = result(KEYS, answer, {('keys', 'name'): reply})
  assert_counts(found, 0, 1, 2, n_found=2, n_gold=2)


def test_keys_of_other_metrics_are_not_put_to_the_judge():
  asked = []
  result(TWO, block('Name | V', 'a | 10'), asked=asked)
  assert asked == []
  # Nor is one without a rule.
  found = result(
    gold(['Name,V', 'a,10'], {'v': NUMBER}),
    block('Name | V', 'a | 10'),
    asked=asked,
  )
  assert asked == [] and found.score == 1


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


JUDGED = gold(
  ['Name,V', 'a,x', 'b,y', 'c,z'],
  {'name': KEY, 'v': JUDGE},
)
ANSWER = block('Name | V', 'b | yy', 'a | xx', 'c | zz')


@pytest.mark.parametrize(
  ('text', 'rows', 'items'),
  [
    ('{"idx_0": 1, "idx_1": 1, "idx_2": 1}', 3, 6),
    ('{"idx_0": 1, "idx_1": 0, "idx_2": 1}', 2, 5),
    # What is missing is 0.
    ('{"idx_0": 1}', 1, 4),
    # Values count as they are; the lowest of a row's cells is at most 1.
    ('{"idx_0": 0.5, "idx_1": 2, "idx_2": true}', 2.5, 6.5),
    # null is no number: the row is its key, the cell is nothing.
    ('{"idx_0": null, "idx_1": 1, "idx_2": 1}', 3, 5),
  ],
)
def test_verdicts(text, rows, items):
  asked = []
  replies = {('judge', 'v'): helpers.reply(text)}
  found = result(JUDGED, ANSWER, replies, asked=asked)
  success = float(rows == 3 and items == 6)
  assert_counts(found, success, rows, items, n_found=3, n_gold=3)
  # Pairs stand in the order of the gold table.
  (question,) = asked
  start = question.prompt.index('{"idx_0"')
  pairs, _ = json.JSONDecoder().raw_decode(question.prompt[start:])
  assert pairs['idx_0'] == {'response': 'xx', 'target': 'x'}
  assert pairs['idx_1'] == {'response': 'yy', 'target': 'y'}
  assert 'same entity' in question.prompt


@pytest.mark.parametrize(
  'reply', [None, '', '{"idx_0": 1}', '```json\n[1]\n```']
)
def test_a_judge_without_verdicts(reply):
  found = result(JUDGED, ANSWER, {('judge', 'v'): reply})
  assert_counts(found, 0, 0, 3, n_found=3, n_gold=3)
  strict = result(JUDGED, ANSWER, {('judge', 'v'): reply}, strict=True)
  assert (strict.status, *counts(strict)) == ('judge_error', 0, 0, 0, 0, 0)


def test_verdicts_that_are_texts_cost_the_table():
  text = '{"idx_0": "1", "idx_1": 1, "idx_2": 1}'
  replies = {('judge', 'v'): helpers.reply(text)}
  assert result(JUDGED, ANSWER, replies).status == 'evaluator_error'
  assert result(JUDGED, ANSWER, replies, strict=True).status == 'judge_error'


def test_equal_frames_are_a_success_whatever_the_judge_says():
  same = block('Name | V', 'c | z', 'a | x', 'b | y')
  no = {('judge', 'v'): helpers.reply('{"idx_0": 0, "idx_1": 0, "idx_2": 0}')}
  found = result(JUDGED, same, no)
  assert_counts(found, 1, 0, 3, n_found=3, n_gold=3)
  strict = result(JUDGED, same, no, strict=True)
  assert_counts(strict, 0, 0, 3, n_found=3, n_gold=3)
  # Not in another order of columns, which makes other frames.
  found = result(JUDGED, block('V | Name', 'x | a', 'y | b', 'z | c'), no)
  assert found.score == 0
  # Nor with aligned keys, which add a column.
  keyed = gold(['Name,V', 'a,x'], {'name': TEXT, 'v': JUDGE})
  found = result(
    keyed,
    block('Name | V', 'a | x'),
    {('judge', 'v'): helpers.reply('{"idx_0": 0}')},
  )
  assert found.score == 0


def test_questions_of_a_stage_come_together():
  wide = gold(
    ['A,B,C,D', 'a,b,c,d'],
    {'a': TEXT, 'b': JUDGE, 'c': JUDGE, 'd': JUDGE},
    keys=('a', 'b'),
  )
  stages = []

  def judge(prompts):
    stages.append(len(prompts))
    return ['```json\n{"idx_0": 1}\n```'] * len(prompts)

  answer = block('A | B | C | D', 'a | b | x | y')
  assert scoring.score(wide, answer, judge).score == 1
  assert stages == [2, 2]


def test_a_dead_judge_is_no_score():
  def judge(prompts):
    raise types.JudgeUnavailable('dead')

  for strict in (False, True):
    with pytest.raises(types.JudgeUnavailable):
      scoring.score(JUDGED, ANSWER, judge, strict=strict)


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
