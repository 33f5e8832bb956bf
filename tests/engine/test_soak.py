"""Random use: no page leaks, no neighbour is touched.

Agents come, talk, fork, wait and go, with too few pages for all of them. Each
turn is compared with the same request alone on a fresh engine, which reads all
that was said before in one go: keys are then computed by calls of other shapes,
so log-probs agree to 1e-5, and tokens are the same.
"""

import collections
from typing import ClassVar

import hypothesis
import numpy as np
import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from tests.engine import helpers

MAX_OPEN = 8
# 14 pages are left: one sequence of full length needs 12, and one to copy.
HOG = 34

SAMPLINGS = (
  helpers.plain(1),
  helpers.plain(9, stop_ids=(helpers.STOP,)),
  helpers.plain(12),
  helpers.plain(6, temperature=0.0),
  helpers.plain(6, temperature=0.7, top_k=3),
  helpers.plain(6, top_p=0.8, stop_ids=(1, 2, 3)),
)

tokens = st.integers(1, 14).flatmap(
  # Few beginnings, so that prefixes meet.
  lambda length: st.builds(helpers.prompt, st.integers(0, 2), st.just(length))
)


class Soak(stateful.RuleBasedStateMachine):
  """An engine, and for each of its sequences what it should hold."""

  # Over all runs: operations, turns compared, and what the engine went through.
  done: ClassVar[collections.Counter] = collections.Counter()

  def __init__(self):
    super().__init__()
    self.engine = helpers.make()
    self.weights = 0
    self.turns = 0
    self.hog()

  def hog(self):
    self.history = {}
    self.asked = {}
    for _ in range(HOG):
      self.engine._shards.queues[0].pool.allocate()

  def submit(self, sequence, new, sampling):
    self.turns += 1
    request = (new, sampling, (self.turns,))
    self.engine.submit(sequence, *request)
    self.asked[sequence] = request

  @property
  def idle(self):
    return sorted(set(self.history) - set(self.asked))

  @stateful.precondition(lambda self: len(self.history) < MAX_OPEN)
  @stateful.rule(new=tokens, sampling=st.sampled_from(SAMPLINGS))
  def open(self, new, sampling):
    sequence = self.engine.open()
    self.history[sequence] = np.zeros(0, np.int32)
    self.submit(sequence, new, sampling)

  @stateful.precondition(lambda self: self.idle)
  @stateful.rule(data=st.data(), new=tokens, how=st.sampled_from(SAMPLINGS))
  def extend(self, data, new, how):
    self.submit(data.draw(st.sampled_from(self.idle)), new, how)

  @stateful.precondition(lambda self: 0 < len(self.history) < MAX_OPEN)
  @stateful.rule(data=st.data(), new=tokens, how=st.sampled_from(SAMPLINGS))
  def fork(self, data, new, how):
    """Another sequence begins as one that is there, and goes its own way."""
    parent = self.history[data.draw(st.sampled_from(sorted(self.history)))]
    kept = parent[: data.draw(st.integers(0, len(parent)))]
    sequence = self.engine.open()
    self.history[sequence] = np.zeros(0, np.int32)
    self.submit(sequence, np.concatenate([kept, new]), how)

  @stateful.rule(count=st.integers(1, 8))
  def step(self, count):
    for _ in range(count):
      for sequence, generation in self.engine.step():
        self.compare(sequence, generation)

  @stateful.precondition(lambda self: len(self.history) > 3)
  @stateful.rule(data=st.data())
  def close(self, data):
    sequence = data.draw(st.sampled_from(sorted(self.history)))
    self.engine.close(sequence)
    del self.history[sequence]
    self.asked.pop(sequence, None)

  @stateful.precondition(lambda self: self.turns % 20 == 19)
  @stateful.rule()
  def new_weights(self):
    self.weights = 1 - self.weights
    self.engine.set_params(helpers.params(self.weights))
    self.hog()

  def compare(self, sequence, generation):
    new, sampling, key = self.asked.pop(sequence)
    read = np.concatenate([self.history[sequence], new])
    self.done['turns'] += 1
    if len(read) >= 48:
      assert generation.finish_reason == 'context'
      assert len(generation.token_ids) == 0
      return
    fresh = helpers.make(weights=self.weights)
    alone = helpers.turn(fresh, read, sampling, key)
    helpers.assert_same(generation, alone)
    self.history[sequence] = np.concatenate([read, generation.token_ids])

  @stateful.invariant()
  def every_page_is_accounted_for(self):
    self.done['operations'] += 1
    pool = self.engine._shards.queues[0].pool
    holds = collections.Counter()
    for state in self.engine._shards.queues[0].sequences.values():
      holds.update(state.table.pages)
      holds.update([state.table.borrowed] if state.table.borrowed else [])
    held = {p: int(n) for p, n in enumerate(pool._holders) if n}
    assert holds.total() + HOG == sum(held.values())
    assert all(held[page] == count for page, count in holds.items())
    assert len(held) + pool.available == pool.num_pages

  def teardown(self):
    for _ in range(400):
      if not self.asked:
        break
      self.step(1)
    assert not self.asked, 'a turn that never ends'
    stats = self.engine.stats()
    for name in ('preemptions', 'shared_tokens', 'recomputed_tokens'):
      self.done[name] += getattr(stats, name)
    for sequence in self.history:
      self.engine.close(sequence)
    assert helpers.held_pages(self.engine) == HOG


def soak(examples, steps):
  Soak.done.clear()
  stateful.run_state_machine_as_test(
    Soak,
    settings=hypothesis.settings(
      max_examples=examples,
      stateful_step_count=steps,
      deadline=None,
      derandomize=True,
      suppress_health_check=list(hypothesis.HealthCheck),
    ),
  )
  print(dict(Soak.done))
  return Soak.done


def test_random_use():
  done = soak(examples=8, steps=40)
  assert done['turns'] > 30


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_operations():
  done = soak(examples=120, steps=120)
  assert done['operations'] >= 10_000
  assert done['preemptions'] > 100
  assert done['shared_tokens'] > 1000
