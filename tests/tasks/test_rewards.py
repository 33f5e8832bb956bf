import dataclasses

import numpy as np
import pytest

from wideseek_jax import types
from wideseek_jax.tasks import rewards, tables

GOLD = types.Table(
  ('country', 'capital', 'people'),
  (('France', 'Paris', '2,000'), ('Spain', 'Madrid', '3,000')),
)
WIDE = types.Task('w', 'Which?', 'wide', GOLD, ('country',))
DEEP = types.Task('d', 'Which?', 'deep', answers=('Paris', '2,000'))
RIGHT = tables.render_table(GOLD)
ONE_WRONG = RIGHT.replace('Madrid', 'Toledo')
NOTHING = 'I do not know.'


def turns(*lengths, tools=(), text='', errors=()):
  """Turns of these lengths, two read tokens before each."""
  made, position = [], 0
  for i, length in enumerate(lengths):
    start = position + 2
    position = start + length
    names = tools[i] if i < len(tools) else ()
    error = errors[i] if i < len(errors) else ''
    last = text if i == len(lengths) - 1 else ''
    made.append(types.Turn(start, position, 'stop', last, names, error=error))
  return made


def agent(index, made, answer='', failures=()):
  mask = np.zeros(made[-1].stop if made else 0, bool)
  for turn in made:
    mask[turn.start : turn.stop] = True
  return types.Trajectory(
    agent=index,
    role='subagent' if index else 'lead',
    subtask='s' if index else '',
    parent_turn=0 if index else -1,
    token_ids=np.zeros(len(mask), np.int32),
    sample_mask=mask,
    behavior_logprobs=np.zeros(len(mask), np.float32),
    turns=tuple(made),
    answer=answer,
    failures=failures,
  )


def rollout(answer, *subagents, task=WIDE, failures=(), lengths=(5, 7)):
  lead = agent(
    0,
    turns(*lengths, tools=[('create_sub_agents',)], text=answer),
    '' if failures else answer,
    failures,
  )
  return types.Rollout(task.task_id, 0, (lead, *subagents))


OPENED = agent(1, turns(3, 4, tools=[('search',), ('access',)]), 'report')
SEARCHED = agent(1, turns(3, 4, tools=[('search',), ('search',)]), 'report')


def reward(made, task=WIDE, **options):
  score = rewards.score(made, task, **options)
  summands = ('answer', 'format', 'tool', 'length')
  assert score.reward == pytest.approx(sum(score.parts[s] for s in summands))
  return score.reward


def test_the_full_reward():
  assert reward(rollout(RIGHT, OPENED)) == pytest.approx(1.15)
  assert reward(rollout(RIGHT, SEARCHED)) == pytest.approx(1.10)
  assert reward(rollout(ONE_WRONG)) == pytest.approx(5 / 6 + 0.1)
  extra = {'format_reward': 0.3, 'tool_reward': 0.2}
  assert reward(rollout(RIGHT, OPENED), **extra) == pytest.approx(1.5)


def test_the_length_penalty_is_linear_between_its_bounds():
  # Bounds 10 and 20: a longest turn of 15 costs half of the penalty.
  options = {'length_soft': 10, 'length_hard': 20, 'length_penalty': 0.4}
  expected = {9: 1.1, 10: 1.1, 15: 0.9, 20: 0.7, 99: 0.7}
  for longest, value in expected.items():
    for made in (
      rollout(RIGHT, lengths=(longest, 7)),
      rollout(RIGHT, agent(1, turns(longest), 'r')),
    ):
      assert reward(made, **options) == pytest.approx(value)
  # By default 3000 and 5000 tokens, and 0.1.
  long = rollout(RIGHT, lengths=(4500, 7))
  assert reward(long) == pytest.approx(1.1 - 0.075)


def test_no_form_no_reward():
  missing_column = tables.render_table(
    types.Table(GOLD.columns[:2], (('France', 'Paris'),))
  )
  for answer in (NOTHING, missing_column, '', f'<think>{RIGHT}'):
    score = rewards.score(rollout(answer, OPENED), WIDE)
    assert score.reward == 0
    assert score.parts['item_f1'] == score.parts['format_ok'] == 0
    assert score.parts['num_access'] == 1


def test_a_wrong_table_of_the_right_form_earns_the_form():
  wrong = RIGHT.replace('France', 'x').replace('Spain', 'y')
  assert reward(rollout(wrong)) == pytest.approx(0.1)


def test_a_failed_lead_earns_nothing():
  made = rollout(RIGHT, OPENED, failures=(types.CONTEXT_FAILED,))
  score = rewards.score(made, WIDE)
  assert score.reward == 0
  assert score.parts['format_ok'] == 1 and score.parts['lead_ok'] == 0
  assert score.parts['item_f1'] == score.parts['success'] == 0


@pytest.mark.parametrize(
  ('answer', 'value'),
  [
    ('It is \\boxed{paris}.', 1.1),
    ('\\boxed{2000}', 1.1),
    ('\\boxed{Rome}', 0.1),
    ('\\boxed{}', 0),
    ('Paris', 0),
  ],
)
def test_boxed_answers(answer, value):
  assert reward(rollout(answer, task=DEEP), DEEP) == pytest.approx(value)


def test_an_accepted_empty_text_is_not_matched_by_no_answer():
  task = dataclasses.replace(DEEP, answers=('',))
  assert reward(rollout(NOTHING, task=task), task) == 0
  score = rewards.score(rollout(NOTHING, task=task), task)
  assert score.parts['exact_match'] == 0


def test_parts_are_counted():
  failed = agent(
    2,
    turns(3, 9, tools=[(), ('search',)], errors=['bad JSON', 'tool broke']),
    failures=(types.TURN_LIMIT_FAILED,),
  )
  parts = rewards.score(rollout(ONE_WRONG, OPENED, failed), WIDE).parts
  expected = {
    'item_f1': 5 / 6,
    'row_f1': 1 / 2,
    'success': 0,
    'num_subagents': 2,
    'failed_subagents': 1,
    'lead_turns': 2,
    'subagent_turns': 4,
    'num_search': 2,
    'num_access': 1,
    'tool_errors': 1,
    'malformed_calls': 1,
    'longest_turn': 9,
    'sampled_tokens': 5 + 7 + 3 + 4 + 3 + 9,
  }
  assert {k: parts[k] for k in expected} == pytest.approx(expected)
  assert all(type(value) is float for value in parts.values())


def test_errors_of_the_data_are_raised():
  twice = types.Table(('a', 'A'), (('1', '2'),))
  broken = types.Task('w', 'Which?', 'wide', twice, ('a',))
  # Whether or not the answer has a form.
  for answer in (RIGHT, NOTHING):
    with pytest.raises(ValueError, match='the same'):
      rewards.score(rollout(answer), broken)
  with pytest.raises(ValueError, match='scored with'):
    rewards.score(rollout(RIGHT), DEEP)
  with pytest.raises(ValueError, match='length_soft'):
    rewards.score(rollout(RIGHT), WIDE, length_soft=5, length_hard=5)


def judge_all(value):
  return lambda prompts: [f'{{"1": {value}}}' for _ in prompts]


def score_judged(judge, *pairs):
  groups, tasks = [[made] for made, _ in pairs], [task for _, task in pairs]
  scores = rewards.score_groups(groups, tasks, judge=judge)
  return [score for (score,) in scores]


def test_a_judge_decides_what_rules_cannot():
  pairs = [
    (rollout(ONE_WRONG, OPENED), WIDE),
    (rollout('\\boxed{Lutetia}', task=DEEP), DEEP),
    (rollout(RIGHT), WIDE),
    (rollout(NOTHING), WIDE),
  ]
  yes = score_judged(judge_all('true'), *pairs)
  no = score_judged(judge_all('false'), *pairs)
  assert [s.reward for s in yes] == pytest.approx([1.15, 1.1, 1.1, 0])
  assert [s.reward for s in no] == pytest.approx([5 / 6 + 0.15, 0.1, 1.1, 0])
  assert [s.parts['judge_asked'] for s in yes] == [1, 1, 0, 0]
  mute = score_judged(lambda prompts: [''] * len(prompts), *pairs)
  assert [s.reward for s in mute] == [s.reward for s in no]
  assert [s.parts['judge_undecided'] for s in mute] == [1, 1, 0, 0]
  # Without a judge nothing is said of one.
  alone = rewards.score_groups([[pairs[0][0]]], [WIDE])[0][0]
  assert alone.reward == no[0].reward
  assert 'judge_asked' not in alone.parts


def test_a_failed_lead_is_judged_by_its_form_alone():
  other_name = ONE_WRONG.replace('country', 'land')
  made = rollout(other_name, failures=(types.CONTEXT_FAILED,))
  (found,) = score_judged(judge_all('1'), (made, WIDE))
  assert found.reward == 0 and found.parts['format_ok'] == 1
  # The column, not the cell.
  assert found.parts['judge_asked'] == 1
  boxed = rollout(
    '\\boxed{Lutetia}', task=DEEP, failures=(types.CONTEXT_FAILED,)
  )
  (found,) = score_judged(judge_all('true'), (boxed, DEEP))
  assert found.reward == 0 and found.parts['format_ok'] == 1
  assert found.parts['judge_asked'] == 0


def test_errors_of_a_judge_and_of_the_data_are_raised():
  def dead(prompts):
    raise types.JudgeUnavailable('gone')

  with pytest.raises(types.JudgeUnavailable):
    score_judged(dead, (rollout(ONE_WRONG), WIDE))
  # One that nobody needs may be dead.
  assert score_judged(dead, (rollout(RIGHT), WIDE))[0].reward > 1
  twice = types.Table(('a', 'A'), (('1', '2'),))
  broken = types.Task('w', 'Which?', 'wide', twice, ('a',))
  with pytest.raises(ValueError, match='the same'):
    score_judged(judge_all('true'), (rollout(RIGHT), broken))


def trained(made, task=WIDE):
  score = rewards.score(made, task)
  chosen = rewards.trained_turns(made, score)
  masks = rewards.trained_mask(made, score)
  for t, turn_mask, mask in zip(made.trajectories, chosen, masks, strict=True):
    expected = [
      i
      for turn, on in zip(t.turns, turn_mask, strict=True)
      for i in range(turn.start, turn.stop)
      if on
    ]
    assert np.flatnonzero(mask).tolist() == expected
    assert mask.shape == t.token_ids.shape
  return chosen


FULL = agent(1, turns(3, 4), failures=(types.CONTEXT_FAILED,))
RUNAWAY = agent(
  2, turns(3, 4), failures=(types.CONTEXT_FAILED, types.TURN_REPEAT_FAILED)
)
OUT_OF_TURNS = agent(3, turns(3), failures=(types.TURN_LIMIT_FAILED,))


def test_good_rollouts_train_all_agents_that_did_not_fail():
  assert trained(rollout(RIGHT, OPENED)) == ((True, True), (True, True))
  assert trained(rollout(RIGHT, OPENED, RUNAWAY, OUT_OF_TURNS)) == (
    *((True, True), (True, True)),
    *((False, False), (False,)),
  )


def test_a_failed_lead_with_a_table_trains_alone():
  made = rollout(RIGHT, OPENED, FULL, failures=(types.CONTEXT_FAILED,))
  assert trained(made) == ((True, True), (False, False), (False, False))


def test_bad_form_trains_the_final_turn_and_the_failed_agents():
  assert trained(rollout(NOTHING, OPENED)) == ((False, True), (False, False))
  assert trained(rollout(NOTHING, OPENED, FULL, OUT_OF_TURNS)) == (
    *((False, True), (False, False)),
    *((True, True), (True,)),
  )


def test_bad_form_with_runaway_turns_trains_those_instead():
  assert trained(rollout(NOTHING, FULL, RUNAWAY, OUT_OF_TURNS)) == (
    *((False, True), (False, False)),
    *((False, True), (False,)),
  )


def test_a_failed_lead_without_a_table():
  made = rollout(NOTHING, OPENED, failures=(types.TURN_LIMIT_FAILED,))
  assert trained(made) == ((True, True), (False, False))
  made = rollout(NOTHING, RUNAWAY, failures=(types.TURN_LIMIT_FAILED,))
  assert trained(made) == ((False, False), (False, True))
  # Nothing was ever sampled: nothing trains, and nothing breaks.
  made = rollout(NOTHING, failures=(types.CONTEXT_FAILED,), lengths=())
  assert trained(made) == ((),)
