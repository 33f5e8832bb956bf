import json

import pandas as pd
import pytest

from tests.evaluation.widesearch import helpers
from wideseek_jax.evaluation.widesearch import released

EVALUATION = {
  'required': ['name', 'v'],
  'unique_columns': ['name'],
  'eval_pipeline': {'v': {'metric': ['exact_match']}},
}
# As the release has it: the evaluation is JSON inside of JSON.
QUERY = {
  'instance_id': 'ws_en_001',
  'query': 'List them.',
  'language': 'en',
  'answer': '| Name | V |\n|--|--|\n| a | 007 |\n| NA | 1.50 |',
  'unique_columns': ['name'],
  'evaluation': json.dumps(EVALUATION),
}


def write(path, *records):
  path.write_text('\n'.join(map(json.dumps, records)), encoding='utf-8')
  return path


def test_a_query(tmp_path):
  path = write(tmp_path / 'test.jsonl', QUERY)
  (query,), problems = released.read_queries(path)
  assert not problems
  task = query.task
  assert (task.task_id, task.question) == ('ws_en_001', 'List them.')
  assert (task.kind, task.language) == ('wide', 'en')
  assert task.unique_columns == ('name',)
  # Cells as they were written for the agents' reward, as pandas types them
  # for the official score.
  assert task.table.columns == ('name', 'v')
  assert task.table.rows == (('a', '007'), ('NA', '1.50'))
  assert query.gold.table['v'].tolist() == [7.0, 1.5]
  assert query.gold.table['name'].isna().tolist() == [False, True]
  found = helpers.result(
    query.gold, helpers.block('Name | V', 'a | 7', ' | 1.5')
  )
  assert found.score == 1.0


def test_gold_tables_of_their_own(tmp_path):
  query = {k: v for k, v in QUERY.items() if k != 'answer'}
  query |= {'evaluation': EVALUATION}
  path = write(tmp_path / 'test.jsonl', query)
  text = '\ufeffV,Extra,Name\n007,x,a\n1.50,,NA\n'
  (tmp_path / 'ws_en_001.csv').write_text(text, encoding='utf-8')
  (from_folder,), problems = released.read_queries(path, tmp_path)
  assert not problems
  assert from_folder.task.table.columns == ('name', 'v')
  assert from_folder.task.table.rows == (('a', '007'), ('NA', '1.50'))
  (tmp_path / 'with_answer.jsonl').write_text(json.dumps(QUERY))
  (other,), _ = released.read_queries(tmp_path / 'with_answer.jsonl')
  assert from_folder.gold.table.equals(other.gold.table)


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'query': None}, "'query' is NoneType"),
    ({'evaluation': '{"required": '}, 'Expecting value'),
    ({'evaluation': '[]'}, 'evaluation is no object'),
    ({'answer': 'no table'}, 'no cell border'),
    ({'answer': helpers.block('Name | V')}, 'no rows'),
    ({'answer': helpers.block('Name | W', 'a | 1')}, "no column 'v'"),
    ({'answer': helpers.block('Name | V', 'a')}, 'Row 1 has 1 cells'),
    ({'answer': helpers.block('V | v | Name', '1 | 1 | a')}, 'are the same'),
    ({'instance_id': '../x'}, 'file name'),
  ],
)
def test_lines_that_are_no_query(tmp_path, change, words):
  path = write(tmp_path / 'test.jsonl', QUERY | change, QUERY, QUERY)
  (query,), problems = released.read_queries(path)
  assert query.task.task_id == 'ws_en_001'
  first, third = problems
  assert first.startswith(f'{path}:1: ') and words in first
  assert third.startswith(f'{path}:3: ') and "the id 'ws_en_001'" in third


def test_a_gold_table_that_is_not_there(tmp_path):
  path = write(tmp_path / 'test.jsonl', QUERY)
  queries, (problem,) = released.read_queries(path, tmp_path)
  assert not queries and 'ws_en_001.csv' in problem


def test_strict_names_equal_keys(tmp_path):
  answer = helpers.block('Name | V', 'a | 1', 'a | 2')
  path = write(tmp_path / 'test.jsonl', QUERY | {'answer': answer})
  assert len(released.read_queries(path)[0]) == 1
  queries, (problem,) = released.read_queries(path, strict=True)
  assert not queries and "the key ['a']" in problem


RESPONSES = [
  released.Response('ws_en_001', '| 表 | "x" |\n\\', [{'role': 'user'}], 0),
  released.Response('ws_en_001', 'second', None, 1),
  released.Response('ws_zh_001', ''),
]


def test_responses_there_and_back(tmp_path):
  path = tmp_path / 'responses.jsonl'
  released.write_responses(path, RESPONSES)
  found = released.read_responses(path, ['ws_en_001', 'ws_zh_001'])
  assert found == (RESPONSES, [])


def test_responses_as_the_official_loader_reads_them(tmp_path):
  name = released.response_file('m', 'ws_en_001', 0)
  assert name == 'm_ws_en_001_0_response.jsonl'
  released.write_responses(tmp_path / name, RESPONSES[:1])
  # What it calls, and what it hands to its own record.
  (row,) = pd.read_json(tmp_path / name, lines=True).to_dict(orient='records')
  assert released.Response(**row) == RESPONSES[0]


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('{"instance_id": "ws_en_001", "resp', 'half'),
    ('{"instance_id": "ws_fr_001", "response": ""}', "'ws_fr_001', which"),
    ('{"instance_id": "ws_en_001"}', "'response' is missing"),
    (
      '{"instance_id": "ws_en_001", "response": "", "trial_idx": "0"}',
      "'trial_idx' is str",
    ),
    (
      '{"instance_id": "ws_en_001", "response": "", "trial_idx": 1}',
      "('ws_en_001', 1)",
    ),
  ],
)
def test_lines_that_are_no_response(tmp_path, line, words):
  path = tmp_path / 'responses.jsonl'
  released.write_responses(path, RESPONSES)
  path.write_text(path.read_text() + line)
  found, (problem,) = released.read_responses(path, ['ws_en_001', 'ws_zh_001'])
  assert found == RESPONSES
  assert problem.startswith(f'{path}:4: ') and words in problem


def test_trials_of_a_folder(tmp_path):
  def put(name, *responses):
    released.write_responses(tmp_path / name, responses)

  put('m_a_1_response.jsonl', released.Response('a', 'second'))
  put('m_a_0_response.jsonl', released.Response('a', 'first', trial_idx=0))
  put('n_a_0_response.jsonl', released.Response('a', 'again', trial_idx=0))
  put('m_x_0_response.jsonl', released.Response('x', 'of another set'))
  put('m_b_response.jsonl', released.Response('b', 'alone'))
  put('notes.jsonl', released.Response('b', 'no answer'))
  found, problems = released.read_trials(tmp_path, ['a', 'b'])
  assert {k: [r.response for r in v] for k, v in found.items()} == {
    'a': ['first', 'second'],
    'b': ['alone'],
  }
  assert 'm_x_0_response.jsonl:1: ' in problems[0] and "'x'" in problems[0]
  assert 'n_a_0_response.jsonl: ' in problems[1] and "'a'" in problems[1]
  assert len(problems) == 2
  one, none = released.read_trials(tmp_path / 'notes.jsonl', ['b'])
  assert one['b'][0].response == 'no answer' and not none
  (tmp_path / 'empty').mkdir()
  for name, words in (('empty', r'no file \*_resp'), ('nowhere', 'nowhere')):
    with pytest.raises(FileNotFoundError, match=words):
      released.read_trials(tmp_path / name, ['a'])
