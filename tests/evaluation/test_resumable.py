import dataclasses
import json

import pytest

from tests.agents import helpers
from wideseek_jax import testing, types
from wideseek_jax.agents import rollout, scripted
from wideseek_jax.evaluation import benchmarks, resumable, summaries
from wideseek_jax.tasks import tables

TASKS = [
  dataclasses.replace(helpers.TASK, task_id='a'),
  dataclasses.replace(helpers.TASK, task_id='b', language='zh'),
  types.Task('c', 'Who?', 'deep', answers=('she',)),
]
FACTS = benchmarks.facts(TASKS)


class Killed(Exception):
  pass


def respond(messages, key):
  """Answers that depend on the address alone, some of them right."""
  gold = helpers.TASK.table
  if 'Who?' in messages[-1][1]:
    return r'\boxed{she}' if sum(key) % 2 else r'\boxed{he}'
  rows = gold.rows[: 1 + sum(key) % 2]
  return tables.render_table(types.Table(gold.columns, rows))


def evaluate(folder, *, stop=None, samples=2, benchmark=FACTS, judge=None):
  """Killed after `stop` rollouts; stop=0 says that none is to be made."""
  ended = []

  def roll(places, on_rollout):
    assert stop != 0, 'nothing is missing'

    def hand_out(found):
      on_rollout(found)
      ended.append(found)
      if len(ended) == stop:
        raise Killed

    rollout.rollouts(
      scripted.ScriptedEngine(helpers.TOKENIZER, respond),
      helpers.TOKENIZER,
      helpers.Tools(),
      places,
      on_rollout=hand_out,
      prompt_style='compact',
      workflow='single',
    )

  return resumable.evaluate(
    benchmark, folder, roll, samples=samples, reward={}, judge=judge
  )


def numbers(found):
  return [
    {k: v for k, v in row.items() if k != 'wall_seconds'} for row in found.rows
  ]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  return evaluate(tmp_path_factory.mktemp('whole'))


def test_an_evaluation(whole, tmp_path):
  assert not whole.problems
  assert [(row['task_id'], row['sample']) for row in whole.rows] == [
    (task_id, i) for task_id in 'abc' for i in range(2)
  ]
  first, last = whole.rows[0], whole.rows[-1]
  assert (first['language'], first['rows']) == ('en', '1-5')
  assert 'rows' not in last and 'item_f1' not in last
  # One or both of two rows: F1 of 2 · 1 / (1 + 2), or 1.
  assert {row['item_f1'] for row in whole.rows[:4]} <= {2 / 3, 1.0}
  assert len({row['item_f1'] for row in whole.rows[:4]}) == 2
  assert {row['exact_match'] for row in whole.rows[4:]} == {0.0, 1.0}
  assert all(row['tokens'] > row['sampled_tokens'] > 0 for row in whole.rows)


@pytest.mark.parametrize('stop', range(1, 7))
def test_killed_anywhere_it_goes_on_and_ends_the_same(stop, whole, tmp_path):
  with pytest.raises(Killed):
    evaluate(tmp_path, stop=stop)
  for name in (resumable.ROLLOUTS, resumable.RESULTS):
    lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
    if lines:
      lines[-1] = lines[-1][: len(lines[-1]) // 2]
    (tmp_path / name).write_bytes(b''.join(lines))
  resumed = evaluate(tmp_path)
  assert numbers(resumed) == numbers(whole)
  assert not resumed.problems
  again = evaluate(tmp_path, stop=0)
  assert again.rows == resumed.rows and again.attempts == resumed.attempts
  assert summaries.scores(again.rows, FACTS.metrics, 2) == summaries.scores(
    whole.rows, FACTS.metrics, 2
  )
  for name in (resumable.ROLLOUTS, resumable.RESULTS):
    assert len((tmp_path / name).read_text().splitlines()) == 6


def test_more_samples_are_added_to_those_there(whole, tmp_path):
  one = evaluate(tmp_path, samples=1)
  two = evaluate(tmp_path)
  assert two.rows[::2] == one.rows and numbers(two) == numbers(whole)
  assert evaluate(tmp_path, samples=1, stop=0).rows == one.rows


def test_a_dead_judge_loses_no_rollout(tmp_path):
  def judge(prompts):
    raise types.JudgeUnavailable('gone')

  table = types.Table(('Land', 'City'), (('Norland', 'Norville'),))
  task = dataclasses.replace(TASKS[0], table=table, unique_columns=('Land',))
  benchmark = benchmarks.facts([task])
  with pytest.raises(types.JudgeUnavailable):
    evaluate(tmp_path, samples=1, benchmark=benchmark, judge=judge)
  assert (tmp_path / resumable.RESULTS).read_text() == ''
  found = evaluate(
    tmp_path,
    samples=1,
    stop=0,
    benchmark=benchmark,
    judge=lambda prompts: ['hm'] * len(prompts),
  )
  assert found.rows[0]['judge_calls'] > 0


def test_lines_that_cannot_be_used_are_named_and_made_again(whole, tmp_path):
  evaluate(tmp_path)
  path = tmp_path / resumable.ROLLOUTS
  lines = path.read_text().splitlines()
  records = [json.loads(line) for line in lines]
  for place, change in enumerate([{'task_id': 'other'}, {'sample': None}]):
    lines[place] = json.dumps(records[place] | change)
  lines[2] = lines[2][:50]
  # Of another question under the same id.
  lines[3] = lines[3].replace('Which capitals?', 'Which rivers?')
  lines[5] = lines[4]
  path.write_text('\n'.join(lines) + '\n')
  (tmp_path / resumable.RESULTS).unlink()
  found = evaluate(tmp_path)
  assert numbers(found) == numbers(whole)
  words = ['not in this task set', 'sample', 'half of one', 'not in', 'too']
  for problem, number, word in zip(
    found.problems, (1, 2, 3, 4, 6), words, strict=True
  ):
    assert problem.startswith(f'{path}:{number}: ') and word in problem


def test_a_folder_holds_one_evaluation(tmp_path):
  resumable.claim(tmp_path / 'new', {'policy': 'a', 'sizes': (1, 2)})
  resumable.claim(tmp_path / 'new', {'policy': 'a', 'sizes': (1, 2)})
  with pytest.raises(FileExistsError, match="with policy 'a', not 'b'"):
    resumable.claim(tmp_path / 'new', {'policy': 'b', 'sizes': (1, 2)})
  (tmp_path / resumable.RESULTS).write_text('kept')
  with pytest.raises(FileExistsError, match='results already'):
    resumable.claim(tmp_path, {})
  assert (tmp_path / resumable.RESULTS).read_text() == 'kept'


def test_a_lost_rollout_is_made_again_and_its_score_stays(tmp_path):
  before = evaluate(tmp_path)
  path = tmp_path / resumable.ROLLOUTS
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[1:]))
  assert evaluate(tmp_path).rows == before.rows
  assert not evaluate(tmp_path, stop=0).problems


def test_one_process_at_a_time(tmp_path):
  def roll(places, on_rollout):
    with pytest.raises(BlockingIOError, match='another process'):
      evaluate(tmp_path)
    raise Killed

  for _ in range(2):  # Whoever was killed holds it no more.
    with pytest.raises(Killed):
      resumable.evaluate(FACTS, tmp_path, roll, samples=1, reward={})


def test_a_hostile_answer_survives_the_file(tmp_path):
  text = '\ud800 \x00 \u2028 </script> \\boxed{she}'
  task = types.Task('c', 'Who \ud800?', 'deep', answers=('she',))

  def roll(places, on_rollout):
    trajectory = dataclasses.replace(
      testing.trajectory([0, 1]),
      answer=text,
      turns=(types.Turn(1, 2, 'stop', text),),
    )
    on_rollout(types.Rollout('c', 0, (trajectory,)))

  for _ in range(2):
    found = resumable.evaluate(
      benchmarks.facts([task]), tmp_path, roll, samples=1, reward={}
    )
    roll = None  # What is there is read.
    assert found.rows[0]['exact_match'] == 1.0 and not found.problems
