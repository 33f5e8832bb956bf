"""What a judge is asked about a table, and what its replies are worth."""

import json

import pytest

from tests.evaluation.widesearch import helpers
from wideseek_jax import types
from wideseek_jax.evaluation.widesearch import scoring

block, gold, result = helpers.block, helpers.gold, helpers.result
counts, assert_counts = helpers.counts, helpers.assert_counts
TEXT, NUMBER, JUDGE, KEY, TWO = (
  helpers.TEXT,
  helpers.NUMBER,
  helpers.JUDGE,
  helpers.KEY,
  helpers.TWO,
)


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
