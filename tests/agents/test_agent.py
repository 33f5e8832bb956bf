import numpy as np
import pytest

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import requests, templates, tool_calls

TOKENIZER = helpers.TOKENIZER
HITS = [types.Hit('facts/1', 'Paris', 'A city.')]
WORDS = templates.load('', 'en', 'compact')
BROKEN_CALL = '<tool_call>{"name": </tool_call>'


def test_trajectory_holds_what_was_read_and_sampled_in_order():
  search = helpers.search('Paris')
  asked, (own,) = helpers.drive(
    helpers.make_agent(agent=2, subtask='find', parent_turn=1),
    [search, [HITS], '<think>t</think>\nFound.'],
  )
  first, tools, second = asked
  assert tools == requests.CallTools((tool_calls.Search('Paris', 3),))
  sampled = [
    helpers.generation(t) for t in (search, '<think>t</think>\nFound.')
  ]
  pieces = [
    first.token_ids,
    sampled[0].token_ids,
    second.token_ids,
    sampled[1].token_ids,
  ]
  np.testing.assert_array_equal(own.token_ids, np.concatenate(pieces))
  mask = np.concatenate(
    [np.full(len(p), i % 2 == 1) for i, p in enumerate(pieces)]
  )
  np.testing.assert_array_equal(own.sample_mask, mask)
  np.testing.assert_array_equal(
    own.behavior_logprobs[mask], np.concatenate([s.logprobs for s in sampled])
  )
  assert not own.behavior_logprobs[~mask].any()
  assert own.token_ids.dtype == np.int32
  assert own.sample_mask.dtype == bool
  assert own.behavior_logprobs.dtype == np.float32
  assert [(t.start, t.stop) for t in own.turns] == [
    (len(pieces[0]), len(pieces[0]) + len(pieces[1])),
    (len(mask) - len(pieces[3]), len(mask)),
  ]
  assert own.turns[0].tool_names == ('search',)
  assert own.turns[0].text == search
  assert own.turns[1].tool_text == ''
  assert (own.answer, own.failures) == ('Found.', ())
  assert (own.agent, own.role, own.subtask, own.parent_turn) == (
    *(2, 'subagent'),
    *('find', 1),
  )


def test_turns_are_addressed_and_limited():
  running = helpers.make_agent(
    agent=2,
    options={'max_turn_tokens': 50, 'top_k': 9, 'top_p': 0.5, 'temperature': 2},
  )
  asked, _ = helpers.drive(running, [helpers.search('a'), [[]], 'Done.'])
  assert [r.key for r in asked if isinstance(r, requests.Generate)] == [
    (7, 3, 5, 1, 2, 0),
    (7, 3, 5, 1, 2, 1),
  ]
  assert asked[0].sampling == types.Sampling(
    temperature=2,
    top_k=9,
    top_p=0.5,
    max_tokens=50,
    stop_ids=(
      TOKENIZER.special('<|im_end|>'),
      TOKENIZER.special('<|endoftext|>'),
    ),
  )


def test_a_turn_may_take_only_what_the_context_has_left():
  asked, _ = helpers.drive(
    helpers.make_agent(options={'max_context': 1000}), ['Done.']
  )
  prompt = len(asked[0].token_ids)
  assert asked[0].sampling.max_tokens == 1000 - prompt


def test_a_thought_that_never_closes_is_no_answer():
  _, (own,) = helpers.drive(helpers.make_agent(), ['<think>Hm.'])
  assert (own.answer, own.failures) == ('', ())


@pytest.mark.parametrize('reason', ['length', 'context'])
def test_a_turn_without_end_fails_the_context(reason):
  def finish(n):
    _, (own,) = helpers.drive(
      helpers.make_agent(options={'runaway_tokens': 10}),
      [helpers.generation('x' * n, ended=False, reason=reason)],
    )
    assert own.answer == '' and own.turns[0].finish_reason == reason
    return own.failures

  assert finish(9) == (types.CONTEXT_FAILED,)
  assert finish(10) == (types.CONTEXT_FAILED, types.TURN_REPEAT_FAILED)


def test_a_cut_call_does_not_run():
  cut = helpers.generation(helpers.search('a'), ended=False)
  asked, (own,) = helpers.drive(helpers.make_agent(), [cut])
  assert len(asked) == 1
  assert own.turns[0].tool_names == ()


def test_a_tool_message_that_fills_the_context_fails_it():
  def run(max_context, *answers):
    return helpers.drive(
      helpers.make_agent(options={'max_context': max_context}),
      [helpers.search('a'), [HITS], *answers],
    )

  asked, (own,) = run(10_000, 'Done.')
  # One token of room is left: the third request still comes.
  exact = len(own.token_ids) - len(helpers.generation('Done.').token_ids) + 1
  asked, (own,) = run(exact, 'Done.')
  assert asked[2].sampling.max_tokens == 1
  # With none left the message is not read at all.
  asked, (own,) = run(exact - 1)
  assert own.failures == (types.CONTEXT_FAILED,)
  assert len(own.token_ids) == own.turns[0].stop
  assert own.turns[0].tool_names == ('search',)
  assert own.turns[0].tool_text == ''
  assert own.turns[0].error == 'The tool message did not fit the context.'


def test_a_prompt_longer_than_the_context_fails_without_a_turn():
  running = helpers.make_agent(options={'max_context': 20})
  with pytest.raises(StopIteration) as stop:
    next(running)
  (own,) = stop.value.value
  assert own.failures == (types.CONTEXT_FAILED,)
  assert len(own.token_ids) == len(own.turns) == 0


def test_the_last_turn_runs_no_call():
  asked, (own,) = helpers.drive(
    helpers.make_agent(limits={'max_turns': 2}),
    [helpers.search('a'), [HITS], helpers.search('b')],
  )
  assert len(asked) == 3
  assert own.failures == (types.TURN_LIMIT_FAILED,)
  assert own.answer == ''
  assert own.turns[1].tool_names == () and own.turns[1].error


def test_an_answer_in_the_last_turn_is_in_time():
  _, (own,) = helpers.drive(
    helpers.make_agent(limits={'max_turns': 1}), ['Done.']
  )
  assert (own.answer, own.failures) == ('Done.', ())


def test_a_malformed_call_is_answered_with_its_error():
  asked, (own,) = helpers.drive(
    helpers.make_agent(), [BROKEN_CALL, helpers.search('a'), [HITS], 'Done.']
  )
  assert 'not JSON' in own.turns[0].error
  assert own.turns[0].tool_text == own.turns[0].error
  assert own.turns[0].error in TOKENIZER.decode(asked[1].token_ids)
  assert own.turns[0].tool_names == ()
  assert (own.answer, own.failures) == ('Done.', ())


@pytest.mark.parametrize('max_repairs', [0, 1, 2])
def test_repairs_are_bounded(max_repairs):
  asked, (own,) = helpers.drive(
    helpers.make_agent(options={'max_repairs': max_repairs}),
    [BROKEN_CALL] * (max_repairs + 1),
  )
  assert len(asked) == max_repairs + 1
  assert own.failures == (types.TOOL_CALL_FAILED,)
  assert own.answer == '' and own.turns[-1].tool_text == ''


def test_only_urls_of_a_search_are_opened():
  page = types.Page('facts/1', 'Paris', 'Big.')
  asked, (own,) = helpers.drive(
    helpers.make_agent(known_urls={'facts/0'}),
    [
      # facts/1 comes from a search of the same turn: not yet known.
      helpers.search('a') + helpers.access('facts/0', 'facts/1'),
      [HITS, None],
      helpers.access('facts/1', 'facts/9'),
      [page],
      'Done.',
    ],
  )
  asked = [r.calls for r in asked if isinstance(r, requests.CallTools)]
  assert asked == [
    (tool_calls.Search('a', 3), tool_calls.Access('facts/0')),
    (tool_calls.Access('facts/1'),),
  ]
  assert own.turns[0].tool_names == ('search', 'access')
  assert own.turns[0].tool_text.split('\n') == [
    *('# Query: a', '[1](facts/1): Paris. A city.'),
    *('# Page: facts/0', WORDS.fill('notices.no_page')),
    *('# Page: facts/1', WORDS.fill('notices.url_not_seen')),
  ]
  # A refused page is not an access.
  assert own.turns[1].tool_names == ('access',)


def test_a_turn_of_refused_pages_calls_no_tool():
  asked, (own,) = helpers.drive(
    helpers.make_agent(), [helpers.access('facts/1'), 'Done.']
  )
  assert len(asked) == 2
  assert own.turns[0].tool_names == ()
  assert WORDS.fill('notices.url_not_seen') in own.turns[0].tool_text


def test_a_tool_that_raised_is_told_and_counted():
  _, (own,) = helpers.drive(
    helpers.make_agent(),
    [helpers.search('a', 'b'), [TimeoutError('slow\nserver'), HITS], 'Done.'],
  )
  turn = own.turns[0]
  assert turn.error == 'Tool execution failed: slow server'
  assert turn.error in turn.tool_text and 'A city.' in turn.tool_text
  assert turn.tool_names == ('search', 'search')


def test_lead_reads_reports_only_and_keeps_its_subagents():
  made = []

  def create(subtasks, parent_turn):
    made.append((list(subtasks), parent_turn))
    return [f'agent {s}' for s in subtasks]

  one = helpers.trajectory('<b>secret</b> report', agent=1)
  two = helpers.trajectory('', (types.TURN_LIMIT_FAILED,), agent=2)
  asked, (lead, *subagents) = helpers.drive(
    helpers.make_agent('lead', create=create),
    [helpers.fan_out('x', 'y'), [(one,), (two,)], helpers.ANSWER],
  )
  assert made == [(['x', 'y'], 0)]
  assert asked[1] == requests.CreateSubagents(('agent x', 'agent y'))
  assert subagents == [one, two]
  assert lead.turns[0].tool_names == ('create_sub_agents',) * 2
  assert lead.answer == helpers.ANSWER


def test_subagents_are_kept_when_their_reports_do_not_fit():
  one = helpers.trajectory('r' * 900, agent=1)
  asked, (lead, *subagents) = helpers.drive(
    helpers.make_agent(
      'lead',
      options={'max_context': 900, 'report_tokens': 1000},
      create=lambda subtasks, turn: ['agent'],
    ),
    [helpers.fan_out('x'), [(one,)]],
  )
  assert len(asked) == 2
  assert lead.failures == (types.CONTEXT_FAILED,)
  assert subagents == [one]


def test_a_turn_that_ended_the_text_is_closed_unsampled():
  ids = [
    *TOKENIZER.encode(helpers.search('a')),
    TOKENIZER.special('<|endoftext|>'),
  ]
  ended = types.Generation(
    np.array(ids, np.int32), np.zeros(len(ids), np.float32), 'stop'
  )
  asked, (own,) = helpers.drive(helpers.make_agent(), [ended, [HITS], 'Done.'])
  end = own.turns[0].stop
  assert own.token_ids[end] == TOKENIZER.special('<|im_end|>')
  assert not own.sample_mask[end]
  assert asked[2].token_ids[0] == TOKENIZER.special('<|im_end|>')
