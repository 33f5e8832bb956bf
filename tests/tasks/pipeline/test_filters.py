import pytest

from wideseek_jax import types
from wideseek_jax.tasks.pipeline import filters
from wideseek_jax.tools import corpus, local, search


def _table(*rows, columns=('country', 'capital', 'area')):
  return types.Table(columns, rows)


def _agree(first, other, keys=('country',)):
  return filters.compare_tables(first, other, keys)[0]


def test_agreement_counts_cells_of_the_rows_of_either_table():
  first = _table(('Peru', 'Lima', '1'), ('Chad', "N'Djamena", '2'))
  assert _agree(first, first) == 1
  # One of six cells differs.
  other = _table(('Peru', 'Lima', '1'), ('Chad', "N'Djamena", '3'))
  assert _agree(first, other) == pytest.approx(5 / 6)
  # Of three rows one is in both: 3 of 9 cells, whatever the order.
  other = _table(('Mali', 'Bamako', '1'), ('PERU', 'Lima', '1.0'))
  assert _agree(first, other) == _agree(other, first) == pytest.approx(3 / 9)


def test_agreement_forgives_spelling_and_nothing_else():
  first = _table(('Peru', 'Bogotá', '1,234'))
  assert _agree(first, _table(('peru', 'BOGOTA', '1234'))) == 1
  # Two empty cells do not agree: neither source knows.
  empty = _table(('Peru', '', '1234'))
  assert _agree(empty, empty) == pytest.approx(2 / 3)
  assert _agree(first, _table(('Peru', 'x'), columns=('country', 'y'))) == 0


def test_disagreements_say_what_each_source_has():
  first = _table(('Peru', 'Lima', '1'), ('Chad', 'x', '2'))
  other = _table(('Peru', 'Lima', '9'), ('Mali', 'y', ''))
  share, disputed = filters.compare_tables(first, other, ('country',))
  # Peru's key and capital, of three rows.
  assert share == pytest.approx(2 / 9)
  assert sorted(disputed) == [
    'Chad: in one answer only',
    'Mali: in one answer only',
    'Peru, area: 1 or 9',
  ]


def _web(*contents):
  pages = corpus.Corpus(
    tuple(
      types.Page(f'p/{i}', f'T{i}', text) for i, text in enumerate(contents)
    )
  )
  return filters.Hardness(local.LocalTools(pages, search.SearchIndex(pages)))


def test_a_question_is_easy_if_one_page_or_one_search_holds_its_answer():
  # Ten pages of the word, so that a search for it cannot bring all.
  web = _web(
    'lake: Blue\ndepth 7',
    'lake: Green\ndepth 70',
    *(f'lake: number {i}' for i in range(10, 20)),
    'other: 99',
  )
  assert web.easy('lake Blue', ['Blue', '7']) == 'one page answers it'
  both = web.easy('lake Blue or Green', ['Blue', '7', 'Green', '70'])
  assert both == 'one search answers it'
  # 99 stands on a page that these words do not find; 0 is a part of 70.
  assert web.easy('lake Blue', ['Blue', '99']) == ''
  assert web.easy('lake Green', ['Green', '0']) == ''


def _task(task_id, question, rows=(), entities=()):
  return types.Task(
    task_id,
    question,
    'wide',
    types.Table(('k', 'v'), tuple(rows) or ((task_id, task_id),)),
    ('k',),
    metadata={'entities': [list(e) for e in entities]},
  )


def test_leaks_are_equal_questions_rows_and_things():
  guarded = [_task('t', 'Which?', [('a', '1'), ('b', '2')], [('city', 'Ur')])]
  trained = [
    _task('fine', 'What?', [('a', '2'), ('c', '1')], [('river', 'Ur')]),
    _task('question', 'WHICH'),
    _task('row', 'How?', [('A', '1.0')]),
    _task('thing', 'Where?', entities=[('city', 'Ur')]),
  ]
  assert filters.leaks(guarded, trained) == {
    'question': 1,
    'row': 1,
    'thing': 1,
  }
