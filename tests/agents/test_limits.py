"""Limits of subagents and the cut of a group's tail, in whole rollouts."""

import itertools
import threading

import numpy as np
import pytest

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import limits, rollout, scripted

TOKENIZER = helpers.TOKENIZER
OPTIONS = {'prompt_style': 'full', 'group_size': 1}


def turn_of(messages):
  return sum(role == 'assistant' for role, _ in messages)


def run(engine, tools=None, **options):
  (group,) = rollout.rollout_groups(
    engine,
    TOKENIZER,
    tools or helpers.Tools(),
    [helpers.TASK],
    **(OPTIONS | options),
  )
  assert engine.num_open == 0
  return group


def team(subagents):
  """A lead that fans out to scripted subagents, and then answers."""

  def respond(messages, key):
    turn = turn_of(messages)
    if key[4]:
      return subagents[key[4] - 1][turn]
    names = [f's{i + 1}' for i in range(len(subagents))]
    return helpers.ANSWER if turn else helpers.fan_out(*names)

  return respond


def test_a_slow_subagent_does_not_hold_up_the_lead():
  # The lead's call takes 9 s (174 tokens); the first report is done in the
  # next second, the second one would take 501 s.
  respond = team([['quick'], ['<think>t</think>slow ' + 'x' * 10_000]])
  clock = helpers.Clock()
  engine = helpers.SlowEngine(respond, clock)
  (made,) = run(engine, clock=clock, subagent_seconds=5.5)
  assert clock.now < 40
  quick, slow = made.subagents
  assert quick.answer == 'quick' and quick.failures == ()
  assert slow.failures == (types.TIME_LIMIT_FAILED,)
  assert slow.turns[0].finish_reason == 'cut'
  # After six steps of 20 tokens 5.5 s are over; the step that is then asked to
  # cut samples nothing more.
  assert slow.num_sampled == 120
  text = made.lead.turns[0].tool_text
  assert '# Result: quick' in text
  assert 'its time was up' in text
  assert 'What it had written: slow xxx' in text
  assert made.answer == helpers.ANSWER


def test_time_is_up_between_two_turns():
  clock = helpers.Clock()

  class SlowTools(helpers.Tools):
    def search(self, query, count):
      clock.now += 100
      return super().search(query, count)

  respond = team([[f'Some facts. {helpers.search("q")}']])
  engine = helpers.SlowEngine(respond, clock, speed=1000)
  (made,) = run(engine, SlowTools(), clock=clock, subagent_seconds=50)
  (late,) = made.subagents
  assert late.failures == (types.TIME_LIMIT_FAILED,)
  assert len(late.turns) == 1 and late.turns[0].tool_names == ('search',)
  assert late.turns[0].tool_text == ''
  assert late.turns[0].error == 'No time was left for another turn.'
  assert 'What it had written: Some facts.' in made.lead.turns[0].tool_text
  # What was never read is not in the trajectory.
  assert len(late.token_ids) == late.turns[0].stop


def test_time_is_up_while_a_tool_runs():
  # Real time: the tool never answers.
  release = threading.Event()

  class StalledTools(helpers.Tools):
    def search(self, query, count):
      release.wait(60)

  respond = team([[helpers.search('q')]])
  engine = scripted.ScriptedEngine(TOKENIZER, respond)
  (made,) = run(engine, StalledTools(), subagent_seconds=0.2)
  release.set()
  (late,) = made.subagents
  assert late.failures == (types.TIME_LIMIT_FAILED,)
  assert late.turns[0].failed_calls == 1
  assert made.answer == helpers.ANSWER


@pytest.mark.parametrize('overlap_tools', [False, True])
def test_a_stalled_tool_fails_and_holds_up_nobody(overlap_tools):
  release = threading.Event()

  class StalledTools(helpers.Tools):
    def search(self, query, count):
      if query != 'good':
        release.wait(60)
      return super().search(query, count)

  # Six calls that stall, in two threads, before one that is good.
  bad = helpers.search(*(f'bad {i}' for i in range(5)))
  respond = team([[bad, 'r'], [helpers.search('bad', 'good'), 'r']])
  engine = scripted.ScriptedEngine(TOKENIZER, respond)
  (made,) = run(
    engine,
    StalledTools(),
    tool_seconds=0.1,
    tool_threads=2,
    overlap_tools=overlap_tools,
  )
  release.set()
  assert [t.turns[0].failed_calls for t in made.subagents] == [5, 1]
  text = made.subagents[1].turns[0].tool_text
  assert 'failed: the tool did not answer in time' in text
  assert '](facts/good/0)' in text
  assert not any(t.failures for t in made.trajectories)


@pytest.mark.parametrize(
  ('subagent_tokens', 'num_turns', 'failures'),
  [
    # The call has 67 tokens with its end, the report 5.
    (72, 2, ()),
    (71, 2, (types.TOKEN_LIMIT_FAILED,)),
    (68, 2, (types.TOKEN_LIMIT_FAILED,)),
    (67, 1, (types.TOKEN_LIMIT_FAILED,)),
    (66, 1, (types.TOKEN_LIMIT_FAILED,)),
    (0, 2, ()),
  ],
)
def test_tokens_of_a_subagent_are_limited(subagent_tokens, num_turns, failures):
  call = helpers.call('search', queries=[{'query': 'x'}])
  assert len(helpers.generation(call).token_ids) == 67
  respond = team([[call, 'rest']])
  engine = scripted.ScriptedEngine(TOKENIZER, respond)
  (made,) = run(engine, subagent_tokens=subagent_tokens)
  (own,) = made.subagents
  assert own.failures == failures
  assert len(own.turns) == num_turns
  assert own.num_sampled == min(subagent_tokens or 72, 72)
  # A lead is not limited.
  assert made.answer == helpers.ANSWER
  if subagent_tokens == 67:
    assert own.turns[0].error == 'No tokens were left for another turn.'


def test_a_runaway_turn_is_told_apart_whatever_stopped_it():
  respond = team([['x' * 500]])
  engine = scripted.ScriptedEngine(TOKENIZER, respond)
  (made,) = run(engine, subagent_tokens=300, runaway_tokens=300)
  assert made.subagents[0].failures == (
    *(types.TOKEN_LIMIT_FAILED, types.TURN_REPEAT_FAILED),
  )


def searching(last):
  """Rollout i searches i times or `last` times, and answers."""

  def respond(messages, key):
    turn = turn_of(messages)
    if turn < last.get(key[3], 1):
      return helpers.call('search', query=f'{turn}')
    return helpers.ANSWER

  return respond


def test_the_tail_of_a_group_is_cut():
  # Three of four rollouts end after one search; the last would make 40.
  engine = scripted.ScriptedEngine(TOKENIZER, searching({3: 40}))
  options = {'workflow': 'single', 'prompt_style': 'compact', 'group_size': 4}
  group = run(engine, tail_fraction=0.75, tail_turns=2, **options)
  assert [r.lead.failures for r in group] == [
    *((), (), (), (types.TAIL_CUT_FAILED,)),
  ]
  turns = group[3].lead.turns
  assert len(turns) <= 5 and turns[-1].tool_text == ''
  # It was told: the last hint before its end names its last turn.
  assert f'Turn {len(turns)} of {len(turns)}.' in TOKENIZER.decode(
    group[3].lead.token_ids
  )
  # Without the option nothing is cut.
  engine = scripted.ScriptedEngine(TOKENIZER, searching({3: 40}))
  group = run(engine, **options)
  assert len(group[3].lead.turns) == 41 and not group[3].lead.failures


def test_who_answers_within_the_tail_has_not_failed():
  engine = scripted.ScriptedEngine(TOKENIZER, searching({3: 2}))
  group = run(
    engine, workflow='single', group_size=4, tail_fraction=0.5, tail_turns=3
  )
  assert not any(r.lead.failures for r in group)
  assert all(r.answer == helpers.ANSWER for r in group)


def test_a_tail_ends_turns_once():
  tail = limits.Tail(wanted=2, turns=3)
  spec = helpers.spec(max_turns=10)
  budget = limits.Budget(spec, helpers.config(), helpers.Clock(), tail)
  seen = []
  for turn, tail.done in zip(range(6), (0, 1, 2, 3, 4, 4), strict=True):
    budget.begin_turn(turn)
    seen.append(budget.max_turns)
  # Cut before turn 2: it and two more.
  assert seen == [10, 10, 5, 5, 5, 5] and budget.was_cut
  # Who is near its own end does not notice.
  budget = limits.Budget(spec, helpers.config(), helpers.Clock(), tail)
  budget.begin_turn(7)
  assert budget.max_turns == 10 and not budget.was_cut


def test_roles_can_have_their_own_engines():
  def lead(messages, key):
    assert key[4] == 0
    return helpers.ANSWER if turn_of(messages) else helpers.fan_out('a', 'b')

  def subagent(messages, key):
    assert key[4] > 0
    return f'report {key[4]}'

  engines = {
    'lead': scripted.ScriptedEngine(TOKENIZER, lead),
    'subagent': scripted.ScriptedEngine(TOKENIZER, subagent, max_context=9_000),
  }
  (group,) = rollout.rollout_groups(
    engines, TOKENIZER, helpers.Tools(), [helpers.TASK], **OPTIONS
  )
  made = group[0]
  assert [t.answer for t in made.subagents] == ['report 1', 'report 2']
  assert all(engine.num_open == 0 for engine in engines.values())

  # The same as one engine that plays both.
  def both(messages, key):
    return (subagent if key[4] else lead)(messages, key)

  (same,) = run(scripted.ScriptedEngine(TOKENIZER, both))
  for one, other in itertools.zip_longest(made.trajectories, same.trajectories):
    np.testing.assert_array_equal(one.token_ids, other.token_ids)


def test_a_role_without_engine_is_named():
  engines = {'lead': scripted.ScriptedEngine(TOKENIZER, lambda *_: 'x')}
  with pytest.raises(ValueError, match=r"no engine for the roles \['subagent'"):
    rollout.rollout_groups(
      engines, TOKENIZER, helpers.Tools(), [helpers.TASK], **OPTIONS
    )
