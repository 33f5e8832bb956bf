"""What a turn samples depends on its address, not on its company."""

import numpy as np
import pytest

from tests.engine import helpers


def sample(engine, order):
  """The turns of seeds, submitted in an order, sampled together."""
  sequences = {}
  for seed in order:
    sequences[seed] = engine.open()
    sampling = helpers.plain(9 - seed % 3, top_k=seed % 3)
    tokens = helpers.prompt(seed, 3 * seed)
    engine.submit(sequences[seed], tokens, sampling, (seed,))
  ended = helpers.run(engine, sequences.values())
  for sequence in sequences.values():
    engine.close(sequence)
  return {seed: ended[sequence] for seed, sequence in sequences.items()}


@pytest.mark.parametrize('sizes', [{'num_rows': 3}, {'chunk_len': 3}])
def test_samples_do_not_depend_on_rows_chunks_or_order(sizes):
  expected = sample(helpers.make(), range(1, 7))
  found = sample(helpers.make(**sizes), [5, 2, 6, 1, 4, 3])
  for seed in range(1, 7):
    helpers.assert_same(found[seed], expected[seed])


def test_samples_do_not_depend_on_the_shapes_of_calls():
  """Alone in a small batch, or shuffled, queued and preempted in a large one.

  Other shapes may round otherwise, so log-probs agree to 1e-5; the tokens are
  the same.
  """
  sizes = {'num_rows': 16, 'page_size': 16, 'max_context': 256}
  sizes |= {'num_pages': 128, 'chunk_len': 8, 'prefill_len': 16}
  engine = helpers.make(**sizes)
  seeds = list(range(1, 80, 4))  # up to 237 tokens
  alone = {}
  for seed in seeds:
    alone |= sample(engine, [seed])
    engine.set_params(helpers.params())
  random = np.random.default_rng(0)
  together = sample(engine, random.permutation(seeds).tolist())
  engine.set_params(helpers.params())
  for _ in range(128 - 24):
    engine._shards.queues[0].pool.allocate()
  engine.reset_stats()
  squeezed = sample(engine, random.permutation(seeds).tolist())
  assert engine.stats().preemptions > 0
  for seed in seeds:
    helpers.assert_same(together[seed], alone[seed])
    helpers.assert_same(squeezed[seed], alone[seed])


def test_company_changes_no_bit():
  # Four rows sample in either case: calls of equal shapes round equally.
  engine = helpers.make()

  def sample_with(others):
    sequences = {seed: engine.open() for seed in (*others, 1)}
    for seed, sequence in sequences.items():
      engine.submit(sequence, helpers.prompt(seed, 6), helpers.plain(), (seed,))
    found = helpers.run(engine, sequences.values())[sequences[1]]
    engine.set_params(helpers.params())
    return found

  found, expected = sample_with((0, 2, 3)), sample_with((6, 5, 4))
  np.testing.assert_array_equal(found.token_ids, expected.token_ids)
  np.testing.assert_array_equal(found.logprobs, expected.logprobs)
