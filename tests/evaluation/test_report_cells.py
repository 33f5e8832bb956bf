import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wideseek_jax import types
from wideseek_jax.evaluation import report_cells
from wideseek_jax.tasks import metrics

GOLD = types.Table(
  ('country', 'capital', 'people'),
  (
    ('Peru', 'Lima', '1,000'),
    ('Chile', 'Santiago', '5'),
    ('Cuba', 'Havana', '7'),
  ),
)


def compare(*rows, gold=GOLD):
  answer = types.Table(gold.columns, rows)
  return report_cells.compare(answer, gold, ['country'])


def test_lines_follow_gold_and_end_with_what_is_beyond_it():
  found = compare(
    ('Atlantis', 'Po', '1'),
    ('chile', 'Lima', '5'),
    ('Peru', 'lima', '1000'),
    ('Chile', 'Santiago', '5'),
  )
  assert [(line.gold, line.marks) for line in found] == [
    (0, 'rrr'),  # 1,000 is 1000, and case does not matter
    (1, 'rwr'),
    (2, 'mmm'),
    (-1, 'xxx'),  # not in gold
    (-1, 'ddd'),  # the first Chile counts
  ]
  assert found[1].answer == ('chile', 'Lima', '5') and found[2].answer is None


def test_without_an_answer_all_is_missing():
  found = report_cells.compare(None, GOLD, ['country'])
  assert [line.marks for line in found] == ['mmm'] * 3


CELLS = st.sampled_from(['a', 'b', 'A ', '1', '1.0', ''])
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5).map(tuple)


@settings(deadline=None, max_examples=50)
@given(ROWS, ROWS)
def test_the_marks_are_the_score(gold, rows):
  """Item F1 is 2 · right / (cells of both that count)."""
  gold = types.Table(('k', 'v'), gold)
  answer = types.Table(('k', 'v'), rows)
  marks = ''.join(
    line.marks for line in report_cells.compare(answer, gold, ['k'])
  )
  counted = {mark: marks.count(mark) for mark in 'rwmx'}
  cells = 2 * (counted['r'] + counted['w']) + counted['m'] + counted['x']
  scored = metrics.table_metrics(answer, gold, ['k'])
  assert 2 * counted['r'] / cells == pytest.approx(scored['item_f1'])


def test_an_answer_is_read_as_it_is_scored():
  text = '```markdown\n| People | extra | Country | capital |\n|-|-|-|-|\n'
  table, problem = report_cells.read_answer(
    text + '| 5 | x | Chile | Lima |\n```', GOLD.columns
  )
  assert table == types.Table(GOLD.columns, (('Chile', 'Lima', '5'),))
  assert problem == ''
  table, problem = report_cells.read_answer('no table', GOLD.columns)
  assert table is None and 'no closed' in problem
  table, problem = report_cells.read_answer(
    '```markdown\n| country |\n|-|\n| Peru |\n```', GOLD.columns
  )
  assert table is None and 'required column' in problem
