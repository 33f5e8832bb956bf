import pytest

from wideseek_jax import types
from wideseek_jax.tasks import datasets

_WIDE = types.Task(
  task_id='a',
  question='List every läke. Columns: lake, depth m.',
  kind='wide',
  table=types.Table(('lake', 'depth m'), (('Blue', '3'), ('Grün', '4'))),
  unique_columns=('lake',),
  metadata={'split': 'test', 'num_rows': 2, 'names': ['Blue', 'Grün']},
)
_DEEP = types.Task(
  task_id='b', question='?', kind='deep', answers=('x', 'y'), language='zh'
)


def test_tasks_load_as_they_were_saved(tmp_path):
  path = tmp_path / 'deep' / 'tasks.jsonl'
  datasets.save_tasks(path, [_WIDE, _DEEP])
  assert datasets.load_tasks(path) == [_WIDE, _DEEP]
  assert list(path.parent.iterdir()) == [path]


def test_failing_save_leaves_the_old_file(tmp_path):
  path = tmp_path / 'tasks.jsonl'
  datasets.save_tasks(path, [_WIDE])
  bad = types.Task('c', '?', 'deep', answers=('x',), metadata={'a': object()})
  with pytest.raises(TypeError):
    datasets.save_tasks(path, [_DEEP, bad])
  assert datasets.load_tasks(path) == [_WIDE]


@pytest.mark.parametrize(
  'line',
  [
    '{"task_id": "c"',
    '',
    '[]',
    '3',
    '{"task_id": "c", "question": "?", "kind": "deep"}',
    '{"task_id": "c", "question": "?", "kind": "wide"}',
    '{"task_id": "c", "question": "?", "kind": "deep", "answer": ["x"]}',
    '{"task_id": "c", "question": "?", "kind": "wide", '
    '"unique_columns": ["a"], "table": {"columns": ["a"]}}',
    '{"task_id": "c", "question": "?", "kind": "wide", '
    '"unique_columns": ["a"], "table": {"columns": ["a"], "rows": [[]]}}',
    '{"task_id": "c", "question": "?", "kind": "tall", "answers": ["x"]}',
    '{"task_id": "c", "question": "?", "kind": "deep", "answers": "Lima"}',
    '{"task_id": "c", "question": "?", "kind": "deep", "answers": [3]}',
  ],
)
def test_bad_line_is_named(tmp_path, line):
  path = tmp_path / 'tasks.jsonl'
  datasets.save_tasks(path, [_WIDE])
  with path.open('a', encoding='utf-8') as file:
    file.write(line + '\n')
  with pytest.raises(ValueError, match=r'tasks\.jsonl:2: not a task .*; '):
    datasets.load_tasks(path)


def test_id_that_comes_twice_is_named(tmp_path):
  path = tmp_path / 'tasks.jsonl'
  datasets.save_tasks(path, [_WIDE, _DEEP, _WIDE])
  with pytest.raises(ValueError, match=r"jsonl:3: .* the id 'a' too"):
    datasets.load_tasks(path)


def test_missing_and_empty_files_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file of tasks'):
    datasets.load_tasks(tmp_path / 'none.jsonl')
  path = tmp_path / 'tasks.jsonl'
  path.write_text('')
  with pytest.raises(ValueError, match='holds no task'):
    datasets.load_tasks(path)
