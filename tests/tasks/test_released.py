import json

from wideseek_jax import types
from wideseek_jax.tasks import datasets, released

_TABLE = '| City | Area km2 |\n|---|---|\n| Ur | 1 |\n| Uruk | 2 |'
_ROWS = (('Ur', '1'), ('Uruk', '2'))


def _write(path, *records):
  path.write_text(
    ''.join(
      (r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + '\n'
      for r in records
    ),
    encoding='utf-8',
  )
  return path


def test_a_hybrid_file_gives_tables_and_short_answers(tmp_path):
  wide = {
    'question': 'Cities?',
    'answer': f'```markdown\n{_TABLE}\n```',
    'is_markdown': True,
    'unique_columns': ['city'],
    'instance_id': 'w1',
    'language': 'zh',
  }
  # A deep line of hybrid_20k has the fields of a wide one, empty.
  deep = {
    'question': 'Who?',
    'answer': ['Gilgamesh', 'Bilgames'],
    'is_markdown': False,
    'unique_columns': [],
    'instance_id': 'd1',
  }
  path = _write(tmp_path / 'hybrid_20k.jsonl', wide, deep)
  tasks, problems = released.read_tasks(path)
  assert not problems
  assert tasks == [
    types.Task(
      'w1',
      'Cities?',
      'wide',
      types.Table(('City', 'Area km2'), _ROWS),
      # By the name that the table gives the column.
      ('City',),
      language='zh',
    ),
    types.Task('d1', 'Who?', 'deep', answers=('Gilgamesh', 'Bilgames')),
  ]


def test_width_and_depth_files_have_no_mark_of_their_kind(tmp_path):
  width = _write(
    tmp_path / 'width_20k.jsonl',
    {'question': 'A?', 'answer': _TABLE, 'unique_columns': ['City']},
  )
  depth = _write(
    tmp_path / 'depth_20k.jsonl',
    {'qid': 7, 'question': 'B?', 'answer': 3, 'aug_answer': ['three', '3']},
  )
  (wide,), _ = released.read_tasks(width, 'width')
  (deep,), _ = released.read_tasks(depth)
  assert wide.task_id == 'width/1' and wide.table.rows == _ROWS
  assert deep.task_id == '7' and deep.answers == ('3', 'three')


def test_a_benchmark_line_takes_its_columns_from_the_evaluation(tmp_path):
  record = {
    'instance_id': 'ws_en_001',
    'query': 'Cities?',
    'language': 'en',
    'answer': _TABLE,
    # As JSON inside of JSON; required leaves out a column of the gold.
    'evaluation': json.dumps(
      {'unique_columns': ['city'], 'required': ['areakm2', 'city']}
    ),
  }
  path = _write(tmp_path / 'test.jsonl', record)
  (task,), problems = released.read_tasks(path)
  assert not problems
  assert task.table.columns == ('areakm2', 'city')
  assert task.table.rows[0] == ('1', 'Ur') and task.unique_columns == ('city',)
  (tmp_path / 'gold').mkdir()
  (tmp_path / 'gold' / 'ws_en_001.csv').write_text('\ufeffCity,Area km2\nX,9\n')
  (task,), _ = released.read_tasks(path, gold_folder=tmp_path / 'gold')
  assert task.table.rows == (('9', 'X'),)


def test_every_broken_line_is_named_and_counted(tmp_path):
  good = {'question': 'B?', 'answer': 'b'}
  path = _write(
    tmp_path / 'x.jsonl',
    good,
    '{"question": "half',
    {'question': 'C?'},
    '',
    {'question': 'D?', 'answer': 'no table', 'unique_columns': ['a']},
    {'question': 'E?', 'answer': _TABLE, 'unique_columns': ['mayor']},
    {'question': 'F?', 'answer': []},
    {'question': 'G?', 'answer': 'g', 'id': 1},
  )
  tasks, problems = released.read_tasks(path)
  # The id 1 is that of the first line, which has none of its own.
  assert [task.question for task in tasks] == ['B?']
  assert len(problems) == 6
  for number, problem in zip((2, 3, 5, 6, 7, 8), problems, strict=True):
    assert problem.startswith(f'{path}:{number}: ')
  assert 'mayor' in problems[3]


def test_tasks_of_this_project_are_read_too(tmp_path):
  task = types.Task(
    'a', '?', 'deep', answers=('x',), metadata={'split': 'test'}
  )
  datasets.save_tasks(tmp_path / 'a.jsonl', [task])
  assert released.read_tasks(tmp_path / 'a.jsonl') == ([task], [])
