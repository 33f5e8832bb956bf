import json

import pytest

from tests.agents import helpers
from tests.evaluation.widesearch import test_released as files_of
from wideseek_jax import types
from wideseek_jax.evaluation import benchmarks, qa


def attempt(task_id, answer, **parts):
  return benchmarks.Attempt(task_id, 0, answer, parts)


def reply(text):
  return lambda prompts: [f'```json\n{text}\n```'] * len(prompts)


TABLE = (
  '```markdown\n| Name | Points |\n|---|---|\n| a | 7 |\n| NA | 1.5 |\n```'
)


def test_widesearch_by_its_official_score(tmp_path):
  path = files_of.write(tmp_path / 't.jsonl', files_of.QUERY, {'query': 'x'})
  found = benchmarks.widesearch(path)
  assert [task.task_id for task in found.tasks] == ['ws_en_001']
  (problem,) = found.problems
  assert problem.startswith(f'{path}:2: ') and 'instance_id' in problem
  attempts = [attempt('ws_en_001', TABLE), attempt('ws_en_001', '')]
  # The judge tells that Points means v; it is asked for the first alone.
  (first, asked), (second, none) = found.score(
    attempts, reply('{"points": "v"}')
  )
  assert (first['f1_by_item'], first['score'], asked) == (1.0, 1.0, 1)
  assert (second['status'], second['f1_by_item'], none) == ('no_table', 0.0, 0)
  ((alone, _),) = found.score(attempts[:1], None)
  assert alone['status'] == 'columns_mismatch'
  assert set(found.metrics) <= first.keys()


def write_sets(folder):
  for name in ('nq', 'musique'):
    path = folder / qa.FOLDERS[name] / 'test.jsonl'
    path.parent.mkdir()
    path.write_text(json.dumps({'question': 'Who?', 'answer': 'she'}) + '\n')


def test_qa_sets(tmp_path):
  write_sets(tmp_path)
  found = benchmarks.questions(qa.released_files(tmp_path))
  assert [task.task_id for task in found.tasks] == ['nq/1', 'musique/1']
  assert benchmarks.labels(found.tasks[1])['set'] == 'musique'
  attempts = [attempt('nq/1', r'\boxed{She}'), attempt('musique/1', 'she')]
  attempts.append(attempt('nq/1', r'\boxed{her}'))
  ((right, _), (no_box, _), (said, asked)) = found.score(
    attempts, lambda prompts: ['{"1": true}'] * len(prompts)
  )
  assert (right['judge'], right['exact_match'], right['f1']) == (1.0, 1.0, 1.0)
  assert no_box['judge'] == 0.0
  assert (said['judge'], said['exact_match'], asked) == (1.0, 0.0, 1)
  assert found.score(attempts[:1], None) == [({'exact_match': 1, 'f1': 1}, 0)]


def test_a_qa_file_has_the_name_of_its_folder(tmp_path):
  write_sets(tmp_path)
  path = tmp_path / qa.FOLDERS['nq'] / 'test.jsonl'
  assert qa.released_files(path) == {'nq': path}
  with pytest.raises(FileNotFoundError, match='NQ_rand1000'):
    qa.released_files(path.parent)


def test_facts_without_and_with_a_judge():
  deep = types.Task('d', 'Who?', 'deep', answers=('she',))
  found = benchmarks.facts([helpers.TASK, deep])
  answer = helpers.ANSWER.replace('Paris', 'the French capital')
  attempts = [
    attempt('cities', answer, item_f1=0.25, turns=3.0),
    attempt('d', r'\boxed{her}', exact_match=0.0),
  ]
  assert found.score(attempts, None) == [
    ({'item_f1': 0.25, 'turns': 3.0}, 0),
    ({'exact_match': 0.0}, 0),
  ]
  yes = lambda prompts: ['{"1": true}'] * len(prompts)  # noqa: E731
  (table, asked), (boxed, one) = found.score(attempts, yes)
  assert (table['item_f1'], table['turns'], asked) == (1.0, 3.0, 1)
  assert (boxed['exact_match'], one) == (1.0, 1)
  assert found.metrics == (
    *('item_f1', 'row_f1', 'success'),
    *('exact_match', 'format_ok'),
  )


@pytest.mark.parametrize(
  ('rows', 'size'), [(1, '1-5'), (5, '1-5'), (6, '6-10'), (51, '51+')]
)
def test_sizes(rows, size):
  table = types.Table(('a',), tuple((str(i),) for i in range(rows)))
  task = types.Task('t', 'q', 'wide', table, ('a',), language='zh')
  assert benchmarks.labels(task) == {'language': 'zh', 'rows': size}
