import numpy as np

from tests.engine import helpers


def test_preempted_turns_sample_the_same():
  lengths = (20, 14, 9)
  expected = [
    helpers.turn(
      helpers.make(), helpers.prompt(n, n), helpers.plain(20), key=(n,)
    )
    for n in lengths
  ]
  engine = helpers.make()
  # 12 pages are left: 20 + 19 tokens of the first alone need 10 of them.
  hog = [engine._shards.queues[0].pool.allocate() for _ in range(36)]
  sequences = [engine.open() for _ in lengths]
  for n, sequence in zip(lengths, sequences, strict=True):
    engine.submit(sequence, helpers.prompt(n, n), helpers.plain(20), (n,))
  ended = helpers.run(engine, sequences)
  for sequence, generation in zip(sequences, expected, strict=True):
    helpers.assert_same(ended[sequence], generation)
  stats = engine.stats()
  assert stats.preemptions > 0
  assert stats.recomputed_tokens > 0
  assert stats.decode_tokens == 60
  for page in hog:
    engine._shards.queues[0].pool.release(page)
  for sequence in sequences:
    engine.close(sequence)
  assert helpers.held_pages(engine) == 0


def test_a_waiting_agent_gives_up_its_pages_last():
  engine = helpers.make()
  waiting = engine.open()
  first = helpers.turn(
    engine, helpers.prompt(1, 20), helpers.plain(5), (1, 0), waiting
  )
  assert helpers.held_pages(engine) == 6  # 24 tokens have keys
  hog = [engine._shards.queues[0].pool.allocate() for _ in range(34)]
  # 8 free pages: 40 tokens need 10.
  helpers.turn(engine, helpers.prompt(2, 30), helpers.plain(10), (2, 0))
  assert engine.stats().preemptions == 1
  for page in hog:
    engine._shards.queues[0].pool.release(page)
  second = helpers.turn(
    engine, helpers.prompt(3, 4), helpers.plain(5), (1, 1), waiting
  )
  history = np.concatenate(
    [helpers.prompt(1, 20), first.token_ids, helpers.prompt(3, 4)]
  )
  np.testing.assert_allclose(
    second.logprobs, helpers.recomputed(history, second), atol=1e-4
  )


def test_the_fewest_pages_hold_a_whole_sequence_and_a_copy():
  engine = helpers.make()
  hog = [engine._shards.queues[0].pool.allocate() for _ in range(48 - 13)]
  parent = engine.open()
  helpers.turn(engine, helpers.prompt(1, 44), helpers.plain(3), (1,), parent)
  # Prefill read 43 of its tokens: 10 full pages are shared, the eleventh is
  # copied and the twelfth new. For a moment 13 pages are in use.
  fork = np.concatenate([helpers.prompt(1, 44), helpers.prompt(2, 3)])
  generation = helpers.turn(engine, fork, helpers.plain(1), (2,))
  expected = helpers.recomputed(fork, generation)
  np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
  assert helpers.held_pages(engine) == len(hog) + 12
  assert engine.stats().preemptions == 1
