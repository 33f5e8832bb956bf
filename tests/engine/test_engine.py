import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax import sharding, types
from wideseek_jax.engine import device
from wideseek_jax.engine import engine as engine_lib
from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers, transformer

CONFIG = model_config.ModelConfig(
  vocab_size=32,
  embed_dim=16,
  mlp_dim=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  max_context=48,
)
# One shape a call, so that all tests share three compilations.
SIZES = {
  'num_rows': 4,
  'num_pages': 48,
  'page_size': 4,
  'max_context': 48,
  'chunk_len': 5,
  'prefill_len': 4,
  'prefill_rows': 3,
}
STOP = 7


@pytest.fixture(scope='module')
def params():
  return transformer.init_params(CONFIG, jax.random.key(0))


def make(params, **sizes):
  return engine_lib.Engine(CONFIG, params, **(SIZES | sizes))


def prompt(seed, length):
  return np.random.default_rng(seed).integers(0, 32, length).astype(np.int32)


def plain(max_tokens=9, **options):
  return types.Sampling(max_tokens=max_tokens, **options)


def run(engine, wanted):
  """Steps until the sequences' turns have ended."""
  ended = {}
  for _ in range(500):
    if set(wanted) <= set(ended):
      return ended
    ended |= dict(engine.step())
  raise AssertionError(f'{set(wanted) - set(ended)} never ended')


def turn(engine, tokens, sampling=None, key=(0,), sequence=None):
  """One whole turn of one sequence, a new one unless given."""
  sequence = engine.open() if sequence is None else sequence
  engine.submit(sequence, tokens, sampling or plain(), key)
  return run(engine, [sequence])[sequence]


@jax.jit
def _full_forward(params, tokens_T, temperature):
  positions = jnp.arange(tokens_T.shape[0])[None]
  attend = layers.full_causal_attend(None, positions)
  hidden, _ = transformer.apply(
    CONFIG, params, tokens_T[None], positions, attend
  )
  logits = transformer.unembed(CONFIG, params, hidden)[0]
  return jax.nn.log_softmax(logits / temperature)


def recomputed(params, tokens, generation, temperature=1.0):
  """Log-probs of the generation after the tokens, by a full forward."""
  every = np.concatenate([tokens, generation.token_ids])
  padded = np.zeros(48, np.int32)
  padded[: len(every)] = every
  table = np.asarray(_full_forward(params, padded, temperature))
  places = np.arange(len(tokens), len(every))
  return table[places - 1, every[places]]


def assert_same(first, second):
  np.testing.assert_array_equal(first.token_ids, second.token_ids)
  np.testing.assert_allclose(first.logprobs, second.logprobs, atol=1e-5)
  assert first.finish_reason == second.finish_reason


def held_pages(engine):
  return engine._num_pages - engine._pool.available


@pytest.mark.parametrize('temperature', [1.0, 0.7])
def test_cached_turns_equal_a_full_forward(params, temperature):
  # Prompts that end before, on and after the edge of a page of 4; three turns
  # each, whose last tokens are read at the start of the next turn.
  engine = make(params)
  history = {engine.open(): prompt(n, n) for n in (1, 4, 5, 9)}
  sent = dict(history)
  for index in range(3):
    for sequence, tokens in sent.items():
      sampling = plain(6, temperature=temperature)
      engine.submit(sequence, tokens, sampling, (sequence, index))
    for sequence, generation in run(engine, history).items():
      expected = recomputed(params, history[sequence], generation, temperature)
      np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
      assert len(generation.token_ids) == 6
      sent[sequence] = prompt(100 + sequence, sequence + 1)
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


def test_two_interleaved_equal_each_alone(params):
  engine = make(params)
  alone = {}
  for seed in (1, 2):
    sequence = engine.open()
    first = turn(engine, prompt(seed, 7), key=(seed, 0), sequence=sequence)
    second = turn(engine, prompt(seed, 3), key=(seed, 1), sequence=sequence)
    alone[seed] = (first, second)
  fresh = make(params)
  one, two = fresh.open(), fresh.open()
  fresh.submit(one, prompt(1, 7), plain(), (1, 0))
  fresh.step()
  fresh.submit(two, prompt(2, 7), plain(), (2, 0))
  ended = run(fresh, [one, two])
  assert_same(ended[one], alone[1][0])
  assert_same(ended[two], alone[2][0])
  fresh.submit(two, prompt(2, 3), plain(), (2, 1))
  fresh.submit(one, prompt(1, 3), plain(), (1, 1))
  ended = run(fresh, [one, two])
  assert_same(ended[one], alone[1][1])
  assert_same(ended[two], alone[2][1])


@pytest.mark.parametrize('sizes', [{'num_rows': 3}, {'chunk_len': 3}])
def test_samples_do_not_depend_on_rows_chunks_or_order(params, sizes):
  def tokens_of(engine, order):
    sequences = {}
    for seed in order:
      sequences[seed] = engine.open()
      sampling = plain(9 - seed, top_k=seed % 3)
      engine.submit(sequences[seed], prompt(seed, 3 * seed), sampling, (seed,))
    ended = run(engine, sequences.values())
    return {seed: ended[sequence] for seed, sequence in sequences.items()}

  expected = tokens_of(make(params), range(1, 7))
  found = tokens_of(make(params, **sizes), [5, 2, 6, 1, 4, 3])
  for seed in range(1, 7):
    assert_same(found[seed], expected[seed])


def test_company_changes_no_bit(params):
  engine = make(params)
  alone = turn(engine, prompt(1, 6), key=(1,))
  engine.set_params(params)
  sequences = [engine.open() for _ in range(4)]
  for seed, sequence in enumerate(sequences):
    engine.submit(sequence, prompt(seed, 6), plain(9 - seed), (seed,))
  generation = run(engine, sequences)[sequences[1]]
  np.testing.assert_array_equal(generation.token_ids, alone.token_ids[:8])
  np.testing.assert_array_equal(generation.logprobs, alone.logprobs[:8])


def test_a_shared_prompt_is_computed_once(params):
  engine = make(params)
  tokens = prompt(3, 18)
  group = [engine.open() for _ in range(4)]
  for index, sequence in enumerate(group):
    engine.submit(sequence, tokens, plain(5), (index,))
  ended = run(engine, group)
  # The last token is read when sampling, by every rollout of the group.
  stats = engine.stats()
  assert stats.prefill_tokens == 17
  assert stats.shared_tokens == 3 * 17
  # 4 full pages are shared, the fifth and sixth page are everyone's own.
  assert held_pages(engine) == 4 + 4 * 2
  assert len({g.token_ids.tobytes() for g in ended.values()}) > 1
  for index, sequence in enumerate(group):
    expected = recomputed(params, tokens, ended[sequence])
    np.testing.assert_allclose(ended[sequence].logprobs, expected, atol=1e-4)
    alone = turn(make(params), tokens, plain(5), (index,))
    assert_same(ended[sequence], alone)


def test_a_fork_leaves_its_parent_unchanged(params):
  shared = prompt(4, 10)
  engine = make(params)
  parent = engine.open()
  first = turn(engine, shared, key=(0, 0), sequence=parent)
  # The fork shares two pages and a part of the third, then differs.
  fork = turn(engine, np.append(shared[:9], (shared[9] + 1) % 32), key=(1, 0))
  assert engine.stats().shared_tokens == 9
  second = turn(engine, prompt(5, 3), key=(0, 1), sequence=parent)
  alone = make(params)
  sequence = alone.open()
  assert_same(turn(alone, shared, key=(0, 0), sequence=sequence), first)
  assert_same(turn(alone, prompt(5, 3), key=(0, 1), sequence=sequence), second)
  assert fork.finish_reason == 'length'


def test_a_turn_ends_with_its_stop_token(params):
  free = turn(make(params), prompt(6, 5), plain(20), key=(6,))
  stop = int(free.token_ids[7])
  place = free.token_ids.tolist().index(stop)
  sampling = plain(20, stop_ids=(31 if stop != 31 else 30, stop))
  stopped = turn(make(params), prompt(6, 5), sampling, key=(6,))
  assert stopped.finish_reason == 'stop'
  expected = free.token_ids[: len(stopped.token_ids)]
  np.testing.assert_array_equal(stopped.token_ids, expected)
  assert len(stopped.token_ids) <= place + 1
  assert stopped.token_ids[-1] in sampling.stop_ids


def test_a_turn_ends_with_its_context(params):
  # 48 tokens fit: 40 read, 8 sampled.
  engine = make(params)
  sequence = engine.open()
  generation = turn(engine, prompt(7, 40), plain(20), sequence=sequence)
  assert generation.finish_reason == 'context'
  assert len(generation.token_ids) == 8
  expected = recomputed(params, prompt(7, 40), generation)
  np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
  more = turn(engine, prompt(8, 1), sequence=sequence)
  assert more.finish_reason == 'context' and len(more.token_ids) == 0


def test_tokens_that_do_not_fit_are_not_appended(params):
  engine = make(params)
  sequence = engine.open()
  first = turn(engine, prompt(1, 6), plain(4), key=(0,), sequence=sequence)
  refused = turn(engine, prompt(2, 38), sequence=sequence)
  assert refused.finish_reason == 'context'
  assert refused.token_ids.shape == refused.logprobs.shape == (0,)
  # 10 + 37 tokens leave room for one more.
  last = turn(engine, prompt(2, 37), plain(4), key=(1,), sequence=sequence)
  assert last.finish_reason == 'context' and len(last.token_ids) == 1
  history = np.concatenate([prompt(1, 6), first.token_ids, prompt(2, 37)])
  np.testing.assert_allclose(
    last.logprobs, recomputed(params, history, last), atol=1e-4
  )


def test_temperature_zero_takes_the_likeliest(params):
  tokens = prompt(9, 6)
  generation = turn(make(params), tokens, plain(5, temperature=0.0))
  np.testing.assert_array_equal(generation.logprobs, 0.0)
  for index, token in enumerate(generation.token_ids):
    padded = np.zeros(48, np.int32)
    history = np.concatenate([tokens, generation.token_ids[:index]])
    padded[: len(history)] = history
    table = _full_forward(params, padded, 1.0)
    assert token == int(jnp.argmax(table[len(history) - 1]))


def test_more_turns_than_rows_take_their_turn(params):
  engine = make(params)
  sequences = [engine.open() for _ in range(11)]
  for seed, sequence in enumerate(sequences):
    engine.submit(sequence, prompt(seed, 2 + seed % 3), plain(6), (seed,))
  ended = run(engine, sequences)
  assert all(len(ended[s].token_ids) == 6 for s in sequences)


def test_preempted_turns_sample_the_same(params):
  lengths = (20, 14, 9)
  expected = [
    turn(make(params), prompt(n, n), plain(20), key=(n,)) for n in lengths
  ]
  engine = make(params)
  # 12 pages are left: 20 + 19 tokens of the first alone need 10 of them.
  hog = [engine._pool.allocate() for _ in range(36)]
  sequences = [engine.open() for _ in lengths]
  for n, sequence in zip(lengths, sequences, strict=True):
    engine.submit(sequence, prompt(n, n), plain(20), (n,))
  ended = run(engine, sequences)
  for sequence, generation in zip(sequences, expected, strict=True):
    assert_same(ended[sequence], generation)
  stats = engine.stats()
  assert stats.preemptions > 0
  assert stats.recomputed_tokens > 0
  assert stats.decode_tokens == 60
  for page in hog:
    engine._pool.release(page)
  for sequence in sequences:
    engine.close(sequence)
  assert held_pages(engine) == 0


def test_a_waiting_agent_gives_up_its_pages_last(params):
  engine = make(params)
  waiting = engine.open()
  first = turn(engine, prompt(1, 20), plain(5), (1, 0), waiting)
  assert held_pages(engine) == 6  # 24 tokens have keys
  hog = [engine._pool.allocate() for _ in range(34)]
  # 8 free pages: 40 tokens need 10.
  turn(engine, prompt(2, 30), plain(10), (2, 0))
  assert engine.stats().preemptions == 1
  for page in hog:
    engine._pool.release(page)
  second = turn(engine, prompt(3, 4), plain(5), (1, 1), waiting)
  history = np.concatenate([prompt(1, 20), first.token_ids, prompt(3, 4)])
  np.testing.assert_allclose(
    second.logprobs, recomputed(params, history, second), atol=1e-4
  )


def test_the_fewest_pages_hold_a_whole_sequence_and_a_copy(params):
  engine = make(params)
  hog = [engine._pool.allocate() for _ in range(48 - 13)]
  parent = engine.open()
  turn(engine, prompt(1, 44), plain(3), (1,), parent)
  # Prefill read 43 of its tokens: 10 full pages are shared, the eleventh is
  # copied and the twelfth new. For a moment 13 pages are in use.
  fork = np.concatenate([prompt(1, 44), prompt(2, 3)])
  generation = turn(engine, fork, plain(1), (2,))
  expected = recomputed(params, fork, generation)
  np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
  assert held_pages(engine) == len(hog) + 12
  assert engine.stats().preemptions == 1


def test_set_params_closes_everything(params):
  engine = make(params)
  running, idle = engine.open(), engine.open()
  turn(engine, prompt(1, 8), sequence=idle)
  engine.submit(running, prompt(2, 8), plain(), (2,))
  engine.step()
  other = transformer.init_params(CONFIG, jax.random.key(1))
  engine.set_params(other)
  assert held_pages(engine) == 0
  assert engine.step() == []
  for sequence in (running, idle):
    with pytest.raises(ValueError, match='closed by set_params'):
      engine.submit(sequence, prompt(3, 1), plain(), (0,))
  # Nothing of the old weights is left, not even the shared prefix.
  generation = turn(engine, prompt(1, 8))
  assert engine.stats().shared_tokens == 0
  np.testing.assert_allclose(
    generation.logprobs, recomputed(other, prompt(1, 8), generation), atol=1e-4
  )


def test_the_engine_keeps_a_copy_of_the_params(params):
  mine = jax.tree.map(jnp.copy, params)
  engine = make(mine)
  expected = turn(make(params), prompt(1, 5))
  for leaf in jax.tree.leaves(mine):
    leaf.delete()
  assert_same(turn(engine, prompt(1, 5)), expected)


@pytest.fixture(scope='module')
def sharded_engine(params):
  mesh = sharding.make_mesh((1, 1, 2), jax.devices()[:2])
  return engine_lib.Engine(CONFIG, params, mesh, **SIZES)


def test_compilations_are_counted_and_constant(params, sharded_engine):
  # The only engine on two devices: no other test compiled its shapes. One
  # batch and one context; prefill without and with a context.
  engine = sharded_engine
  assert engine.warm_up() == 3
  for seed, length in enumerate((1, 13, 30)):
    for sampling in (plain(3), plain(7, top_k=2, stop_ids=(1, 2))):
      turn(engine, prompt(seed, length), sampling)
  sequences = [engine.open() for _ in range(6)]
  for sequence in sequences:
    engine.submit(sequence, prompt(sequence, 9), plain(), (sequence,))
  run(engine, sequences)
  engine.set_params(params)
  turn(engine, prompt(1, 9))
  assert engine.compile_count == engine.stats().compile_count == 3


def test_tensor_parallel_decoding_samples_the_same(params, sharded_engine):
  k_pages = sharded_engine._device._pages[0][0]
  # 48 pages and the scratch page; each device holds one of two kv heads.
  assert k_pages.addressable_shards[0].data.shape == (49, 4, 1, 4)
  expected = turn(make(params), prompt(1, 9), key=(1,))
  assert_same(turn(sharded_engine, prompt(1, 9), key=(1,)), expected)
  assert sharded_engine._device._pages[0][0].sharding == k_pages.sharding


@pytest.mark.parametrize('seed', range(2))
def test_random_use_is_correct_and_leaks_nothing(params, seed):
  """Agents that come, talk, wait and go, with too few pages for all."""
  random = np.random.default_rng(seed)
  engine = make(params)
  hog = [engine._pool.allocate() for _ in range(34)]
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
        prompt(random.integers(2), 5) if not len(history[sequence]) else ()
      )
      new = np.append(start, prompt(random.integers(99), 3)).astype(np.int32)
      sampling = plain(int(random.integers(1, 9)), stop_ids=(STOP,))
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
      expected = recomputed(params, history[sequence], generation)
      np.testing.assert_allclose(generation.logprobs, expected, atol=1e-4)
      history[sequence] = np.append(history[sequence], generation.token_ids)
      checked += len(generation.token_ids)
  assert checked > 50
  assert engine.stats().preemptions > 0
  assert engine.stats().shared_tokens > 0
  for sequence in history:
    engine.close(sequence)
  assert held_pages(engine) == len(hog)


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
def test_bad_tokens_are_refused(params, tokens, message):
  engine = make(params)
  with pytest.raises(ValueError, match=message):
    engine.submit(engine.open(), np.array(tokens), plain(), (0,))


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
def test_bad_sampling_is_refused(params, options, message):
  engine = make(params)
  with pytest.raises(ValueError, match=message):
    engine.submit(engine.open(), prompt(0, 1), plain(**options), (0,))


def test_misused_sequences_are_named(params):
  engine = make(params)
  sequence = engine.open()
  engine.submit(sequence, prompt(1, 1), plain(), (0,))
  with pytest.raises(ValueError, match=f'{sequence} still samples'):
    engine.submit(sequence, prompt(1, 1), plain(), (0,))
  engine.close(sequence)
  with pytest.raises(ValueError, match=f'sequence {sequence} is closed'):
    engine.close(sequence)
  with pytest.raises(ValueError, match='no sequence 99'):
    engine.close(99)
  assert engine.step() == []


def test_sizes_that_cannot_work_are_refused(params):
  with pytest.raises(ValueError, match='12 pages of 4 tokens cannot hold'):
    make(params, num_pages=12)
  with pytest.raises(ValueError, match='prefill_len=6'):
    make(params, prefill_len=6)


def test_contexts_to_compile_for():
  assert device.context_buckets(32, 1024) == (128, 256, 384, 512, 768, 1024)
  assert device.context_buckets(48, 700) == (144, 288, 384, 528, 720)
  assert device.context_buckets(4, 50) == (52,)
