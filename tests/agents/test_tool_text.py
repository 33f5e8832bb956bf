import pytest

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import subagents, templates, tool_text
from wideseek_jax.agents.tool_calls import Access, Search

HITS = [
  types.Hit('u/1', 'Paris', ' A city. '),
  types.Hit('u/2', '', 'Untitled.'),
]
CALLS = [Search('two\nlines', 3), Access('u/1', 'the size')]
RESULTS = [HITS, types.Page('u/1', 'Paris', '12345678')]
WORDS = {
  (language, style): templates.load('', language, style)
  for language in ('en', 'zh')
  for style in ('compact', 'full')
}


def message(style, results=RESULTS, language='en', **limits):
  words = WORDS[language, style]
  limits = {'page_chars': 100, 'snippet_chars': 100} | limits
  parts = tool_text.result_parts(CALLS, results, words, **limits)
  return words.fill('results.separator').join(parts)


def test_compact_results():
  assert message('compact') == (
    '# Query: two lines\n[1](u/1): Paris. A city.\n[2](u/2): Untitled.\n'
    '# Page: u/1\n12345678'
  )


def test_full_results():
  assert message('full') == (
    '# Search query: two lines\n# Result:\n[Doc 1](u/1): Paris. A city.\n'
    '[Doc 2](u/2): Untitled.\n\n'
    '# Access URL: u/1\n# Info to extract: the size\n# Result:\n'
    ' Paris. 12345678'
  )


def test_pages_are_cut():
  assert message('compact', page_chars=8).endswith('\n12345678')
  assert message('compact', page_chars=7).endswith('\n1234567')
  assert message('full', page_chars=7).endswith(
    ' Paris. 1234567\n[page cut at 7 characters]'
  )


def test_snippets_are_cut():
  # 'A city.' cut to two characters is 'A', without the space.
  text = message('compact', snippet_chars=2)
  assert '\n[1](u/1): Paris. A\n[2](u/2): Un\n' in text


def test_nothing_found_and_failures():
  text = message('compact', [[], None])
  assert 'Nothing was found.' in text and 'There is no page' in text
  text = message('compact', [ValueError(), OSError('x' * 500)])
  assert 'Tool execution failed: ValueError\n' in text
  assert text.endswith('Tool execution failed: ' + 'x' * 200)


class WordlessError(Exception):
  def __str__(self):
    raise RuntimeError('no words')


def test_an_error_that_cannot_be_read_has_its_name():
  text = tool_text.failure_text(WordlessError(), WORDS['en', 'full'])
  assert text == 'Tool execution failed: WordlessError'


@pytest.mark.parametrize(
  'result',
  [
    *(b'\x00\xff', 'text', 5, {}, None, ('u', 't', 's'), [None], [b'u']),
    [types.Hit('u', None, 's')],
    [types.Hit(b'u', 't', 's')],
  ],
)
def test_what_is_no_result_of_a_search_is_a_failure(result):
  assert isinstance(tool_text.checked(CALLS[0], result), TypeError)


@pytest.mark.parametrize(
  'result', [b'\x00', 'text', [], HITS[0], types.Page('u', 't', b'\x00')]
)
def test_what_is_no_page_is_a_failure(result):
  assert isinstance(tool_text.checked(CALLS[1], result), TypeError)


def test_good_results_pass():
  error = ValueError()
  for call, result in ((CALLS[0], HITS), (CALLS[1], None), (CALLS[1], error)):
    assert tool_text.checked(call, result) == result
  # No more hits than were asked for, and none that nobody could copy.
  long = types.Hit('u' * 2001, '', '')
  assert tool_text.checked(CALLS[0], [long, *HITS, *HITS]) == [*HITS, HITS[0]]


def test_ten_megabytes_are_cut():
  huge = 'x' * 10_000_000
  text = message('full', [[types.Hit('u', huge, huge)], RESULTS[1]])
  assert len(text) < 1000
  text = message('full', [HITS, types.Page('u', huge, huge)])
  assert len(text) < 1000


@pytest.mark.parametrize(('language', 'style'), list(WORDS))
def test_copied_text_always_follows_a_space_or_a_bracket(language, style):
  words = WORDS[language, style]
  limits = {'page_chars': 100, 'snippet_chars': 100}
  texts = [
    *tool_text.result_parts(CALLS, RESULTS, words, **limits),
    *reports([helpers.trajectory('REPORT')], words),
  ]
  for name in ('two lines', 'u/1', 'u/2', 'Paris', 'REPORT', 'subtask 1'):
    places = [
      (t, i) for t in texts for i in range(len(t)) if t[i:].startswith(name)
    ]
    assert places
    assert all(t[i - 1] in ' (' for t, i in places), name


def reports(agents, words=WORDS['en', 'full'], **options):
  options = {'report_tokens': 99, 'partial': False} | options
  return subagents.report_parts(helpers.TOKENIZER, agents, words, **options)


def test_reports_stand_in_order_beneath_their_subtasks():
  agents = [helpers.trajectory(f'r{i}', agent=i) for i in (1, 2)]
  assert reports(agents) == [
    '# Subtask 1: subtask 1\n# Result: r1',
    '# Subtask 2: subtask 2\n# Result: r2',
  ]
  assert reports(agents, WORDS['en', 'compact']) == [
    *('# 1: subtask 1\n r1', '# 2: subtask 2\n r2'),
  ]


CAUSES = {
  types.CONTEXT_FAILED: 'fits its context',
  types.TURN_LIMIT_FAILED: 'used up its turns',
  types.TOOL_CALL_FAILED: 'did not call its tools correctly',
  types.TOKEN_LIMIT_FAILED: 'used up the tokens',
  types.TIME_LIMIT_FAILED: 'its time was up',
  types.TAIL_CUT_FAILED: 'was stopped',
}


@pytest.mark.parametrize('cause', CAUSES)
def test_each_failure_has_its_own_text(cause):
  # The released code tells of a full context, whatever happened.
  (text,) = reports([helpers.trajectory('', (cause,))])
  assert [c for c, words in CAUSES.items() if words in text] == [cause]
  for language in ('en', 'zh'):
    texts = {
      reports([helpers.trajectory('', (c,))], WORDS[language, style])[0]
      for c in CAUSES
      for style in ('full', 'compact')
    }
    assert len(texts) == 2 * len(CAUSES)


def test_a_turn_without_end_is_no_full_context():
  def told(reason):
    turn = types.Turn(0, 9, reason, '')
    failures = (types.CONTEXT_FAILED, types.TURN_REPEAT_FAILED)
    (text,) = reports([helpers.trajectory('', failures, [turn])])
    return text

  assert 'without an end' in told('length')
  assert 'fits its context' in told('context')


def test_an_empty_report_is_told():
  (text,) = reports([helpers.trajectory('')])
  assert text.endswith('The report is empty.')


def turns(*texts):
  return [types.Turn(0, 1, 'length', text) for text in texts]


@pytest.mark.parametrize(
  ('texts', 'partial'),
  [
    (['<think>t</think>one', '<think>t</think> two'], 'two'),
    # Thoughts and calls are not for the lead.
    (['<think>t</think>one', '<think>t</think>'], 'one'),
    (['one', f'{helpers.search("q")} after'], 'one'),
    ([f'two{helpers.search("q")}'], 'two'),
    (['<think>still thinking'], ''),
    ([], ''),
  ],
)
def test_partial_reports(texts, partial):
  failed = helpers.trajectory('', (types.TIME_LIMIT_FAILED,), turns(*texts))
  assert subagents.partial_report(failed) == partial
  (with_it,) = reports([failed], partial=True)
  (without,) = reports([failed])
  assert 'its time was up' in with_it
  if partial:
    assert with_it == f'{without} What it had written: {partial}'
  else:
    assert with_it == without


def test_reports_are_cut_by_tokens():
  def cut(report, report_tokens):
    (text,) = reports([report], report_tokens=report_tokens, partial=True)
    return text

  # One token a byte: é takes two, and the cut at 4 halves the second.
  report = helpers.trajectory('abé' * 2)
  assert cut(report, 3).endswith('Result: ab [report cut at 3 tokens]')
  assert cut(report, 4).endswith('Result: abé [report cut at 4 tokens]')
  assert cut(report, 8).endswith('Result: abéabé')
  failed = helpers.trajectory('', (types.TURN_LIMIT_FAILED,), turns('abcd'))
  assert cut(failed, 3).endswith(' abc [report cut at 3 tokens]')
