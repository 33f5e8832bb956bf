import pytest

from wideseek_jax.evaluation import summaries


def row(task_id, **others):
  return {'task_id': task_id, 'language': 'en', **others}


ROWS = [
  row('a', rows='6-10', f1=0.5, success=0.0, tokens=10),
  row('a', rows='6-10', f1=1.0, success=1.0, tokens=20),
  row('b', rows='11-20', f1=0.0, success=0.0, tokens=30),
  row('b', rows='11-20', f1=0.0, success=0.0, judge_calls=4),
  row('c', exact_match=1.0),
  row('c', exact_match=1.0),
]


def test_scores_by_hand():
  found = summaries.scores(ROWS, ('f1', 'success', 'exact_match', 'none'), 2)
  # All rows are in one language: that group would say nothing new.
  assert list(found) == ['all', 'rows 6-10', 'rows 11-20']
  everything = found['all']
  assert list(everything) == ['f1', 'success', 'exact_match']
  # Tasks a and b; c has no f1. Means 0.75 and 0, best 1 and 0.
  assert everything['f1'].keys() == {'avg@2', 'max@2'}
  assert everything['f1']['avg@2']['mean'] == pytest.approx(0.375)
  assert everything['f1']['max@2']['mean'] == pytest.approx(0.5)
  assert everything['f1']['avg@2']['count'] == 2
  # One of two samples of a is a success.
  assert everything['success']['pass@1']['mean'] == pytest.approx(0.25)
  assert everything['success']['pass@2']['mean'] == pytest.approx(0.5)
  assert found['rows 6-10']['f1']['avg@2'] == {
    'mean': 0.75,
    'low': 0.75,
    'high': 0.75,
    'count': 1,
  }


def test_the_table():
  found = summaries.scores(ROWS[:2], ('f1', 'success'), 2)
  assert summaries.table(found, 2).splitlines() == [
    '| group | tasks | metric | avg@2 | max@2 | pass@1 | pass@2 |',
    '|---|---|---|---|---|---|---|',
    '| all | 1 | f1 | 75.0 [75.0, 75.0] | 100.0 [100.0, 100.0] |  |  |',
    '| all | 1 | success | 50.0 [50.0, 50.0] | 100.0 [100.0, 100.0] '
    '| 50.0 [50.0, 50.0] | 100.0 [100.0, 100.0] |',
  ]
  found = summaries.scores(ROWS[1:2], ('f1',), 1)
  assert summaries.table(found, 1).splitlines()[::2] == [
    '| group | tasks | metric | avg@1 |',
    '| all | 1 | f1 | 100.0 [100.0, 100.0] |',
  ]


def test_costs():
  found = summaries.costs(ROWS)
  assert (found['rollouts'], found['tokens'], found['judge_calls']) == (
    6,
    60,
    4,
  )
  line = summaries.cost_line(found | {'wall_seconds': 61, 'tokens': 1234567})
  assert line.startswith('6 rollouts: 1,234,567 tokens read and sampled, ')
  assert line.endswith('4 judge calls; 1 min 01 s.\n')
