import json

import pytest

from wideseek_jax.tasks import hybridqa
from wideseek_jax.tasks.pipeline import hybrid, items, stages


def _cell(text, *links):
  return [text, list(links)]


def _release(folder, rows=12):
  """A table of lakes; passages state the depth of all but the last."""
  for name in ('tables_tok', 'request_tok'):
    (folder / name).mkdir()
  table = {
    'url': 'https://en.wikipedia.org/wiki/Lakes',
    'title': 'Lakes',
    'header': [_cell('Rank'), _cell('Lake'), _cell('Depth m'), _cell('Lake')],
    'data': [
      [
        _cell(str(i)),
        _cell(f'Lake  {i}', f'/wiki/Lake_{i}'),
        _cell(str(100 + i)),
        _cell('x'),
      ]
      for i in range(rows)
    ],
    'section_title': 'Deep ones',
    'section_text': 'They are deep.',
    'uid': 'Lakes_0',
  }
  passages = {
    f'/wiki/Lake_{i}': f'Lake {i} is {100 + i} metres deep.'
    for i in range(rows - 1)
  } | {'/wiki/Other': 'not linked from here'}
  (folder / 'tables_tok' / 'Lakes_0.json').write_text(json.dumps(table))
  (folder / 'request_tok' / 'Lakes_0.json').write_text(json.dumps(passages))
  (folder / 'tables_tok' / 'Broken_0.json').write_text('{"header": [')
  (folder / 'tables_tok' / 'Ragged_0.json').write_text(
    json.dumps(table | {'data': [[_cell('a')]]})
  )
  return folder


def _question(number, **changes):
  return {
    'question_id': f'q{number}',
    'question': f'How deep is the lake {number}?',
    'table_id': 'Lakes_0',
    'answer-text': str(100 + number),
  } | changes


def test_tables_load_with_their_passages(tmp_path):
  tables, problems = hybridqa.read_tables(_release(tmp_path))
  (linked,) = tables
  # Names of columns are told apart, blanks are single.
  assert linked.table.columns == ('Rank', 'Lake', 'Depth m', 'Lake 4')
  assert linked.table.rows[3] == ('3', 'Lake 3', '103', 'x')
  assert linked.links[3] == ('/wiki/Lake_3',) and len(linked.passages) == 11
  assert [p.rsplit('/', 1)[1].split(':')[0] for p in problems] == [
    'Broken_0.json',
    'Ragged_0.json',
  ]
  pages = hybridqa.build_corpus(tables).by_url
  assert 'deep' in pages['https://en.wikipedia.org/wiki/Lake_3'].contents
  assert len(pages) == 12
  # Its names can be found, its cells cannot.
  contents = pages['https://en.wikipedia.org/wiki/Lakes#Lakes_0'].contents
  assert 'Lake 11' in contents and '103' not in contents


def test_no_folder_is_an_error(tmp_path):
  with pytest.raises(FileNotFoundError, match='tables_tok'):
    hybridqa.read_tables(tmp_path)


def test_questions_load_and_bad_ones_are_counted(tmp_path):
  path = tmp_path / 'dev.json'
  nameless = _question(2)
  del nameless['answer-text']
  path.write_text(
    json.dumps([_question(1), nameless, 'x', _question(1), _question(3)])
  )
  tasks, problems = hybridqa.read_questions(path)
  assert [task.task_id for task in tasks] == ['q1', 'q3']
  assert tasks[0].answers == ('101',)
  assert [p.split(': ')[1] for p in problems] == [
    'question 2',
    'question 3',
    'question 4',
  ]
  path.write_text('{}')
  with pytest.raises(ValueError, match='not a list'):
    hybridqa.read_questions(path)


def test_passages_are_the_second_source(tmp_path):
  tables, _ = hybridqa.read_tables(_release(tmp_path))
  (tmp_path / 'q.json').write_text(
    json.dumps([_question(1), _question(2, **{'answer-text': 'green'})])
  )
  questions, _ = hybridqa.read_questions(tmp_path / 'q.json')
  draws = {(split, kind): 9 for split in stages.SPLITS for kind in stages.KINDS}
  back_end = hybrid.HybridBackEnd(tables, questions, draws, 0)
  seeds = list(back_end.seeds())
  assert [i.kind for i in seeds] == ['wide'] * 4 + ['deep'] * 2
  asked = back_end.ask(seeds)
  assert not any(item.rejected for item in asked)
  found = {i.item_id: i for i in back_end.agree(back_end.answer(asked))}
  by_columns = {
    i.answers[0].columns: i for i in found.values() if i.kind == 'wide'
  }
  for columns, item in by_columns.items():
    assert columns[0] == 'Lake' and item.target_rows == 12
    # Of 12 rows and w columns: all keys, and 11 depths; ranks are in the names.
    right = 12 + 11 * ('Depth m' in columns) + 11 * ('Rank' in columns)
    assert item.agreement == pytest.approx(right / (12 * len(columns)))
  # 101 stands in a passage, green nowhere.
  assert {
    i.answers[0].text: i.agreement for i in found.values() if i.kind == 'deep'
  } == {'101': 1.0, 'green': 0.0}


def test_a_table_of_few_rows_is_rejected(tmp_path):
  tables, _ = hybridqa.read_tables(_release(tmp_path, rows=9))
  item = items.Item('i', 'wide', 'train', {'table': 'Lakes_0', 'draw': 0})
  (asked,) = hybrid.HybridBackEnd(tables, [], {}, 0).ask([item])
  assert asked.rejected == 'not 10 to 50 rows'
