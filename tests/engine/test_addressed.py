import numpy as np
import pytest

from tests.engine import helpers


@pytest.mark.parametrize('sizes', [{'num_rows': 3}, {'chunk_len': 3}])
def test_samples_do_not_depend_on_rows_chunks_or_order(sizes):
  def tokens_of(engine, order):
    sequences = {}
    for seed in order:
      sequences[seed] = engine.open()
      sampling = helpers.plain(9 - seed, top_k=seed % 3)
      engine.submit(
        sequences[seed], helpers.prompt(seed, 3 * seed), sampling, (seed,)
      )
    ended = helpers.run(engine, sequences.values())
    return {seed: ended[sequence] for seed, sequence in sequences.items()}

  expected = tokens_of(helpers.make(), range(1, 7))
  found = tokens_of(helpers.make(**sizes), [5, 2, 6, 1, 4, 3])
  for seed in range(1, 7):
    helpers.assert_same(found[seed], expected[seed])


def test_company_changes_no_bit():
  engine = helpers.make()
  alone = helpers.turn(engine, helpers.prompt(1, 6), key=(1,))
  engine.set_params(helpers.params())
  sequences = [engine.open() for _ in range(4)]
  for seed, sequence in enumerate(sequences):
    engine.submit(
      sequence, helpers.prompt(seed, 6), helpers.plain(9 - seed), (seed,)
    )
  generation = helpers.run(engine, sequences)[sequences[1]]
  np.testing.assert_array_equal(generation.token_ids, alone.token_ids[:8])
  np.testing.assert_array_equal(generation.logprobs, alone.logprobs[:8])
