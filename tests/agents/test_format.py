import unicodedata

import hypothesis
from hypothesis import strategies as st

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import format


def turn(text='text', **fields):
  return types.Turn(0, 4, 'stop', text, **fields)


def team(lead_turns, subagents, answer='line 1\nline 2'):
  lead = helpers.trajectory(answer, turns=lead_turns, agent=0)
  return types.Rollout('t', 3, (lead, *subagents))


def test_the_tree():
  subagent = helpers.trajectory(
    '',
    (types.CONTEXT_FAILED,),
    [
      turn(
        'look', tool_names=('search', 'search'), tool_text='a\n\n b', error='E'
      )
    ],
  )
  lead_turns = [
    turn('go\nnow', tool_names=('create_sub_agents',), tool_text='# 1'),
    turn('<think>ok</think>\nline 1\nline 2'),
  ]
  parts = {'answer': 0.5, 'format': 0.1, 'item_f1': 0.5}
  text = format.format_rollout(
    team(lead_turns, [subagent]), types.Score(0.6, parts)
  )
  assert text == (
    'rollout 3 of task t · reward 0.600 (answer 0.500, format 0.100)\n'
    'lead · 2 turns, 4 tokens\n'
    '  turn 1 · go ⏎ now\n'
    '    subagent 1: subtask 1 · 1 turn, 4 tokens · FAILED context_failed\n'
    '      turn 1 · look\n'
    '        error: E\n'
    '        search ×2 → a ⏎ b\n'
    '    create_sub_agents → # 1\n'
    '  turn 2 · <think>ok</think>\n'
    '    line 1\n'
    '    line 2\n'
  )


def test_long_texts_are_folded_but_not_the_answer():
  long = 'x' * 5000
  text = format.format_rollout(team([turn(long)], [], answer='y' * 5000))
  assert 'x' * 201 not in text and '(5000 characters)' in text
  assert 'y' * 5000 in text


def test_terminal_and_bidi_characters_are_inert():
  assert format.inert('a\x1b[31m\u202eb\u200b\ud800\x07\r') == (
    'a\\u{1b}[31m\\u{202e}b\\u{200b}\\u{d800}\\u{7}\\u{d}'
  )
  assert format.inert('Zoë 東京 𝛼') == 'Zoë 東京 𝛼'


@hypothesis.settings(
  max_examples=50,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(st.text(st.characters(), max_size=40))
def test_any_text_prints_safely(hostile):
  subagent = helpers.trajectory(
    hostile, turns=[turn(hostile, tool_text=hostile, error=hostile)]
  )
  rollout = team([turn(hostile), turn(hostile)], [subagent], answer=hostile)
  text = format.format_rollout(rollout)
  assert text.encode('utf-8')
  bad = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}
  assert not [c for c in text if c != '\n' and unicodedata.category(c) in bad]
