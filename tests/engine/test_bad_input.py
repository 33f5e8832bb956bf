"""What cannot be done is an error that says why, or ends as documented."""

import math

import numpy as np
import pytest

from tests.engine import helpers


def assert_works(engine, sequence):
  """The sequence is as it was before what was refused."""
  prompt, sampling = helpers.prompt(1, 6), helpers.plain(5)
  alone = helpers.turn(helpers.make(), prompt, sampling, (1,))
  found = helpers.turn(engine, prompt, sampling, (1,), sequence)
  helpers.assert_same(found, alone)


@pytest.mark.parametrize(
  ('tokens', 'message'),
  [
    ([], 'not integers'),
    ([[1, 2]], 'not integers'),
    ([1.5], 'float'),
    ([True], 'bool'),
    ([3, 32], 'from 3 to 32 for a vocabulary of 32'),
    ([-1], 'from -1'),
    (np.array([1 << 63], np.uint64), 'to 9223372036854775808'),
  ],
)
def test_bad_tokens_are_refused(tokens, message):
  engine = helpers.make()
  sequence = engine.open()
  with pytest.raises(ValueError, match=message):
    engine.submit(sequence, np.array(tokens), helpers.plain(), (0,))
  assert_works(engine, sequence)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'temperature': -1.0}, 'temperature'),
    ({'temperature': math.nan}, 'temperature'),
    ({'temperature': math.inf}, 'temperature'),
    ({'top_p': 0.0}, 'top_p'),
    ({'top_p': 1.1}, 'top_p'),
    ({'top_p': math.nan}, 'top_p'),
    ({'top_k': -1}, 'top_k'),
    ({'max_tokens': 0}, 'max_tokens=0'),
    ({'max_tokens': -5}, 'max_tokens=-5'),
    ({'stop_ids': (32,)}, 'for a vocabulary of 32'),
    ({'stop_ids': (-1,)}, 'for a vocabulary of 32'),
    ({'stop_ids': (1,) * 257}, '257 stop ids; at most 256'),
  ],
)
def test_bad_sampling_is_refused(options, message):
  engine = helpers.make()
  sequence = engine.open()
  with pytest.raises(ValueError, match=message):
    engine.submit(
      sequence, helpers.prompt(0, 1), helpers.plain(**options), (0,)
    )
  assert_works(engine, sequence)


@pytest.mark.parametrize('length', [48, 49, 1000])
def test_a_prompt_longer_than_the_context_ends_its_turn(length):
  engine = helpers.make()
  sequence = engine.open()
  engine.submit(sequence, helpers.prompt(1, length), helpers.plain(), (0,))
  ((ended, generation),) = engine.step()
  assert ended == sequence
  assert generation.finish_reason == 'context'
  assert generation.token_ids.shape == generation.logprobs.shape == (0,)
  # Nothing of it was kept.
  assert helpers.held_pages(engine) == engine.stats().prefill_tokens == 0
  assert_works(engine, sequence)


def test_a_refused_prompt_is_forgotten_with_its_sequence():
  engine = helpers.make()
  sequence = engine.open()
  engine.submit(sequence, helpers.prompt(1, 48), helpers.plain(), (0,))
  engine.close(sequence)
  assert engine.step() == []


def test_misused_sequences_are_named():
  engine = helpers.make()
  sequence = engine.open()
  engine.submit(sequence, helpers.prompt(1, 1), helpers.plain(), (0,))
  with pytest.raises(ValueError, match=f'{sequence} still samples'):
    engine.submit(sequence, helpers.prompt(1, 1), helpers.plain(), (0,))
  engine.close(sequence)
  with pytest.raises(ValueError, match=f'sequence {sequence} is closed'):
    engine.close(sequence)
  with pytest.raises(ValueError, match=f'sequence {sequence} is closed'):
    engine.submit(sequence, helpers.prompt(1, 1), helpers.plain(), (0,))
  for unknown in (99, -1):
    with pytest.raises(ValueError, match=f'no sequence {unknown}'):
      engine.close(unknown)
  assert engine.step() == []


def test_a_sequence_does_not_outlive_its_weights():
  engine = helpers.make()
  idle, sampling, refused = (engine.open() for _ in range(3))
  helpers.turn(engine, helpers.prompt(1, 6), sequence=idle)
  engine.submit(sampling, helpers.prompt(2, 6), helpers.plain(), (2,))
  engine.step()
  engine.submit(refused, helpers.prompt(3, 48), helpers.plain(), (3,))
  engine.set_params(helpers.params())
  for sequence in (idle, sampling, refused):
    with pytest.raises(ValueError, match='closed by set_params'):
      engine.submit(sequence, helpers.prompt(3, 1), helpers.plain(), (0,))
    with pytest.raises(ValueError, match='closed by set_params'):
      engine.close(sequence)
  assert engine.step() == []
  assert_works(engine, engine.open())


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'num_rows': -1}, 'num_rows=-1 is below 0'),
    ({'num_pages': -1}, 'num_pages=-1 is below 0'),
    ({'page_size': 0}, 'page_size=0 is below 1'),
    ({'max_context': 1}, 'max_context=1 is below 2'),
    ({'chunk_len': 0}, 'chunk_len=0 is below 1'),
    ({'prefill_len': 0}, 'prefill_len=0 is below 1'),
    ({'prefill_rows': 0}, 'prefill_rows=0 is below 1'),
    ({'memory_bytes': -1}, 'memory_bytes=-1 is below 0'),
    ({'prefill_len': 6}, 'prefill_len=6 is no multiple of page_size=4'),
    ({'num_pages': 12}, '12 pages of 4 tokens cannot hold one sequence'),
    ({'num_rows': 49}, '48 pages cannot serve 49 rows'),
    ({'num_rows': 0}, 'set memory_bytes'),
  ],
)
def test_sizes_that_cannot_work_are_refused(sizes, message):
  with pytest.raises(ValueError, match=message):
    helpers.make(**sizes)
