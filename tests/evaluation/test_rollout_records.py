import copy
import dataclasses
import json

import numpy as np
import pytest

from tests.agents import helpers
from wideseek_jax import files, testing, types
from wideseek_jax.evaluation import rollout_records
from wideseek_jax.tasks import lines


def rollout(text='a turn'):
  turn = types.Turn(
    2, 5, 'stop', text, ('search',), tool_text='found', error='no'
  )
  return types.Rollout(
    'countries',
    3,
    (
      helpers.trajectory('done', agent=0, turns=[turn]),
      helpers.trajectory('', ('context_failed',), [turn, turn]),
    ),
  )


def record(text='a turn', **options):
  score = types.Score(0.5, {'item_f1': np.float32(0.25)})
  return rollout_records.make(
    testing.COUNTRIES, rollout(text), score, **options
  )


def test_a_record_tells_what_happened():
  found = record(
    step=7,
    advantage=np.float32(-1.5),
    trained=[[True], [False, True]],
    weights=np.array([0.5, 0.25]),
  )
  assert rollout_records.key(found) == ('countries', 3, 7)
  assert (found['reward'], found['advantage']) == (0.5, -1.5)
  assert found['parts'] == {'item_f1': 0.25}
  lead, subagent = found['agents']
  assert (lead['role'], lead['answer'], lead['tokens']) == ('lead', 'done', 3)
  assert [t['trained'] for t in subagent['turns']] == [False, True]
  assert (lead['weight'], subagent['weight']) == (0.5, 0.25)
  assert subagent['failures'] == ['context_failed']
  assert lead['turns'][0] == {
    'text': 'a turn',
    'tokens': 3,
    'finish_reason': 'stop',
    'trained': True,
    'tool_names': ['search'],
    'error': 'no',
    'tool_text': 'found',
  }
  assert rollout_records.gold_table(found) == testing.COUNTRIES.table


def test_records_come_back_from_a_file(tmp_path):
  hostile = 'lone \ud800, </script>, \x00, \u202e, \u2028'
  written = [record(hostile, step=step) for step in (0, 1)]
  files.write_jsonl(tmp_path / 'r.jsonl', written)
  with (tmp_path / 'r.jsonl').open('a') as file:
    file.write(json.dumps(written[0]) + '\n{"task_id": "countr')
  found, problems = lines.read(
    tmp_path / 'r.jsonl', rollout_records.parse, key=rollout_records.key
  )
  assert found == written
  assert [p.split(':')[1] for p in problems] == ['3', '4']  # twice, and torn
  text = found[0]['agents'][0]['turns'][0]['text']
  assert text == hostile.replace('\ud800', '\\ud800')


def test_a_group_has_its_advantages_and_weights():
  good = dataclasses.replace(rollout(), index=0)
  scores = [
    types.Score(1.0, {'format_ok': 1.0}),
    types.Score(0.0, {'format_ok': 0.0}),
  ]
  groups = [[good, rollout()]]
  first, second = rollout_records.of_groups(
    [testing.COUNTRIES], groups, [scores], step=2, advantages=[[1.0, -1.0]]
  )
  assert [first['advantage'], second['advantage']] == [1.0, -1.0]
  # Of good form: the turns of agents that did not fail. Of bad form: the lead's
  # last turn, and those of agents that failed. A rollout has 1/2 to give.
  weights = [[a['weight'] for a in r['agents']] for r in (first, second)]
  assert weights == [[0.5, 0.0], [0.25, 0.25]]
  trained = [a['turns'][0]['trained'] for a in first['agents']]
  assert trained == [True, False]
  (untrained, _) = rollout_records.of_groups(
    [testing.COUNTRIES],
    groups,
    [scores],
    advantages=[[1.0, -1.0]],
    roles=('subagent',),
  )
  assert [a['weight'] for a in untrained['agents']] == [0.0, 0.0]
  (only, _) = rollout_records.of_groups([testing.COUNTRIES], groups, [scores])
  assert only['advantage'] is only['agents'][0]['weight'] is None


def test_a_deep_task_has_no_table():
  task = types.Task('deep', 'Who?', 'deep', answers=('she',))
  found = rollout_records.make(task, rollout(), types.Score(0.0, {}))
  assert rollout_records.gold_table(rollout_records.parse(found)) is None
  assert found['task']['answers'] == ['she']


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    (('task_id',), None, 'task_id'),
    (('sample',), '3', 'sample'),
    (('parts', 'item_f1'), 'x', 'no number'),
    (('task', 'rows'), [['one']], '1 cells of 2'),
    (('task', 'kind'), 'broad', 'broad'),
    (('task', 'unique_columns'), ['nation'], 'nation'),
    (('task', 'answers'), [1], 'no list of texts'),
    (('agents',), [], 'no agents'),
    (('agents', 0), 'x', 'no object'),
    (('agents', 0, 'weight'), 'x', 'weight'),
    (('agents', 0, 'failures'), 'x', 'failures'),
    (('agents', 1, 'turns', 1, 'text'), 1, 'text'),
    (('agents', 1, 'turns', 1), None, 'no object'),
  ],
)
def test_what_is_no_record_is_named(path, value, message):
  found = rollout_records.parse(copy.deepcopy(record()))
  place = found
  for name in path[:-1]:
    place = place[name]
  place[path[-1]] = value
  with pytest.raises(ValueError, match=message):
    rollout_records.parse(found)
