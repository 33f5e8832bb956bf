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


def turns(*lengths, tools=(), text=''):
  """Turns of these lengths, two read tokens before each."""
  made, position = [], 0
  for i, length in enumerate(lengths):
    start = position + 2
    position = start + length
    names = tools[i] if i < len(tools) else ()
    last = text if i == len(lengths) - 1 else ''
    made.append(types.Turn(start, position, 'stop', last, names))
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


# Agents by a letter: what ended them, and the lengths of their turns.
AGENTS = {
  'ok': ((), (3, 4)),
  'context': ((types.CONTEXT_FAILED,), (3, 4)),
  'runaway': ((types.CONTEXT_FAILED, types.TURN_REPEAT_FAILED), (3, 4)),
  'turns': ((types.TURN_LIMIT_FAILED,), (3,)),
  'calls': ((types.TOOL_CALL_FAILED,), (3, 4)),
  'tokens': ((types.TOKEN_LIMIT_FAILED,), (3, 4)),
  'time': ((types.TIME_LIMIT_FAILED,), (3, 4)),
  'tail': ((types.TAIL_CUT_FAILED,), (3, 4)),
  'time+runaway': ((types.TIME_LIMIT_FAILED, types.TURN_REPEAT_FAILED), (3, 4)),
}
NONE, LAST, ALL, ONE = (False, False), (False, True), (True, True), (True,)

# form, what ended the lead, subagents -> what trains of each agent.
CREDIT = [
  # Good form, lead ok: every turn of agents that did not fail.
  ('good', 'ok', ['ok'], [ALL, ALL]),
  ('good', 'ok', ['ok', 'context', 'runaway'], [ALL, ALL, NONE, NONE]),
  ('good', 'ok', ['turns', 'ok'], [ALL, (False,), ALL]),
  ('good', 'ok', ['calls', 'tokens', 'time', 'tail'], [ALL] + [NONE] * 4),
  # Good form, lead flagged: its flagged turns alone.
  ('good', 'context', ['ok', 'context'], [ALL, NONE, NONE]),
  ('good', 'turns', ['ok', 'runaway'], [ONE, NONE, NONE]),
  ('good', 'runaway', ['ok'], [ALL, NONE]),
  ('good', 'tokens', ['ok'], [ALL, NONE]),
  # … unless only the clock flagged it.
  ('good', 'tail', ['ok', 'context'], [NONE, NONE, NONE]),
  # Bad form, lead ended by itself: its final turn …
  ('bad', 'ok', ['ok'], [LAST, NONE]),
  # … and all turns of flagged agents …
  ('bad', 'ok', ['ok', 'context', 'turns'], [LAST, NONE, ALL, ONE]),
  ('bad', 'ok', ['calls', 'tokens'], [LAST, ALL, ALL]),
  ('bad', 'ok', ['time', 'tail'], [LAST, NONE, NONE]),
  # … or the runaway turns alone, if there are any.
  ('bad', 'ok', ['context', 'runaway', 'turns'], [LAST, NONE, LAST, (False,)]),
  ('bad', 'ok', ['time+runaway', 'context'], [LAST, LAST, NONE]),
  # Bad form, lead flagged: the same without a final turn.
  ('bad', 'turns', ['ok'], [ONE, NONE]),
  ('bad', 'context', ['ok', 'turns'], [ALL, NONE, ONE]),
  ('bad', 'runaway', ['context', 'ok'], [LAST, NONE, NONE]),
  ('bad', 'turns', ['runaway'], [(False,), LAST]),
  ('bad', 'calls', ['ok'], [ALL, NONE]),
  ('bad', 'tail', ['ok', 'context'], [NONE, NONE, ALL]),
]


def credit_rollout(form, lead, subagents):
  text = RIGHT if form == 'good' else NOTHING
  made = []
  for index, name in enumerate([lead, *subagents]):
    failures, lengths = AGENTS[name]
    last = text if index == 0 else 'report'
    made.append(
      agent(
        index, turns(*lengths, text=last), '' if failures else last, failures
      )
    )
  return types.Rollout(WIDE.task_id, 0, tuple(made))


@pytest.mark.parametrize(('form', 'lead', 'subagents', 'expected'), CREDIT)
def test_credit(form, lead, subagents, expected):
  made = credit_rollout(form, lead, subagents)
  assert trained(made) == tuple(expected)
  earns = form == 'good' and lead == 'ok'
  assert (rewards.score(made, WIDE).reward > 0) == earns


def test_nothing_sampled_trains_nothing():
  made = rollout(NOTHING, failures=(types.CONTEXT_FAILED,), lengths=())
  assert trained(made) == ((),)


def test_a_single_agent_is_a_lead_without_subagents():
  for form, lead, expected in (
    *(('good', 'ok', ALL), ('good', 'turns', ONE)),
    *(('bad', 'ok', LAST), ('bad', 'context', ALL)),
  ):
    (own,) = credit_rollout(form, lead, []).trajectories
    single = dataclasses.replace(own, role='single')
    assert trained(types.Rollout(WIDE.task_id, 0, (single,))) == (expected,)


@pytest.mark.parametrize(
  ('roles', 'expected'),
  [
    (['lead'], (ALL, NONE, NONE)),
    (['subagent'], (NONE, ALL, ALL)),
    (['lead', 'subagent'], (ALL, ALL, ALL)),
    (['single'], (NONE, NONE, NONE)),
  ],
)
def test_roles_that_do_not_train(roles, expected):
  made = credit_rollout('good', 'ok', ['ok', 'ok'])
  score = rewards.score(made, WIDE)
  assert rewards.trained_turns(made, score, roles) == expected
  masks = rewards.trained_mask(made, score, roles)
  assert [bool(mask.any()) for mask in masks] == [any(e) for e in expected]


def test_the_flag_does_not_depend_on_equal_agents():
  # Two agents that are equal field by field: one is the lead.
  lead, other = credit_rollout('bad', 'ok', ['ok']).trajectories
  twin = dataclasses.replace(other, turns=lead.turns)
  made = types.Rollout(WIDE.task_id, 0, (lead, twin))
  assert trained(made) == (LAST, NONE)
