"""The training steps with adapters in place of the parameters."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training import examples
from wideseek_jax.models import config as model_config
from wideseek_jax.models import lora, transformer
from wideseek_jax.training import (
  batching,
  checkpoint,
  grpo_step,
  micro_batches,
  sft_step,
  train_state,
)

CONFIG = dataclasses.replace(examples.CONFIG, num_layers=2)
LORA = lora.Lora(rank=2, alpha=6.0)  # scale 3
OPTIONS = {'logprob_chunk': 8, 'attention_block': 4}
GROUPS, ADVANTAGES = examples.random_groups(14, size=3)
BATCH = batching.make_batch(
  GROUPS, ADVANTAGES, row_len=16, rows_per_micro_batch=4, min_micro_batches=4
)
PARAMS = transformer.init_params(CONFIG, jax.random.key(0))


def _adapters():
  """Fresh adapters, and others whose b is not zero."""
  fresh = lora.init_adapters(CONFIG, LORA, jax.random.key(1))
  random = np.random.default_rng(0)
  used = {
    name: pair | {'b': random.normal(size=pair['b'].shape).astype(np.float32)}
    for name, pair in fresh.items()
  }
  return fresh, used


FRESH, USED = _adapters()
# One update subtracts exactly the gradient.
SGD = optax.sgd(1.0)
ADAM = train_state.make_optimizer(learning_rate=0.01)
make_grpo = functools.partial(grpo_step.make_grpo_step, CONFIG)
make_sft = functools.partial(sft_step.make_sft_step, CONFIG)


def _state(trained, spec, optimizer=ADAM, mesh=None):
  return train_state.init_train_state(
    CONFIG, optimizer, mesh or examples.mesh(), trained, spec
  )


def _gradient(make, trained, frozen, mesh=None):
  """(gradient, loss) of one update."""
  mesh = mesh or examples.mesh()
  step = make(SGD, mesh, frozen, **OPTIONS)
  spec = frozen and frozen.lora
  state, metrics = step(_state(trained, spec, SGD, mesh), BATCH)
  grads = jax.tree.map(
    lambda old, new: np.asarray(old) - np.asarray(new), trained, state.params
  )
  return grads, float(metrics['loss'])


@pytest.fixture(scope='module')
def grads():
  return _gradient(make_grpo, USED, lora.Frozen(PARAMS, LORA))[0]


@pytest.mark.parametrize(
  'make', [make_grpo, pytest.param(make_sft, marks=pytest.mark.slow)]
)
def test_gradient_is_the_chain_rule_of_the_full_one(make):
  """W + s A B with dL/dW = G: dL/dA = s G Bᵀ and dL/dB = s Aᵀ G."""
  frozen = lora.Frozen(PARAMS, LORA)
  found, loss = _gradient(make, USED, frozen)
  full, full_loss = _gradient(make, lora.merge(frozen, USED), None)
  assert loss == pytest.approx(full_loss, rel=1e-5)
  for name, pair in USED.items():
    for layer in range(2):
      a, b = (np.asarray(pair[factor][layer], np.float64) for factor in 'ab')
      rank = len(b)
      whole = full['layers'][name][layer].reshape(-1, b[0].size)
      by_hand = {
        'a': 3 * whole @ b.reshape(rank, -1).T,
        'b': 3 * a.reshape(-1, rank).T @ whole,
      }
      for factor, expected in by_hand.items():
        got = found[name][factor][layer].reshape(expected.shape)
        assert np.abs(expected).max() > 1e-4
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'sizes',
  [
    {'data': 2, 'fsdp': 2, 'tensor': 2},
    pytest.param({'fsdp': 4, 'context': 2}, marks=pytest.mark.slow),
  ],
)
def test_eight_devices_find_the_same_gradient(grads, sizes):
  mesh = examples.mesh(**sizes)
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  frozen = lora.Frozen(jax.device_put(PARAMS, where), LORA)
  sharded, _ = _gradient(make_grpo, USED, frozen, mesh)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    sharded,
    grads,
  )


def test_training_starts_from_the_policy_as_it_is():
  frozen = lora.Frozen(PARAMS, LORA)
  step = make_grpo(ADAM, examples.mesh(), frozen, kl_coef=0.1, **OPTIONS)
  plain = grpo_step.make_score_step(CONFIG, examples.mesh(), **OPTIONS)
  np.testing.assert_array_equal(
    step.rescore(FRESH, BATCH).old_logprobs,
    plain(PARAMS, BATCH).old_logprobs,
  )
  # The reference of a KL term is the base itself, and takes no room of its own.
  state, metrics = step(_state(FRESH, LORA), BATCH, PARAMS)
  assert float(metrics['ref_kl']) == pytest.approx(0, abs=1e-7)
  assert step(state, BATCH, PARAMS)[1]['ref_kl'] > 1e-4


def test_the_base_stays_and_a_resumed_run_is_the_uninterrupted_one(tmp_path):
  base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
  before = jax.tree.map(np.array, base)
  mesh = examples.mesh()
  step = make_grpo(
    ADAM, mesh, lora.Frozen(base, LORA), compute_dtype=jnp.bfloat16, **OPTIONS
  )
  state = _state(FRESH, LORA)
  # Adapters, two moments of each, three counters of steps.
  size = sum(x.size for x in jax.tree.leaves(FRESH))
  leaves = jax.tree.leaves(state)
  assert sum(x.size for x in leaves) == 3 * size + 3
  assert {x.dtype for x in leaves if x.ndim} == {jnp.dtype('float32')}
  for _ in range(2):
    state, _ = step(state, BATCH)
  checkpoint.save(tmp_path, state, extra={}, config={})
  for _ in range(2):
    state, metrics = step(state, BATCH)
  abstract = train_state.abstract_train_state(CONFIG, ADAM, mesh, LORA)
  resumed, _ = checkpoint.restore_latest(tmp_path, abstract)
  for _ in range(2):
    resumed, again = step(resumed, BATCH)
  equal = np.testing.assert_array_equal
  jax.tree.map(equal, (resumed, again), (state, metrics))
  moved = jax.tree.map(lambda x, y: bool((x != y).all()), state.params, FRESH)
  assert all(jax.tree.leaves(moved))
  jax.tree.map(equal, base, before)


def test_parameters_in_place_of_adapters_are_refused():
  with pytest.raises(ValueError, match=r'not those of .*rank=2'):
    _state(PARAMS, LORA)


def test_the_base_has_no_gradient_in_memory():
  # Six layers of 3 · 16 · 8192 floats are 9.4 MB, of which a few are in use at
  # a time; 8 tokens need little beside.
  config = model_config.ModelConfig(32, 16, 8192, 6, 2, 1, 8)
  score = micro_batches.make_scorer(
    config, examples.mesh(), logprob_chunk=8, remat='block'
  )

  def loss(trained, frozen, micro_batch):
    scores = score(lora.join(frozen, trained), micro_batch)
    return jnp.sum(scores.logprobs * micro_batch.weights), {}

  def temporary(trained, frozen):
    run = jax.jit(functools.partial(micro_batches.accumulate, loss))
    compiled = run.lower(trained, frozen, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  batch = batching.make_sft_batch([], row_len=8, rows_per_micro_batch=1)
  spec, shapes = lora.Lora(rank=2), transformer.param_shapes(config)
  whole = 6 * 3 * 16 * 8192 * 4
  assert temporary(shapes, None) > whole
  adapters = lora.adapter_shapes(config, spec)
  assert temporary(adapters, lora.Frozen(shapes, spec)) < whole
