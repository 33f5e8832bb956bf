"""Shared by the tests of agents: a small world, and ways to drive an agent."""

import json

import numpy as np

from wideseek_jax import testing, types
from wideseek_jax.agents import agent, prompts, rollout_config, scripted

TOKENIZER = testing.byte_tokenizer()

TASK = types.Task(
  'cities',
  'Which capitals?',
  'wide',
  types.Table(
    ('country', 'capital', 'people'),
    (('France', 'Paris', '2,000'), ('Spain', 'Madrid', '3,000')),
  ),
  ('country',),
)

ANSWER = """```markdown
| country | capital | people |
|---|---|---|
| France | Paris | 2000 |
| Spain | Madrid | 3000 |
```"""


class Tools:
  """Every search finds one page, named after the query."""

  def search(self, query, count):
    return [
      types.Hit(f'facts/{query}/{i}', query, f'About {query}.')
      for i in range(count)
    ]

  def access(self, url, info=''):
    if url.endswith('/2'):
      return None
    return types.Page(url, 'Title', f'Text of {url}. ' + 'x' * 50)


def call(name, **arguments):
  """A tool call as a policy writes it."""
  body = json.dumps({'name': name, 'arguments': arguments})
  return f'<tool_call>\n{body}\n</tool_call>'


def fan_out(*subtasks):
  return call('create_sub_agents', sub_agents=[{'prompt': s} for s in subtasks])


def search(*queries, count=None):
  extra = {} if count is None else {'count': count}
  return call('search', queries=[{'query': q} | extra for q in queries])


def access(*urls):
  return call('access', urls=[{'url': url} for url in urls])


def spec(role='subagent', style='compact', kind='wide', **limits):
  limits = {'max_turns': 4, 'max_calls': 3, 'max_subagents': 3} | limits
  return prompts.role_spec(role, style=style, kind=kind, **limits)


def config(**options):
  return rollout_config.RolloutConfig(
    **({'prompt_style': 'compact', 'group_size': 1} | options)
  )


def make_agent(role='subagent', options=None, limits=None, **kwargs):
  return agent.run_agent(
    spec(role, **(limits or {})),
    TOKENIZER,
    'Which capitals?',
    config(**(options or {})),
    address=(7, 3, 5, 1),
    **kwargs,
  )


def generation(text, ended=True, reason='length'):
  """What an engine gives for a turn of this text; log-probs count down."""
  ids = TOKENIZER.encode(text + (prompts.END_OF_TURN if ended else ''))
  logprobs = -np.arange(1, len(ids) + 1, dtype=np.float32)
  return types.Generation(
    np.array(ids, np.int32), logprobs, 'stop' if ended else reason
  )


def drive(running, answers):
  """Feeds an agent; returns its requests and what it returned."""
  requests = []
  answers = list(answers)
  try:
    requests.append(next(running))
    while answers:
      answer = answers.pop(0)
      if isinstance(answer, str):
        answer = generation(answer)
      requests.append(running.send(answer))
  except StopIteration as stop:
    if answers:
      raise AssertionError(f'the agent left {answers}') from None
    return requests, stop.value
  raise AssertionError(f'the agent still wants {requests[-1]}')


def trajectory(answer='report', failures=(), turns=(), agent=1, **fields):
  """A finished agent, made by hand."""
  length = turns[-1].stop if turns else 0
  mask = np.zeros(length, bool)
  for turn in turns:
    mask[turn.start : turn.stop] = True
  return types.Trajectory(
    agent=agent,
    role='lead' if agent == 0 else 'subagent',
    subtask='' if agent == 0 else f'subtask {agent}',
    parent_turn=-1 if agent == 0 else 0,
    token_ids=np.zeros(length, np.int32),
    sample_mask=mask,
    behavior_logprobs=np.zeros(length, np.float32),
    turns=tuple(turns),
    answer=answer,
    failures=failures,
    **fields,
  )


class Clock:
  """Tells the time that a test sets."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


class SlowEngine:
  """Samples some tokens of every turn a step, which takes a second.

  Args:
    respond: writes the turns (`scripted.ScriptedEngine`).
    clock: goes on with every step.
    speed: tokens of a turn and step.
  """

  def __init__(self, respond, clock, speed=20):
    self._inner = scripted.ScriptedEngine(TOKENIZER, respond)
    self.max_context = self._inner.max_context
    self._clock = clock
    self._speed = speed
    self._turns = {}
    self._cut = set()

  @property
  def num_open(self):
    return self._inner.num_open

  def open(self):
    return self._inner.open()

  def submit(self, sequence, *request):
    self._inner.submit(sequence, *request)
    ((_, turn),) = self._inner.step()
    self._turns[sequence] = [turn, 0]

  def cut(self, sequence):
    self._cut.add(sequence)

  def close(self, sequence):
    self._inner.close(sequence)

  def step(self):
    self._clock.now += 1
    ended = []
    for sequence in list(self._turns):
      turn, count = self._turns[sequence]
      if sequence in self._cut:
        arrays = turn.token_ids[:count], turn.logprobs[:count]
        ended.append((sequence, types.Generation(*arrays, 'cut')))
      elif count + self._speed >= len(turn.token_ids):
        ended.append((sequence, turn))
      else:
        self._turns[sequence][1] += self._speed
        continue
      del self._turns[sequence]
      self._cut.discard(sequence)
    return ended
