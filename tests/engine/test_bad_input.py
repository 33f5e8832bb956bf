import numpy as np
import pytest

from tests.engine import helpers


@pytest.mark.parametrize(
  ('tokens', 'message'),
  [
    ([], 'not integers'),
    ([[1, 2]], 'not integers'),
    ([1.5], 'float'),
    ([3, 32], 'from 3 to 32 for a vocabulary of 32'),
    ([-1], 'from -1'),
  ],
)
def test_bad_tokens_are_refused(tokens, message):
  engine = helpers.make()
  with pytest.raises(ValueError, match=message):
    engine.submit(engine.open(), np.array(tokens), helpers.plain(), (0,))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'temperature': -1.0}, 'temperature'),
    ({'top_p': 0.0}, 'top_p'),
    ({'top_k': -1}, 'top_k'),
    ({'max_tokens': 0}, 'max_tokens=0'),
    ({'stop_ids': tuple(range(9))}, '9 stop ids; at most 8'),
  ],
)
def test_bad_sampling_is_refused(options, message):
  engine = helpers.make()
  with pytest.raises(ValueError, match=message):
    engine.submit(
      engine.open(), helpers.prompt(0, 1), helpers.plain(**options), (0,)
    )


def test_misused_sequences_are_named():
  engine = helpers.make()
  sequence = engine.open()
  engine.submit(sequence, helpers.prompt(1, 1), helpers.plain(), (0,))
  with pytest.raises(ValueError, match=f'{sequence} still samples'):
    engine.submit(sequence, helpers.prompt(1, 1), helpers.plain(), (0,))
  engine.close(sequence)
  with pytest.raises(ValueError, match=f'sequence {sequence} is closed'):
    engine.close(sequence)
  with pytest.raises(ValueError, match='no sequence 99'):
    engine.close(99)
  assert engine.step() == []


def test_sizes_that_cannot_work_are_refused():
  with pytest.raises(ValueError, match='12 pages of 4 tokens cannot hold'):
    helpers.make(num_pages=12)
  with pytest.raises(ValueError, match='prefill_len=6'):
    helpers.make(prefill_len=6)
