"""A turn that is cut ends with what was sampled, and disturbs nobody."""

import numpy as np
import pytest

from tests.engine import helpers


def test_a_cut_turn_keeps_its_tokens_and_can_go_on():
  tokens, after = helpers.prompt(1, 6), helpers.prompt(2, 4)
  whole = helpers.turn(helpers.make(), tokens, helpers.plain(30), key=(1,))
  other = helpers.turn(helpers.make(), after, helpers.plain(30), key=(2,))
  engine = helpers.make()
  cut, beside = engine.open(), engine.open()
  engine.submit(cut, tokens, helpers.plain(30), (1,))
  engine.submit(beside, after, helpers.plain(30), (2,))
  for _ in range(4):
    assert engine.step() == []
  engine.cut(cut)
  ended = helpers.run(engine, [cut, beside])
  generation = ended[cut]
  assert generation.finish_reason == 'cut'
  n = len(generation.token_ids)
  assert 5 <= n < 30
  np.testing.assert_array_equal(generation.token_ids, whole.token_ids[:n])
  np.testing.assert_allclose(generation.logprobs, whole.logprobs[:n], atol=1e-5)
  helpers.assert_same(ended[beside], other)
  # The chunk that was sampled in vain left no trace in the context.
  then = helpers.turn(engine, after, helpers.plain(5), key=(3,), sequence=cut)
  history = np.concatenate([tokens, generation.token_ids, after])
  np.testing.assert_allclose(
    then.logprobs, helpers.recomputed(history, then), atol=1e-4
  )
  engine.close(cut)
  engine.close(beside)
  assert helpers.held_pages(engine) == 0


def test_a_turn_can_be_cut_before_its_first_token():
  engine = helpers.make()
  sequence = engine.open()
  # There is nothing to cut yet, nor after the turn.
  engine.cut(sequence)
  engine.submit(sequence, helpers.prompt(1, 6), helpers.plain(), (1,))
  engine.cut(sequence)
  generation = helpers.run(engine, [sequence])[sequence]
  assert generation.finish_reason == 'cut' and len(generation.token_ids) == 0
  engine.cut(sequence)
  assert engine.step() == []
  engine.close(sequence)
  with pytest.raises(ValueError, match='is closed'):
    engine.cut(sequence)
