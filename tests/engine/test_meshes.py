"""Rows and pages over data shards, heads over tensor shards: the same turns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.engine import helpers
from wideseek_jax import sharding
from wideseek_jax.engine import engine as engine_lib
from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers, transformer

# 8 query heads can be dealt out to 8 devices, 2 kv heads cannot.
CONFIG = model_config.ModelConfig(
  vocab_size=32,
  embed_dim=16,
  mlp_dim=16,
  num_layers=1,
  num_heads=8,
  num_kv_heads=2,
  head_dim=4,
)
# 13 pages for each of 4 shards: one sequence of full length and a copy.
SIZES = helpers.SIZES | {'num_rows': 8, 'num_pages': 52, 'prefill_rows': 4}


def make(shape, params=None, **changes):
  count = int(np.prod(shape))
  sizes = dict(zip(('data', 'fsdp', 'tensor'), shape, strict=True))
  mesh = sharding.make_mesh(jax.devices()[:count], **sizes)
  params = weights() if params is None else params
  return engine_lib.Engine(CONFIG, params, mesh, **(SIZES | changes))


@functools.cache
def weights():
  return transformer.init_params(CONFIG, jax.random.key(0))


@jax.jit
def full_forward(params, tokens_T):
  """Log-probs [T, V] in float32, without a cache."""
  positions = jnp.arange(len(tokens_T))[None]
  attend = layers.full_causal_attend(None, positions)
  hidden, _ = transformer.apply(
    CONFIG, params, tokens_T[None], positions, attend
  )
  return jax.nn.log_softmax(transformer.unembed(CONFIG, params, hidden)[0])


def generate(engine):
  """Two turns of 9 agents, more than rows, three of them with one prompt."""
  agents = {index: engine.open() for index in range(9)}
  found = {}
  for turn in range(2):
    for index, sequence in agents.items():
      tokens = helpers.prompt(max(2, index), 13 if index < 3 else index)
      sampling = helpers.plain(4 + index, top_k=index % 3)
      engine.submit(sequence, tokens, sampling, (index, turn))
    ended = helpers.run(engine, agents.values())
    found |= {(index, turn): ended[agents[index]] for index in agents}
  for sequence in agents.values():
    engine.close(sequence)
  return found


@pytest.fixture(scope='module')
def expected():
  return generate(make((1, 1, 1)))


@pytest.mark.parametrize(
  ('shape', 'pages', 'heads'),
  # Pages and heads of one device; on 8, each keeps the kv head that it reads.
  [
    pytest.param((4, 1, 1), 14, 2, marks=pytest.mark.slow),
    ((1, 2, 2), 27, 1),
    ((1, 1, 8), 53, 1),
  ],
)
def test_every_mesh_samples_the_same(shape, pages, heads, expected):
  engine = make(shape)
  compilations = engine.warm_up()
  before = engine._device._pages[0][0]
  assert before.addressable_shards[0].data.shape == (pages, 4, heads, 4)
  found = generate(engine)
  assert found.keys() == expected.keys()
  for address, generation in found.items():
    helpers.assert_same(generation, expected[address])
  # All came back: to each shard its own.
  assert engine._shards.held_pages == 0
  assert engine.compile_count == compilations
  assert engine._device._pages[0][0].sharding == before.sharding
  stats = engine.stats()
  assert stats.preemptions > 0 if shape == (4, 1, 1) else stats.shared_tokens


def test_a_shard_has_its_own_pages():
  # Page 1 of the second shard is not page 1 of the first.
  engine = make((2, 1, 2))
  one, two = engine.open(), engine.open()
  engine.submit(one, helpers.prompt(3, 9), helpers.plain(3), (3,))
  engine.submit(two, helpers.prompt(4, 9), helpers.plain(3), (4,))
  helpers.run(engine, [one, two])
  homes = [engine._shards.home(sequence) for sequence in (one, two)]
  assert homes == list(engine._shards.queues)
  tables = [
    h.sequences[s].table for h, s in zip(homes, (one, two), strict=True)
  ]
  assert tables[0].pages == tables[1].pages
  k_pages = np.asarray(engine._device._pages[0][0])
  first, second = np.split(k_pages, 2)
  page = tables[0].pages[0]
  assert np.abs(first[page] - second[page]).max() > 0.1


def test_training_shards_are_laid_out_for_decoding(expected):
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  layout = sharding.param_shardings(
    mesh,
    weights(),
    transformer.logical_axes(CONFIG),
    sharding.TRAIN_TABLE,
  )
  engine = make((2, 1, 2), jax.device_put(weights(), layout))
  mlp = engine._device._params['layers'][0]['gate']
  assert mlp.sharding.spec == jax.sharding.PartitionSpec(None, 'tensor')
  assert len(mlp.sharding.device_set) == 4
  sequence = engine.open()
  engine.submit(
    sequence, helpers.prompt(5, 5), helpers.plain(9, top_k=2), (5, 0)
  )
  found = helpers.run(engine, [sequence])[sequence]
  helpers.assert_same(found, expected[5, 0])


def test_bfloat16():
  engine = make((2, 1, 2), dtype=jnp.bfloat16)
  arrays = jax.tree.leaves((engine._device._params, engine._device._pages))
  assert {x.dtype for x in arrays} == {jnp.dtype(jnp.bfloat16)}
  sequence = engine.open()
  tokens = helpers.prompt(5, 20)
  engine.submit(sequence, tokens, helpers.plain(9), (5,))
  found = helpers.run(engine, [sequence])[sequence]
  every = np.concatenate([tokens, found.token_ids])
  wanted = full_forward(weights(), every)[np.arange(19, 28), found.token_ids]
  # 8 bits of mantissa.
  np.testing.assert_allclose(found.logprobs, wanted, atol=0.05)


def test_rows_must_be_dealt_out_evenly():
  with pytest.raises(ValueError, match='num_rows=6 is no multiple of the 4'):
    make((4, 1, 1), num_rows=6)
