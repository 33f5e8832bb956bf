import numpy as np
import pytest

from tests.engine import helpers


@pytest.mark.parametrize('seed', range(2))
def test_random_use_is_correct_and_leaks_nothing(seed):
  """Agents that come, talk, wait and go, with too few pages for all."""
  random = np.random.default_rng(seed)
  engine = helpers.make()
  hog = [engine._shards.queues[0].pool.allocate() for _ in range(34)]
  history, waiting = {}, {}
  checked = 0
  for _ in range(80):
    action = random.choice(
      ['open', 'submit', 'step', 'close'], p=[0.15, 0.35, 0.45, 0.05]
    )
    idle = [s for s in history if s not in waiting]
    if action == 'open' and len(history) < 7:
      history[engine.open()] = np.zeros(0, np.int32)
    elif action == 'submit' and idle:
      sequence = random.choice(idle)
      # Few different beginnings, so that pages are shared.
      start = (
        helpers.prompt(random.integers(2), 5)
        if not len(history[sequence])
        else ()
      )
      new = np.append(start, helpers.prompt(random.integers(99), 3)).astype(
        np.int32
      )
      sampling = helpers.plain(
        int(random.integers(1, 9)), stop_ids=(helpers.STOP,)
      )
      engine.submit(sequence, new, sampling, (seed, int(sequence)))
      waiting[sequence] = new
    elif action == 'close' and history:
      sequence = random.choice(list(history))
      engine.close(sequence)
      del history[sequence]
      waiting.pop(sequence, None)
    for sequence, generation in engine.step() if action == 'step' else ():
      new = waiting.pop(sequence)
      if not len(generation.token_ids):
        assert len(history[sequence]) + len(new) >= 48
        continue
      history[sequence] = np.concatenate([history[sequence], new])
      expected = helpers.recomputed(history[sequence], generation)
      np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
      history[sequence] = np.append(history[sequence], generation.token_ids)
      checked += len(generation.token_ids)
  assert checked > 50
  assert engine.stats().preemptions > 0
  assert engine.stats().shared_tokens > 0
  for sequence in history:
    engine.close(sequence)
  assert helpers.held_pages(engine) == len(hog)
