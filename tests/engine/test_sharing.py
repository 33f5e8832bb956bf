import numpy as np

from tests.engine import helpers


def test_a_shared_prompt_is_computed_once():
  engine = helpers.make()
  tokens = helpers.prompt(3, 18)
  group = [engine.open() for _ in range(4)]
  for index, sequence in enumerate(group):
    engine.submit(sequence, tokens, helpers.plain(5), (index,))
  ended = helpers.run(engine, group)
  # The last token is read when sampling, by every rollout of the group.
  stats = engine.stats()
  assert stats.prefill_tokens == 17
  assert stats.shared_tokens == 3 * 17
  # 4 full pages are shared, the fifth and sixth page are everyone's own.
  assert helpers.held_pages(engine) == 4 + 4 * 2
  assert len({g.token_ids.tobytes() for g in ended.values()}) > 1
  for index, sequence in enumerate(group):
    expected = helpers.recomputed(tokens, ended[sequence])
    np.testing.assert_allclose(ended[sequence].logprobs, expected, atol=1e-4)
    alone = helpers.turn(helpers.make(), tokens, helpers.plain(5), (index,))
    helpers.assert_same(ended[sequence], alone)


def test_a_fork_leaves_its_parent_unchanged():
  shared = helpers.prompt(4, 10)
  engine = helpers.make()
  parent = engine.open()
  first = helpers.turn(engine, shared, key=(0, 0), sequence=parent)
  # The fork shares two pages and a part of the third, then differs.
  fork = helpers.turn(
    engine, np.append(shared[:9], (shared[9] + 1) % 32), key=(1, 0)
  )
  assert engine.stats().shared_tokens == 9
  second = helpers.turn(
    engine, helpers.prompt(5, 3), key=(0, 1), sequence=parent
  )
  alone = helpers.make()
  sequence = alone.open()
  helpers.assert_same(
    helpers.turn(alone, shared, key=(0, 0), sequence=sequence), first
  )
  helpers.assert_same(
    helpers.turn(alone, helpers.prompt(5, 3), key=(0, 1), sequence=sequence),
    second,
  )
  assert fork.finish_reason == 'length'
