import pytest

from tests.agents import helpers
from wideseek_jax import testing, types
from wideseek_jax.agents import rollout, scripted
from wideseek_jax.tasks import counts, rewards


def turn(start, stop, *names, **fields):
  return types.Turn(start, stop, 'stop', '', names, **fields)


LEAD = helpers.trajectory(
  turns=[
    # Malformed and answered, then a fan-out, then the end.
    turn(2, 6, malformed=True, error='not JSON', tool_text='not JSON'),
    turn(9, 10, 'create_sub_agents', 'create_sub_agents', tool_text='reports'),
    turn(12, 15, error='The last turn was used up: the call was not run.'),
  ],
  agent=0,
  failures=(types.TURN_LIMIT_FAILED,),
)
GOOD = helpers.trajectory(
  turns=[
    turn(1, 3, 'search', 'search', failed_calls=1, tool_text='x'),
    turn(5, 13, 'access', refused_calls=2, tool_text='x'),
    turn(14, 15),
  ],
)
BAD = helpers.trajectory(
  turns=[turn(1, 3, malformed=True, error='no tool')],
  failures=(types.TOOL_CALL_FAILED,),
  agent=2,
)


def test_counts_of_an_agent():
  assert counts.trajectory_counts(LEAD) == dict.fromkeys(types.FAILURES, 0) | {
    'turns': 3,
    'num_search': 0,
    'num_access': 0,
    'num_subagents': 2,
    # The call that came too late was not malformed.
    'tool_errors': 0,
    'refused_calls': 0,
    'malformed_calls': 1,
    'repairs': 1,
    'longest_turn': 4,
    'sampled_tokens': 4 + 1 + 3,
    'tokens': 15,
    'failed': 1,
    types.TURN_LIMIT_FAILED: 1,
  }
  found = counts.trajectory_counts(GOOD)
  assert (found['num_search'], found['num_access']) == (2, 1)
  assert (found['tool_errors'], found['refused_calls']) == (1, 2)
  # Nobody answered the malformed call: that is no repair.
  found = counts.trajectory_counts(BAD)
  assert (found['malformed_calls'], found['repairs']) == (1, 0)
  assert all(type(value) is float for value in found.values())


def test_counts_of_a_rollout():
  made = types.Rollout('t', 0, (LEAD, GOOD, BAD))
  expected = {
    'num_subagents': 2,
    'failed_subagents': 1,
    'failed': 2,
    'lead_turns': 3,
    'subagent_turns': 4,
    'lead_tokens': 8,
    'subagent_tokens': (2 + 8 + 1) + 2,
    'sampled_tokens': 8 + 11 + 2,
    'num_search': 2,
    'num_access': 1,
    'tool_errors': 1,
    'refused_calls': 2,
    'malformed_calls': 2,
    'repairs': 1,
    'longest_turn': 8,
    types.TURN_LIMIT_FAILED: 1,
    types.TOOL_CALL_FAILED: 1,
    types.CONTEXT_FAILED: 0,
  }
  found = counts.rollout_counts(made)
  assert {name: found[name] for name in expected} == expected
  assert 'turns' not in found


def test_a_rollout_without_any_turn():
  made = types.Rollout('t', 0, (helpers.trajectory(agent=0),))
  assert counts.rollout_counts(made)['longest_turn'] == 0


def test_counts_do_not_depend_on_which_turns_train():
  # The released code reads counts of turn i of those that train: of a rollout
  # whose first agent trains no turn it gets those of another agent.
  failed = helpers.trajectory(
    turns=GOOD.turns, failures=(types.CONTEXT_FAILED,)
  )
  lead = helpers.trajectory(helpers.ANSWER, turns=[turn(2, 4)], agent=0)
  task = helpers.TASK
  made = types.Rollout(task.task_id, 0, (lead, failed, GOOD))
  score = rewards.score(made, task)
  trained = rewards.trained_turns(made, score)
  assert trained == ((True,), (False,) * 3, (True,) * 3)
  for name, value in {
    'num_search': 4,
    'num_access': 2,
    'subagent_turns': 6,
  }.items():
    assert score.parts[name] == value


def test_counts_of_a_real_rollout():
  # Calls as the agents make them: one malformed, one refused, one that fails.
  class Tools(helpers.Tools):
    def search(self, query, count):
      if query == 'bad':
        raise OSError('bad')
      return super().search(query, count)

  def respond(messages, key):
    turn = sum(role == 'assistant' for role, _ in messages)
    if key[4] == 0:
      return ['<tool_call>', helpers.fan_out('a', 'b'), helpers.ANSWER][turn]
    return [
      helpers.search('good', 'bad'),
      helpers.access('facts/good/0', 'unseen'),
      'Done.',
    ][turn]

  (made,) = rollout.rollout_group(
    scripted.ScriptedEngine(testing.byte_tokenizer(), respond),
    testing.byte_tokenizer(),
    Tools(),
    helpers.TASK,
    group_size=1,
    prompt_style='compact',
  )
  parts = rewards.score(made, helpers.TASK).parts
  expected = {
    'num_subagents': 2,
    'lead_turns': 3,
    'subagent_turns': 6,
    'num_search': 4,
    'num_access': 2,
    'tool_errors': 2,
    'refused_calls': 2,
    'malformed_calls': 1,
    'repairs': 1,
    'failed': 0,
    'sampled_tokens': sum(t.num_sampled for t in made.trajectories),
  }
  assert {name: parts[name] for name in expected} == expected
  assert parts['lead_tokens'] + parts['subagent_tokens'] == pytest.approx(
    parts['sampled_tokens']
  )
