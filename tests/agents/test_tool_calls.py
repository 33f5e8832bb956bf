import hypothesis
import pytest
from hypothesis import strategies as st

from tests.agents import helpers
from wideseek_jax.agents import tool_calls
from wideseek_jax.agents.tool_calls import Access, Parsed, Search, Subtask


def parse(text, role='subagent', **options):
  return tool_calls.parse_turn(text, helpers.spec(role, **options))


def test_calls_of_each_role():
  assert parse(helpers.search('a', ' b ')).calls == (
    Search('a', 3),
    Search('b', 3),
  )
  assert parse(helpers.search('a', count=9)).calls == (Search('a', 9),)
  assert parse(helpers.access('u')).calls == (Access('u'),)
  assert parse(helpers.fan_out('x', 'y'), 'lead').calls == (
    Subtask('x'),
    Subtask('y'),
  )
  assert parse(helpers.call('search', query='a', count=1), 'single').calls == (
    Search('a', 1),
  )
  both = helpers.call('access', url='u', info_to_extract='i')
  assert parse(both, 'single', style='full').calls == (Access('u', 'i'),)


def test_a_text_without_call_is_an_answer():
  assert parse('The <tools> said {"name": "search"}.') == Parsed()
  assert parse('') == Parsed()


def test_only_what_follows_the_thought_counts():
  inside, after = helpers.search('in'), helpers.search('out')
  assert parse(f'<think>{inside}</think>{after}').calls == (Search('out', 3),)
  assert parse(f'<think>{inside}</think>Done.') == Parsed()
  assert parse(f'<think>Hm. {inside}') == Parsed()
  assert parse(f'x</think>{inside}<think>again') == Parsed()


def test_several_blocks_are_one_list():
  text = f'Now\n{helpers.search("a")}\n{helpers.access("u")}'
  assert parse(text).calls == (Search('a', 3), Access('u'))


def test_too_many_calls_are_cut_and_told():
  parsed = parse(helpers.search('a', 'b', 'c') + helpers.search('d'))
  assert [c.query for c in parsed.calls] == ['a', 'b', 'c']
  assert parsed.notice == 'Only the first 3 of 4 calls were run.'
  assert parsed.error == ''


def test_a_lead_that_searches_has_a_limit_for_each_kind():
  text = helpers.fan_out('x', 'y', 'z') + helpers.search('a', 'b', 'c')
  parsed = parse(text, 'lead', lead_searches=True, max_calls=2, max_subagents=1)
  assert parsed.calls == (Search('a', 3), Search('b', 3), Subtask('x'))
  assert parsed.notice == (
    'Only the first 2 of 3 calls were run. Only the first 1 of 3 calls were '
    'run.'
  )


def test_errors_are_in_the_language_of_the_task():
  parsed = parse(helpers.fan_out('x'), language='zh')
  assert parsed.error == (
    '这里没有名为 "create_sub_agents" 的工具；可用的工具是 search 和 access。'
  )


@pytest.mark.parametrize(
  ('text', 'error'),
  [
    ('<tool_call>{"name"', 'There is a <tool_call> without </tool_call>.'),
    ('{}</tool_call>', 'There is a </tool_call> without <tool_call>.'),
    (
      helpers.search('a') + '</tool_call>',
      'There is a </tool_call> without <tool_call>.',
    ),
    (
      '<tool_call>{]</tool_call>',
      'The tool call is not JSON: Expecting property name enclosed in double '
      'quotes: line 1 column 2 (char 1).',
    ),
    (
      '<tool_call>["search"]</tool_call>',
      'The tool call must be a JSON object with "name" and "arguments".',
    ),
    (
      helpers.fan_out('x'),
      'There is no tool "create_sub_agents" here; you have search and access.',
    ),
    (
      '<tool_call>{"name": "search"}</tool_call>',
      'The call of search lacks "arguments".',
    ),
    (helpers.call('search'), 'arguments lacks "queries".'),
    (
      helpers.call('search', queries=[]),
      'arguments.queries must be a list with at least one item.',
    ),
    (
      helpers.call('search', queries=['a']),
      'arguments.queries[0] must be an object.',
    ),
    (
      helpers.call('search', queries=[{'query': 'a'}, {'query': ' '}]),
      'arguments.queries[1].query must be a text that is not empty.',
    ),
    (
      helpers.call('search', queries=[{'query': 5}]),
      'arguments.queries[0].query must be a text that is not empty.',
    ),
  ]
  + [
    (
      helpers.search('a', count=count),
      'arguments.queries[0].count must be a whole number from 1 to 9.',
    )
    for count in (0, 10, True, 2.0, 'five')
  ],
)
def test_errors_say_what_is_wrong(text, error):
  assert parse(text) == Parsed(error=error)


def test_full_style_wants_to_know_what_to_extract():
  parsed = parse(helpers.access('u'), style='full')
  assert parsed.error == 'arguments.urls[0] lacks "info_to_extract".'


def test_one_malformed_block_stops_the_others():
  parsed = parse(helpers.search('a') + '<tool_call></tool_call>')
  assert not parsed.calls and 'not JSON' in parsed.error


def test_hostile_json():
  deep = '<tool_call>' + '[' * 200_000 + '</tool_call>'
  assert parse(deep).error
  long_number = '<tool_call>' + '9' * 10_000 + '</tool_call>'
  assert 'not JSON' in parse(long_number).error
  # Half a surrogate pair: legal JSON, but no text that could be encoded.
  half = helpers.search('a\ud800b')
  assert '\\ud800' in half
  query = parse(half).calls[0].query
  assert query == 'a?b' and query.encode('utf-8')


PIECES = st.sampled_from(
  [
    *('<tool_call>', '</tool_call>', '<think>', '</think>', '{', '}', '['),
    *(']', '"', ',', ':', '"name"', '"search"', '"arguments"', '"queries"'),
    *('"query"', '"count"', '1', '-', 'true', 'null', '\\ud800', ' ', '\n'),
    *('\x00', '\u202e', '"a"', helpers.search('a'), helpers.access('u')),
  ]
)


@hypothesis.settings(
  max_examples=300,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(
  st.lists(PIECES | st.text(max_size=5), max_size=30).map(''.join)
)
def test_any_text_is_calls_or_error_or_answer(text):
  for role in ('lead', 'subagent', 'single'):
    parsed = parse(text, role)
    assert not (parsed.calls and parsed.error)
    assert len(parsed.calls) <= 3
    for call in parsed.calls:
      assert isinstance(call, Search | Access | Subtask)
      if isinstance(call, Search):
        assert call.query.strip() and 1 <= call.count <= 9
    after = text.rpartition('</think>')[2]
    if '<tool_call>' in after and '<think>' not in after:
      assert parsed.calls or parsed.error
