"""No output of a model or a tool breaks a rollout, or gets out of its place.

A case is one hostile output: a turn that the model writes or a result that a
tool returns. Run the long version with `-m slow`.
"""

import itertools
import math
import random
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.agents import helpers, hostile
from wideseek_jax import types
from wideseek_jax.agents import agent as agent_lib
from wideseek_jax.agents import format as format_lib
from wideseek_jax.agents import requests, rollout
from wideseek_jax.tasks import rewards

TOKENIZER = helpers.TOKENIZER
LIMITS = {
  'max_lead_turns': 4,
  'max_subagent_turns': 4,
  'max_single_turns': 6,
  'max_subagents': 3,
  'max_tool_calls': 4,
  'max_turn_tokens': 1500,
  'report_tokens': 200,
  'page_chars': 400,
  'snippet_chars': 60,
  'max_repairs': 2,
  'runaway_tokens': 1000,
  'group_size': 1,
  'tool_seconds': 0.0,
}
NAMES = ('<|im_start|>', '<|im_end|>', '<tool_response>', '</tool_response>')
START, END, OPEN, CLOSE = (TOKENIZER.special(name) for name in NAMES)
NUM_MARKERS = 256  # Ids of the byte tokenizer from here on are markers.


def run(seed, num_rollouts, **options):
  """Runs and checks rollouts; returns (cases, failed tool calls, all)."""
  options = LIMITS | options
  is_single = options.get('workflow') == 'single'
  tasks = [
    types.Task(
      f'{seed} {number}',
      hostile.noise(random.Random(f'{seed} {number}')),
      *('wide', helpers.TASK.table, ('country',)),
      language=('en', 'zh')[number % 2],
    )
    for number in range(num_rollouts)
  ]
  model = hostile.Model(seed, is_single=is_single)
  tools = hostile.Tools(seed, stalls=0.01 if options['tool_seconds'] else 0)
  try:
    groups = rollout.rollout_groups(model, TOKENIZER, tools, tasks, **options)
  finally:
    tools.released.set()
  assert model.num_open == 0
  made = [r for group in groups for r in group]
  assert len(made) == num_rollouts
  for one, task in zip(made, tasks, strict=True):
    check_rollout(one, task, options)
  # Every failure is counted, none twice; a busy machine makes others late.
  failed = sum(
    turn.failed_calls for r in made for t in r.trajectories for turn in t.turns
  )
  if options['tool_seconds']:
    assert failed >= tools.num_failed
  else:
    assert failed == tools.num_failed
  return model.num_outputs + tools.num_calls, failed, tools.num_calls


def check_rollout(made, task, options):
  score = rewards.score(made, task)
  assert math.isfinite(score.reward) and all(
    math.isfinite(value) for value in score.parts.values()
  )
  assert rewards.trained_mask(made, score)
  assert format_lib.format_rollout(made, score).encode('utf-8')
  owner = zlib.crc32(task.task_id.encode()) & 0x7FFFFFFF
  for t in made.trajectories:
    check_trajectory(t, options)
    shown = TOKENIZER.decode(t.token_ids)
    owners = {(int(a), int(b)) for a, b in hostile.CANARY.findall(shown)}
    assert owners <= {(owner, t.agent)}, (task.task_id, t.agent)


def check_trajectory(t, options):
  if not t.turns:
    assert t.failures == (types.CONTEXT_FAILED,) and not len(t.token_ids)
    return
  assert len(t.turns) <= options[f'max_{t.role}_turns']
  repairs = [u for u in t.turns if u.malformed and u.tool_text]
  assert len(repairs) <= options['max_repairs']
  assert bool(t.failures) or t.turns[-1].tool_text == ''
  # What was sampled is in the turns, and what was read lies between them and
  # holds no marker but those of its frame.
  bounds = list(itertools.chain(*((u.start, u.stop) for u in t.turns)))
  assert bounds == sorted(bounds) and bounds[-1] == len(t.token_ids)
  start, is_first = 0, True
  for turn in t.turns:
    assert not t.sample_mask[start : turn.start].any()
    assert t.sample_mask[turn.start : turn.stop].all()
    read = t.token_ids[start : turn.start].tolist()
    markers = [token for token in read if token >= NUM_MARKERS]
    if is_first:
      # The system prompt of style 'full' shows the form of a call.
      assert markers.count(START) == 3 and markers.count(END) == 2
      assert markers[-3:] == [START, END, START]
    else:
      markers = markers[1:] if markers[0] == END else markers
      assert markers == [START, OPEN, CLOSE, END, START]
    start, is_first = turn.stop, False


VARIANTS = (
  {'prompt_style': 'compact'},
  {'prompt_style': 'full'},
  {'prompt_style': 'full', 'workflow': 'single'},
  {'prompt_style': 'full', 'lead_searches': True, 'check_urls': False},
  {'prompt_style': 'compact', 'overlap_tools': False, 'subagent_tokens': 1000},
  {'prompt_style': 'compact', 'tool_seconds': 0.3},
)


def run_until(wanted, seed, variants):
  """Runs until there were so many cases; returns how many, and rollouts."""
  cases = failed = calls = 0
  for number in itertools.count(1):
    variant = variants[number % len(variants)]
    found = run(f'{seed} {number}', 40, **variant)
    cases, failed, calls = cases + found[0], failed + found[1], calls + found[2]
    if cases >= wanted:
      assert failed > 0.2 * calls
      return cases, number * 40


@pytest.mark.parametrize('place', range(len(VARIANTS)))
def test_hostile_outputs(place):
  # 2,100 cases in all.
  run_until(350, f'short {place}', [VARIANTS[place]])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_hostile_outputs():
  cases, rollouts = run_until(100_000, 'long', VARIANTS)
  print(f'{cases} cases in {rollouts} rollouts')


HOSTILE_TEXT = st.lists(
  st.sampled_from(hostile.PIECES)
  | st.sampled_from([helpers.search('q'), helpers.access('u'), '</think>'])
  | st.text(max_size=8),
  max_size=4,
).map(''.join)
ANYTHING = st.recursive(
  st.none()
  | st.binary(max_size=20)
  | st.integers()
  | HOSTILE_TEXT
  | st.builds(ValueError, HOSTILE_TEXT)
  | st.builds(types.Hit, HOSTILE_TEXT, HOSTILE_TEXT, HOSTILE_TEXT)
  | st.builds(types.Page, HOSTILE_TEXT, HOSTILE_TEXT, HOSTILE_TEXT | st.none()),
  lambda inner: st.lists(inner, max_size=3),
  max_leaves=4,
)


@hypothesis.settings(
  max_examples=100,
  deadline=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
  st.lists(HOSTILE_TEXT, min_size=4, max_size=4),
  st.lists(ANYTHING, min_size=12, max_size=12),
)
def test_any_text_and_any_result(texts, results):
  running = agent_lib.run_agent(
    helpers.spec('single', 'full', max_turns=4),
    TOKENIZER,
    texts[0],
    helpers.config(max_repairs=4, max_context=100_000, check_urls=False),
    address=(0, 0, 0, 0),
  )
  texts, results = list(texts), list(results)
  request = next(running)
  try:
    while True:
      if isinstance(request, requests.Generate):
        text = texts.pop().encode('utf-8', 'replace').decode('utf-8')
        # A marker that ends the turn would have ended it.
        text = text.replace('<|', '< |')
        request = running.send(helpers.generation(text))
      else:
        request = running.send([results.pop() for _ in request.calls])
  except StopIteration as stop:
    (own,) = stop.value
  check_trajectory(own, LIMITS | {'max_repairs': 4})
