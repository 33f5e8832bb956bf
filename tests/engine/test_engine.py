import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.engine import helpers
from wideseek_jax import sharding
from wideseek_jax.engine import device
from wideseek_jax.engine import engine as engine_lib


@pytest.mark.parametrize('temperature', [1.0, 0.7])
def test_cached_turns_equal_a_full_forward(temperature):
  # Prompts that end before, on and after the edge of a page of 4; three turns
  # each, whose last tokens are read at the start of the next turn.
  engine = helpers.make()
  history = {engine.open(): helpers.prompt(n, n) for n in (1, 4, 5, 9)}
  sent = dict(history)
  for index in range(3):
    for sequence, tokens in sent.items():
      sampling = helpers.plain(6, temperature=temperature)
      engine.submit(sequence, tokens, sampling, (sequence, index))
    for sequence, generation in helpers.run(engine, history).items():
      expected = helpers.recomputed(history[sequence], generation, temperature)
      np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
      assert len(generation.token_ids) == 6
      sent[sequence] = helpers.prompt(100 + sequence, sequence + 1)
      history[sequence] = np.concatenate(
        [history[sequence], generation.token_ids, sent[sequence]]
      )
  # Every token but the last of each sequence was read once: one forward for
  # each token sampled, the others by prefill.
  stats = engine.stats()
  held = sum(len(tokens) - len(sent[s]) for s, tokens in history.items())
  assert stats.decode_tokens == 4 * 3 * 6
  assert stats.prefill_tokens + stats.decode_tokens == held - 4
  assert stats.recomputed_tokens == stats.shared_tokens == 0


def test_two_interleaved_equal_each_alone():
  engine = helpers.make()
  alone = {}
  for seed in (1, 2):
    sequence = engine.open()
    first = helpers.turn(
      engine, helpers.prompt(seed, 7), key=(seed, 0), sequence=sequence
    )
    second = helpers.turn(
      engine, helpers.prompt(seed, 3), key=(seed, 1), sequence=sequence
    )
    alone[seed] = (first, second)
  fresh = helpers.make()
  one, two = fresh.open(), fresh.open()
  fresh.submit(one, helpers.prompt(1, 7), helpers.plain(), (1, 0))
  fresh.step()
  fresh.submit(two, helpers.prompt(2, 7), helpers.plain(), (2, 0))
  ended = helpers.run(fresh, [one, two])
  helpers.assert_same(ended[one], alone[1][0])
  helpers.assert_same(ended[two], alone[2][0])
  fresh.submit(two, helpers.prompt(2, 3), helpers.plain(), (2, 1))
  fresh.submit(one, helpers.prompt(1, 3), helpers.plain(), (1, 1))
  ended = helpers.run(fresh, [one, two])
  helpers.assert_same(ended[one], alone[1][1])
  helpers.assert_same(ended[two], alone[2][1])


def test_a_turn_ends_with_its_stop_token():
  free = helpers.turn(
    helpers.make(), helpers.prompt(6, 5), helpers.plain(20), key=(6,)
  )
  stop = int(free.token_ids[7])
  place = free.token_ids.tolist().index(stop)
  sampling = helpers.plain(20, stop_ids=(31 if stop != 31 else 30, stop))
  stopped = helpers.turn(
    helpers.make(), helpers.prompt(6, 5), sampling, key=(6,)
  )
  assert stopped.finish_reason == 'stop'
  expected = free.token_ids[: len(stopped.token_ids)]
  np.testing.assert_array_equal(stopped.token_ids, expected)
  assert len(stopped.token_ids) <= place + 1
  assert stopped.token_ids[-1] in sampling.stop_ids


def test_a_turn_ends_with_its_context():
  # 48 tokens fit: 40 read, 8 sampled.
  engine = helpers.make()
  sequence = engine.open()
  generation = helpers.turn(
    engine, helpers.prompt(7, 40), helpers.plain(20), sequence=sequence
  )
  assert generation.finish_reason == 'context'
  assert len(generation.token_ids) == 8
  expected = helpers.recomputed(helpers.prompt(7, 40), generation)
  np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
  more = helpers.turn(engine, helpers.prompt(8, 1), sequence=sequence)
  assert more.finish_reason == 'context' and len(more.token_ids) == 0


def test_tokens_that_do_not_fit_are_not_appended():
  engine = helpers.make()
  sequence = engine.open()
  first = helpers.turn(
    engine, helpers.prompt(1, 6), helpers.plain(4), key=(0,), sequence=sequence
  )
  refused = helpers.turn(engine, helpers.prompt(2, 38), sequence=sequence)
  assert refused.finish_reason == 'context'
  assert refused.token_ids.shape == refused.logprobs.shape == (0,)
  # 10 + 37 tokens leave room for one more.
  last = helpers.turn(
    engine, helpers.prompt(2, 37), helpers.plain(4), key=(1,), sequence=sequence
  )
  assert last.finish_reason == 'context' and len(last.token_ids) == 1
  history = np.concatenate(
    [helpers.prompt(1, 6), first.token_ids, helpers.prompt(2, 37)]
  )
  np.testing.assert_allclose(
    last.logprobs, helpers.recomputed(history, last), atol=1e-4
  )


def test_temperature_zero_takes_the_likeliest():
  tokens = helpers.prompt(9, 6)
  generation = helpers.turn(
    helpers.make(), tokens, helpers.plain(5, temperature=0.0)
  )
  np.testing.assert_array_equal(generation.logprobs, 0.0)
  for index, token in enumerate(generation.token_ids):
    history = np.concatenate([tokens, generation.token_ids[:index]])
    table = helpers.full_forward(history)
    assert token == int(table[len(history) - 1].argmax())


def test_set_params_closes_everything():
  engine = helpers.make()
  running, idle = engine.open(), engine.open()
  helpers.turn(engine, helpers.prompt(1, 8), sequence=idle)
  engine.submit(running, helpers.prompt(2, 8), helpers.plain(), (2,))
  engine.step()
  engine.set_params(helpers.params(1))
  assert helpers.held_pages(engine) == 0
  assert engine.step() == []
  for sequence in (running, idle):
    with pytest.raises(ValueError, match='closed by set_params'):
      engine.submit(sequence, helpers.prompt(3, 1), helpers.plain(), (0,))
  # Nothing of the old weights is left, not even the shared prefix.
  generation = helpers.turn(engine, helpers.prompt(1, 8))
  assert engine.stats().shared_tokens == 0
  np.testing.assert_allclose(
    generation.logprobs,
    helpers.recomputed(helpers.prompt(1, 8), generation, seed=1),
    atol=1e-4,
  )


def test_the_engine_keeps_a_copy_of_the_params():
  mine = jax.tree.map(jnp.copy, helpers.params())
  engine = engine_lib.Engine(helpers.CONFIG, mine, **helpers.SIZES)
  expected = helpers.turn(helpers.make(), helpers.prompt(1, 5))
  for leaf in jax.tree.leaves(mine):
    leaf.delete()
  helpers.assert_same(helpers.turn(engine, helpers.prompt(1, 5)), expected)


@pytest.fixture(scope='module')
def sharded_engine():
  mesh = sharding.make_mesh(jax.devices()[:2], tensor=2)
  return engine_lib.Engine(
    helpers.CONFIG, helpers.params(), mesh, **helpers.SIZES
  )


def test_compilations_are_counted_and_constant(sharded_engine):
  # The only engine on two devices: no other test compiled its shapes. One
  # context; chunks of 1, 2 and 4 rows, prefill of 1 and 3.
  engine = sharded_engine
  assert engine.warm_up() == 5
  for seed, length in enumerate((1, 13, 30)):
    for sampling in (
      helpers.plain(3),
      helpers.plain(7, top_k=2, stop_ids=(1, 2)),
    ):
      helpers.turn(engine, helpers.prompt(seed, length), sampling)
  sequences = [engine.open() for _ in range(6)]
  for sequence in sequences:
    engine.submit(
      sequence, helpers.prompt(sequence, 9), helpers.plain(), (sequence,)
    )
  helpers.run(engine, sequences)
  engine.set_params(helpers.params())
  helpers.turn(engine, helpers.prompt(1, 9))
  assert engine.compile_count == engine.stats().compile_count == 5


def test_tensor_parallel_decoding_samples_the_same(sharded_engine):
  k_pages = sharded_engine._device._pages[0][0]
  # 48 pages and the scratch page; each device holds one of two kv heads.
  assert k_pages.addressable_shards[0].data.shape == (49, 4, 1, 4)
  expected = helpers.turn(helpers.make(), helpers.prompt(1, 9), key=(1,))
  helpers.assert_same(
    helpers.turn(sharded_engine, helpers.prompt(1, 9), key=(1,)), expected
  )
  assert sharded_engine._device._pages[0][0].sharding == k_pages.sharding


def test_contexts_to_compile_for():
  assert device.context_buckets(32, 1024) == (128, 256, 384, 512, 768, 1024)
  assert device.context_buckets(48, 700) == (144, 288, 384, 528, 720)
  assert device.context_buckets(4, 50) == (52,)


@pytest.mark.parametrize(('readers', 'rows'), [(3, [1, 1, 1]), (5, [8])])
def test_few_readers_read_one_by_one(readers, rows, monkeypatch):
  # A call of 8 rows costs as much for 3 of them as for all.
  engine = helpers.make(num_rows=8, prefill_rows=8)
  calls = []
  read = engine._device._read
  monkeypatch.setattr(
    engine._device,
    '_read',
    lambda chosen, num_rows, *shape: (
      calls.append(num_rows),
      read(chosen, num_rows, *shape),
    ),
  )
  sequences = [engine.open() for _ in range(readers)]
  for sequence in sequences:
    # 4 tokens to read, and one to begin with.
    prompt = helpers.prompt(sequence, 5)
    engine.submit(sequence, prompt, helpers.plain(2), (sequence,))
  helpers.run(engine, sequences)
  assert calls == rows
