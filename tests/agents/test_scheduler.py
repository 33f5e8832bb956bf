import random
import threading
import time

import pytest

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import requests, rollout, scheduler, scripted

TOKENIZER = helpers.TOKENIZER


def respond(messages, key):
  """A team: the lead fans out twice, a subagent searches and opens a page.

  What it writes depends on the turn's address, as a sample does.
  """
  turn = sum(role == 'assistant' for role, _ in messages)
  mark = sum(key) % 10
  if 'lead agent' in messages[0][1]:
    if turn < 2:
      return helpers.fan_out(*(f's{mark}{turn}{i}' for i in range(3)))
    return helpers.ANSWER
  if turn == 0:
    return helpers.search(f'q{mark}', f'p{key[4]}')
  if turn == 1:
    return helpers.access(f'facts/q{mark - 1 if mark else 9}/0')
  return f'{messages[-1][1]} {mark}'


class SlowTools(helpers.Tools):
  """Takes a random time for every call; some calls raise."""

  def __init__(self, seed):
    self._random = random.Random(seed)
    self._lock = threading.Lock()

  def _sleep(self):
    with self._lock:
      seconds = self._random.choice((0, 0, 0.001, 0.003))
    time.sleep(seconds)

  def search(self, query, count):
    self._sleep()
    if query == 'p2':
      raise ConnectionError('p2 is broken')
    return super().search(query, count)

  def access(self, url, info=''):
    self._sleep()
    return super().access(url, info)


class TrickleEngine:
  """Ends one turn a step, in an order of its own."""

  def __init__(self, seed):
    self._inner = scripted.ScriptedEngine(TOKENIZER, respond)
    self.max_context = self._inner.max_context
    self._random = random.Random(seed)
    self._waiting = {}
    self.most_waiting = 0

  def open(self):
    return self._inner.open()

  def close(self, sequence):
    self._inner.close(sequence)

  @property
  def num_open(self):
    return self._inner.num_open

  def submit(self, sequence, *request):
    self._waiting[sequence] = request
    self.most_waiting = max(self.most_waiting, len(self._waiting))

  def step(self):
    assert self._waiting, 'step without anything to decode'
    sequence = self._random.choice(sorted(self._waiting))
    self._inner.submit(sequence, *self._waiting.pop(sequence))
    return self._inner.step()


def fingerprint(groups):
  return [
    [
      (r.task_id, r.index, t.agent, t.parent_turn, t.token_ids.tobytes())
      for t in r.trajectories
    ]
    for group in groups
    for r in group
  ]


TASKS = [
  types.Task(f'task {i}', f'Q{i}?', 'deep', answers=('a',)) for i in range(3)
]
OPTIONS = {'prompt_style': 'compact', 'group_size': 2, 'seed': 4}


def test_results_do_not_depend_on_timing():
  def run(engine, tools, tasks=TASKS, **options):
    groups = rollout.rollout_groups(
      engine, TOKENIZER, tools, tasks, **(OPTIONS | options)
    )
    assert engine.num_open == 0
    return fingerprint(groups)

  expected = run(scripted.ScriptedEngine(TOKENIZER, respond), helpers.Tools())
  slow = run(scripted.ScriptedEngine(TOKENIZER, respond), SlowTools(0))
  # The broken tool shows, and nothing else differs.
  assert expected != slow
  for seed in range(1, 4):
    assert run(TrickleEngine(seed), SlowTools(seed)) == slow
  assert run(TrickleEngine(5), SlowTools(5), max_open_rollouts=1) == slow
  assert run(TrickleEngine(6), SlowTools(6), tool_threads=1) == slow
  # Nor on which other tasks are there, and in which order.
  alone = run(TrickleEngine(7), SlowTools(7), TASKS[2:])
  assert alone == slow[4:]
  assert len(slow) == 6 and all(len(r) == 7 for r in slow)
  # Agents are numbered in the order of their creation.
  assert [t[2:4] for t in slow[0]] == [
    *((0, -1), (1, 0), (2, 0), (3, 0)),
    *((4, 1), (5, 1), (6, 1)),
  ]


def test_another_seed_or_step_is_another_address():
  def run(**options):
    return fingerprint(
      rollout.rollout_groups(
        scripted.ScriptedEngine(TOKENIZER, respond),
        TOKENIZER,
        helpers.Tools(),
        TASKS[:1],
        **(OPTIONS | options),
      )
    )

  assert run() == run()
  assert run() != run(seed=5)
  assert run() != run(step=1)


def test_agents_share_the_batch():
  engine = TrickleEngine(0)
  rollout.rollout_groups(engine, TOKENIZER, helpers.Tools(), TASKS, **OPTIONS)
  # All 6 leads at the start, and more once the first subagents exist.
  assert engine.most_waiting >= 6
  engine = TrickleEngine(0)
  rollout.rollout_groups(
    engine, TOKENIZER, helpers.Tools(), TASKS, max_open_rollouts=1, **OPTIONS
  )
  # One lead at a time: the 3 subagents of its fan-out run together.
  assert engine.most_waiting == 3


def test_tools_run_while_others_decode():
  released = threading.Event()

  class WaitingTools(helpers.Tools):
    def search(self, query, count):
      if not released.wait(timeout=20):
        raise TimeoutError('nobody decoded meanwhile')
      return super().search(query, count)

  def two_agents(messages, key):
    turn = sum(role == 'assistant' for role, _ in messages)
    if key[3] == 0:  # Rollout 0 waits for its tool.
      return 'Done.' if turn else helpers.call('search', query='a')
    if turn == 3:  # Rollout 1 needs several turns to release it.
      released.set()
      return 'Done.'
    return helpers.call('access', url='unknown')

  (group,) = rollout.rollout_groups(
    scripted.ScriptedEngine(TOKENIZER, two_agents),
    TOKENIZER,
    WaitingTools(),
    TASKS[:1],
    workflow='single',
    **OPTIONS,
  )
  assert [len(r.lead.turns) for r in group] == [2, 4]
  assert group[0].lead.turns[0].error == ''


def test_batches_do_not_depend_on_the_clock_without_overlap():
  # Batches decide the last bits of log-probs, so a run that is to repeat needs
  # the same ones, and in the same order, whichever tool is the slower.
  class RecordingEngine(scripted.ScriptedEngine):
    def __init__(self):
      super().__init__(TOKENIZER, respond)
      self.batches = [[]]

    def submit(self, sequence, token_ids, sampling, key):
      self.batches[-1].append((sequence, *key))
      super().submit(sequence, token_ids, sampling, key)

    def step(self):
      self.batches.append([])
      return super().step()

  class UnevenTools(helpers.Tools):
    def __init__(self, slow):
      self._slow = slow

    def search(self, query, count):
      # About half of all searches, told apart by the digit in their query.
      time.sleep(0.02 if int(query[1]) % 2 == self._slow else 0)
      return super().search(query, count)

  def run(slow, overlap_tools):
    engine = RecordingEngine()
    rollout.rollout_groups(
      engine,
      TOKENIZER,
      UnevenTools(slow),
      TASKS,
      overlap_tools=overlap_tools,
      tool_threads=8,
      **OPTIONS,
    )
    return engine.batches

  assert run(0, False) == run(1, False)
  # The tools are slow enough to show where the clock is let in.
  assert run(0, True) != run(1, True)


def test_progress_is_told_as_rollouts_end():
  told = []
  rollout.rollout_groups(
    TrickleEngine(0),
    TOKENIZER,
    helpers.Tools(),
    TASKS,
    progress=lambda *numbers: told.append(numbers),
    **OPTIONS,
  )
  assert told == [(i, 6) for i in range(1, 7)]


def test_single_rollouts_are_those_of_their_groups():
  def run(places, **options):
    ended = []
    found = rollout.rollouts(
      scripted.ScriptedEngine(TOKENIZER, respond),
      TOKENIZER,
      helpers.Tools(),
      places,
      on_rollout=ended.append,
      **(OPTIONS | options),
    )
    assert {id(r) for r in ended} == {id(r) for r in found}
    return fingerprint([found])

  everything = [(task, i) for task in TASKS for i in range(2)]
  whole = run(everything)
  some = run([(TASKS[0], 1), (TASKS[2], 0)], max_open_rollouts=1)
  assert some == [whole[1], whole[4]]


class BrokenError(Exception):
  pass


def test_an_engine_error_ends_the_run_and_frees_everything():
  def breaks(messages, key):
    if key[3] == 1 and key[4] == 2:
      raise BrokenError
    return respond(messages, key)

  engine = scripted.ScriptedEngine(TOKENIZER, breaks)
  with pytest.raises(BrokenError):
    rollout.rollout_groups(engine, TOKENIZER, helpers.Tools(), TASKS, **OPTIONS)
  assert engine.num_open == 0


def test_a_tool_that_asks_to_exit_ends_the_run():
  class ExitTools(helpers.Tools):
    def search(self, query, count):
      raise KeyboardInterrupt

  engine = scripted.ScriptedEngine(TOKENIZER, respond)
  with pytest.raises(KeyboardInterrupt):
    rollout.rollout_groups(engine, TOKENIZER, ExitTools(), TASKS, **OPTIONS)
  assert engine.num_open == 0


def test_nothing_to_run():
  assert scheduler.run([], {}, helpers.Tools()) == []


def test_a_prompt_that_fits_no_context_ends_at_once():
  engine = scripted.ScriptedEngine(TOKENIZER, respond, max_context=30)
  (group,) = rollout.rollout_groups(
    engine, TOKENIZER, helpers.Tools(), TASKS[:1], **OPTIONS
  )
  assert [r.lead.failures for r in group] == [(types.CONTEXT_FAILED,)] * 2


def test_agents_that_end_without_a_turn():
  def child(name):
    return (name,)
    yield  # Makes it a generator.

  def parent():
    answer = yield requests.CreateSubagents((child('a'), child('b')))
    again = yield requests.CreateSubagents((child('c'),))
    return (*answer, *again)

  results = scheduler.run([parent(), child('d')], {}, helpers.Tools())
  assert results == [(('a',), ('b',), ('c',)), ('d',)]


def test_a_dead_judge_behind_a_tool_ends_the_run():
  # A summariser's judge: not a failure of the tool, but an error of the run.
  class JudgedTools(helpers.Tools):
    def access(self, url, info=''):
      raise types.JudgeUnavailable('gone')

  engine = scripted.ScriptedEngine(TOKENIZER, respond)
  with pytest.raises(types.JudgeUnavailable, match='gone'):
    rollout.rollout_groups(
      engine, TOKENIZER, JudgedTools(), TASKS, check_urls=False, **OPTIONS
    )
  assert engine.num_open == 0


def test_a_page_is_opened_for_what_the_agent_wants_to_know():
  asked = []

  class NotingTools(helpers.Tools):
    def access(self, url, info=''):
      asked.append((url, info))

  def opens(messages, key):
    if len(messages) > 2:
      return 'Done.'
    return helpers.call('access', url='u', info_to_extract='the size')

  rollout.rollout_groups(
    scripted.ScriptedEngine(TOKENIZER, opens),
    TOKENIZER,
    NotingTools(),
    TASKS[:1],
    workflow='single',
    check_urls=False,
    **OPTIONS,
  )
  assert asked == [('u', 'the size')] * 2
