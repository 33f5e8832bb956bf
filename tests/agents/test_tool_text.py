import pytest

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import subagents, tool_text
from wideseek_jax.agents.tool_calls import Access, Search

HITS = [
  types.Hit('u/1', 'Paris', ' A city. '),
  types.Hit('u/2', '', 'Untitled.'),
]
CALLS = [Search('two\nlines', 3), Access('u/1', 'the size')]
RESULTS = [HITS, types.Page('u/1', 'Paris', '12345678')]


def message(style, results=RESULTS, notice='', **limits):
  limits = {'page_chars': 100, 'snippet_chars': 100} | limits
  return tool_text.tool_message(CALLS, results, notice, style=style, **limits)


def test_compact_results():
  assert message('compact', notice='Cut.') == (
    '# Query: two lines\n[1](u/1): Paris. A city.\n[2](u/2): Untitled.\n'
    '# Page: u/1\n12345678\nCut.'
  )


def test_full_results():
  assert message('full', notice='Cut.') == (
    '# Search query: two lines\n# Result:\n[Doc 1](u/1): Paris. A city.\n'
    '[Doc 2](u/2): Untitled.\n\n'
    '# Access URL: u/1\n# Info to extract: the size\n# Result:\n'
    ' Paris. 12345678\n\nCut.'
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
  assert tool_text.NO_HITS in text and tool_text.NO_PAGE in text
  text = message('compact', [ValueError(), OSError('x' * 500)])
  assert 'Tool execution failed: ValueError\n' in text
  assert text.endswith('Tool execution failed: ' + 'x' * 200)


@pytest.mark.parametrize('style', ['compact', 'full'])
def test_copied_text_always_follows_a_space_or_a_bracket(style):
  report = helpers.trajectory('REPORT')
  texts = [
    message(style),
    subagents.reports_message(
      helpers.TOKENIZER, [report], '', style=style, report_tokens=99
    ),
  ]
  for name in ('two lines', 'u/1', 'u/2', 'Paris', 'REPORT', 'subtask 1'):
    places = [
      (t, i) for t in texts for i in range(len(t)) if t[i:].startswith(name)
    ]
    assert places
    assert all(t[i - 1] in ' (' for t, i in places), name


def reports(agents, style='full', notice='', report_tokens=99):
  return subagents.reports_message(
    helpers.TOKENIZER, agents, notice, style=style, report_tokens=report_tokens
  )


def test_reports_stand_in_order_beneath_their_subtasks():
  agents = [helpers.trajectory(f'r{i}', agent=i) for i in (1, 2)]
  assert reports(agents, notice='Cut.') == (
    '# Subtask 1: subtask 1\n# Result: r1\n\n'
    '# Subtask 2: subtask 2\n# Result: r2\n\nCut.'
  )
  assert reports(agents, 'compact') == (
    '# 1: subtask 1\n r1\n# 2: subtask 2\n r2'
  )


def test_each_failure_has_its_own_text():
  texts = {
    reports([helpers.trajectory('', failures)], style)
    for style in ('compact', 'full')
    for failures in (
      (types.CONTEXT_FAILED,),
      (types.TURN_LIMIT_FAILED,),
      (types.TOOL_CALL_FAILED,),
      (),
    )
  }
  assert len(texts) == 8
  runaway = (types.CONTEXT_FAILED, types.TURN_REPEAT_FAILED)
  assert 'fits its context' in reports([helpers.trajectory('', runaway)])
  assert subagents.EMPTY_REPORT in reports([helpers.trajectory('')])


def test_reports_are_cut_by_tokens():
  # One token a byte: é takes two, and the cut at 4 halves the second.
  report = helpers.trajectory('abé' * 2)
  assert ' ab\ufffd' not in reports([report], report_tokens=3)
  assert reports([report], report_tokens=3).endswith(
    'Result: ab [report cut at 3 tokens]'
  )
  assert reports([report], report_tokens=4).endswith(
    'Result: abé [report cut at 4 tokens]'
  )
  assert reports([report], report_tokens=8).endswith('Result: abéabé')
