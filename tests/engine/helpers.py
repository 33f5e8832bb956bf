"""Shared by the engine's tests: a small model, and ways to drive an engine."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from wideseek_jax import types
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
# Few shapes, so that all tests share five compilations.
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


@functools.cache
def params(seed=0):
  return transformer.init_params(CONFIG, jax.random.key(seed))


def make(weights=0, **sizes):
  return engine_lib.Engine(CONFIG, params(weights), **(SIZES | sizes))


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


def full_forward(tokens, temperature=1.0, seed=0):
  """Log-probs [48, V] of what follows each of the tokens, without a cache."""
  padded = np.zeros(48, np.int32)
  padded[: len(tokens)] = tokens
  return np.asarray(_full_forward(params(seed), padded, temperature))


def recomputed(tokens, generation, temperature=1.0, seed=0):
  """Log-probs of the generation after the tokens, by a full forward."""
  every = np.concatenate([tokens, generation.token_ids])
  table = full_forward(every, temperature, seed)
  places = np.arange(len(tokens), len(every))
  return table[places - 1, every[places]]


def assert_same(first, second):
  np.testing.assert_array_equal(first.token_ids, second.token_ids)
  np.testing.assert_allclose(first.logprobs, second.logprobs, atol=1e-5)
  assert first.finish_reason == second.finish_reason


def held_pages(engine):
  return engine._shards.held_pages
