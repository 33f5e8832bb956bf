import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.training import batching, grpo_step, train_state

TEMPERATURE = 0.8
GROUPS, ADVANTAGES = examples.random_groups(14, size=3)
OPTIONS = {
  'temperature': TEMPERATURE,
  'logprob_chunk': 7,
  'attention_block': 4,
}


# Room for one segment a row, and for fewer segments in more micro-batches.
SHAPE = {
  'row_len': 16,
  'rows_per_micro_batch': 4,
  'min_micro_batches': 4,
  # See test_shared_prefixes.
  'share_prefixes': False,
}


def _batch(tasks=2, **shape):
  return batching.make_batch(
    GROUPS[:tasks], ADVANTAGES[:tasks], **SHAPE | shape
  )


def _relaid(batch, rows, per_micro_batch):
  """The batch's arrays with these [rows, T], so many to a micro-batch."""
  arrays = {}
  for name, values in rows.items():
    array = np.zeros_like(getattr(batch, name))
    for row, value in enumerate(values):
      micro_batch, place = divmod(row, per_micro_batch)
      array[micro_batch, place, : len(value)] = value
    arrays[name] = array
  used = -(-len(next(iter(rows.values()))) // per_micro_batch)
  return dataclasses.replace(batch, **arrays, num_micro_batches=np.int32(used))


ROW_FIELDS = [
  field.name
  for field in dataclasses.fields(batching.Batch)
  if not field.name.startswith(('num_', 'behavior_'))
]


def _spread(batch, per_micro_batch):
  """The same rows, with fewer of them in a micro-batch."""
  filled = batch.segment_ids.any(-1)
  rows = {name: getattr(batch, name)[filled] for name in ROW_FIELDS}
  return _relaid(batch, rows, per_micro_batch)


def _unpacked(batch):
  """The same segments, each alone in a row."""
  rows = {name: [] for name in ROW_FIELDS}
  for index in np.ndindex(batch.segment_ids.shape[:2]):
    ids = batch.segment_ids[index]
    for segment in range(1, ids.max() + 1):
      for name in ROW_FIELDS:
        values = getattr(batch, name)[index][ids == segment]
        if name == 'segment_ids':
          values = np.ones_like(values)
        if name == 'ends':
          values = np.full_like(values, len(values))
        rows[name].append(values)
  return _relaid(batch, rows, 4)


class Run(NamedTuple):
  """One update: its metrics as floats and the gradient it subtracted."""

  metrics: dict[str, float]
  grads: Any


def _make(mesh=None, **options):
  """step(batch, ...) -> Run, always from the same fresh state."""
  mesh = mesh or examples.mesh()
  optimizer, _ = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, **OPTIONS | options
  )

  def run(batch, *args):
    _, state = examples.plain_state(mesh)
    state, metrics = step(state, batch, *args)
    metrics = {name: float(value) for name, value in metrics.items()}
    return Run(metrics, examples.gradient(state))

  run.step = step
  return run


@pytest.fixture(scope='module')
def update():
  # No mean ratio of these batches is near 20.
  return _make(max_ratio=20.0)


@pytest.fixture(scope='module')
def base(update):
  return update(_batch())


def _same(got, expected):
  for name, value in expected.metrics.items():
    np.testing.assert_allclose(
      got.metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    got.grads,
    expected.grads,
  )


def _logprobs(params, tokens):
  return examples.logprobs_alone(params, tokens, TEMPERATURE)


def _objective(params, kl_coef=0.0, ref_params=None):
  """arXiv 2602.04634 §3 as it is printed: sums over i, a, tokens."""
  total = 0.0
  for group, advantages in zip(GROUPS, ADVANTAGES, strict=True):
    for rollout, advantage in zip(group, advantages, strict=True):
      agents = [t for t in rollout.trajectories if t.sample_mask.any()]
      for agent in agents:
        mask = agent.sample_mask[1:]
        new = _logprobs(params, agent.token_ids)[mask]
        r = np.exp(new - agent.behavior_logprobs[1:][mask])
        terms = np.minimum(r * advantage, np.clip(r, 0.8, 1.28) * advantage)
        if advantage < 0:
          terms = np.maximum(terms, 10 * advantage)
        if kl_coef:
          d = _logprobs(ref_params, agent.token_ids)[mask] - new
          terms = terms - kl_coef * (np.exp(d) - d - 1)
        total += terms.sum() / (len(group) * len(agents) * mask.sum())
  return total / len(GROUPS)


def test_loss_is_the_printed_objective(base):
  np.testing.assert_allclose(
    base.metrics['loss'], -_objective(examples.params()), rtol=1e-5
  )
  # Both bounds were met somewhere, or this says little.
  assert base.metrics['clip_low'] > 0 and base.metrics['clip_high'] > 0
  np.testing.assert_allclose(base.metrics['weight'], 1, rtol=1e-5)
  assert base.metrics['skipped'] == 0


@pytest.mark.parametrize('name', ['embedding', 'final_norm'])
def test_gradient_is_the_objectives_difference(base, name):
  params = examples.params()
  rng = np.random.default_rng(1)
  direction = rng.normal(size=params[name].shape).astype(np.float32)

  def moved(size):
    return -_objective(params | {name: params[name] + size * direction})

  slope = (moved(1e-3) - moved(-1e-3)) / 2e-3
  np.testing.assert_allclose(
    np.sum(base.grads[name] * direction), slope, rtol=2e-2, atol=2e-3
  )


@pytest.mark.parametrize(('per_micro_batch', 'count'), [(4, 1), (2, 2), (1, 4)])
def test_micro_batches_change_nothing(update, base, per_micro_batch, count):
  batch = _batch()
  assert batching.batch_stats(batch).rows == 4
  spread = _spread(batch, per_micro_batch)
  assert spread.num_micro_batches == count
  _same(update(spread), base)


def test_packing_changes_nothing(update, base):
  packed, alone = _batch(), _unpacked(_batch())
  rows = [batching.batch_stats(batch).rows for batch in (packed, alone)]
  assert rows[1] >= 2 * rows[0]
  _same(update(alone), base)


@pytest.mark.parametrize(
  'shape', [(2, 2, 2), pytest.param((1, 8, 1), marks=pytest.mark.slow)]
)
def test_devices_change_nothing(base, shape):
  run = _make(examples.mesh(*shape))
  _same(run(_batch(rows_per_micro_batch=8)), base)


def test_compiles_once(update, base):
  for tasks in (1, 2):
    update(_batch(tasks))
  assert _batch(1).num_micro_batches == 1
  update(_spread(_batch(), 1))
  assert update.step.compilations() == 1


def test_moves_only_what_it_is_given(update):
  _, state = examples.plain_state(examples.mesh())
  batch = _batch()
  with jax.transfer_guard('disallow'):
    _, metrics = update.step(state, batch)
  assert isinstance(metrics['loss'], jax.Array)


def test_remat_in_bfloat16_is_near(base):
  run = _make(remat='block', compute_dtype=jnp.bfloat16)(_batch())
  np.testing.assert_allclose(
    run.metrics['loss'], base.metrics['loss'], atol=0.03
  )
  ours, exact = run.grads['embedding'], base.grads['embedding']
  assert ours.dtype == np.float32
  cosine = np.sum(ours * exact) / np.linalg.norm(ours) / np.linalg.norm(exact)
  assert cosine > 0.99


def test_a_batch_whose_ratios_explode_is_skipped(update):
  batch = _batch()
  # e⁶ = 403 times the ratios.
  batch = dataclasses.replace(batch, old_logprobs=batch.old_logprobs - 6)
  run = update(batch)
  assert run.metrics['ratio_mean'] > 20 and run.metrics['skipped'] == 1
  assert run.metrics['grad_norm'] > 0
  assert not any(leaf.any() for leaf in jax.tree.leaves(run.grads))


def test_a_ratio_that_is_no_number_is_not_within_the_limit(update):
  batch = _batch()
  old = batch.old_logprobs.copy()
  old[batch.weights > 0] = np.nan
  run = update(dataclasses.replace(batch, old_logprobs=old))
  assert run.metrics['skipped'] == 1
  assert not any(leaf.any() for leaf in jax.tree.leaves(run.grads))


def test_groups_without_advantage_would_have_changed_nothing(update):
  tiny = [np.full(3, 1e-30, np.float32), ADVANTAGES[1]]
  kept = batching.make_batch(GROUPS, tiny, **SHAPE)
  none = [np.zeros(3, np.float32), ADVANTAGES[1]]
  dropped = batching.make_batch(GROUPS, none, **SHAPE)
  stats = [batching.batch_stats(batch) for batch in (kept, dropped)]
  assert stats[0].dropped_tasks == 0 and stats[1].dropped_tasks == 1
  assert stats[1].tokens < stats[0].tokens
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    update(dropped).grads,
    update(kept).grads,
  )


def test_a_batch_of_nothing_changes_nothing(update):
  run = update(batching.make_batch(GROUPS, [np.zeros(3)] * 2, **SHAPE))
  assert not any(leaf.any() for leaf in jax.tree.leaves(run.grads))
  assert all(np.isfinite(value) for value in run.metrics.values())
  assert run.metrics['tokens'] == 0


def test_without_a_gradient_momentum_does_not_move_the_parameters():
  optimizer = train_state.make_optimizer(learning_rate=0.1)  # Adam
  mesh = examples.mesh()
  step = grpo_step.make_grpo_step(examples.CONFIG, optimizer, mesh, **OPTIONS)
  state = train_state.init_train_state(
    examples.CONFIG, optimizer, mesh, examples.params()
  )
  state, metrics = step(state, _batch())
  assert metrics['skipped'] == 0 and state.step == 1
  before = jax.tree.map(np.asarray, (state.params, state.opt_state))
  nothing = batching.make_batch(GROUPS, [np.zeros(3)] * 2, **SHAPE)
  state, metrics = step(state, nothing)
  assert metrics['skipped'] == 1 and state.step == 2
  jax.tree.map(
    np.testing.assert_array_equal, (state.params, state.opt_state), before
  )


def test_rescored_batch_starts_at_ratio_one(update):
  rescore = grpo_step.make_score_step(
    examples.CONFIG, examples.mesh(), **OPTIONS
  )
  batch = rescore(examples.params(), _batch())
  metrics = update(batch).metrics
  np.testing.assert_allclose(
    [metrics['ratio_mean'], metrics['ratio_max']], 1, rtol=1e-5
  )
  np.testing.assert_allclose(metrics['approx_kl'], 0, atol=1e-6)
  np.testing.assert_array_equal(batch.behavior_logprobs, _batch().old_logprobs)
  # Again, with other parameters: what the engine said stays.
  again = rescore(jax.tree.map(lambda p: p * 1.1, examples.params()), batch)
  assert np.any(again.old_logprobs != batch.old_logprobs)
  np.testing.assert_array_equal(
    again.behavior_logprobs, batch.behavior_logprobs
  )
  # Σ weight · A, since every ratio is 1.
  expected = -np.sum(np.asarray(batch.weights) * np.asarray(batch.advantages))
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope='module')
def regularised():
  return _make(kl_coef=0.5, entropy_coef=0.1)


def test_kl_and_entropy_terms(regularised):
  ref_params = jax.tree.map(lambda p: p * 1.1, examples.params())
  metrics = regularised(_batch(), ref_params).metrics
  expected = -_objective(examples.params(), 0.5, ref_params)
  np.testing.assert_allclose(
    metrics['loss'], expected - 0.1 * metrics['entropy'], rtol=1e-5
  )
  assert metrics['ref_kl'] > 0


def test_entropy_bonus_raises_entropy(regularised):
  # No advantage pulls and the reference is where we are: what is left of the
  # gradient is the bonus alone.
  batch = _batch()
  batch = dataclasses.replace(batch, advantages=0 * batch.advantages)
  params = examples.params()
  run = regularised(batch, params)
  np.testing.assert_allclose(
    run.metrics['loss'], -0.1 * run.metrics['entropy'], rtol=1e-5
  )

  def entropy(params):
    logits = examples.logits_alone(params, batch.tokens[0, :1])
    p = np.exp(jax.nn.log_softmax(logits / TEMPERATURE))
    return -np.sum(p * np.log(p))

  after = jax.tree.map(lambda p, g: p - g, params, run.grads)
  assert entropy(after) > entropy(params)


def test_reference_is_given_exactly_if_it_is_read(update, regularised):
  with pytest.raises(ValueError, match='ref_params'):
    regularised(_batch())
  with pytest.raises(ValueError, match='ref_params'):
    update(_batch(), examples.params())


def test_refuses_unknown_levels():
  with pytest.raises(ValueError, match='ratio_level must be one of'):
    _make(ratio_level='turn')
  with pytest.raises(ValueError, match='tis_level must be one of'):
    _make(tis_level='on')


def test_rows_must_divide_over_the_devices():
  with pytest.raises(ValueError, match='3 rows per micro-batch'):
    _make(examples.mesh(2, 1, 1))(_batch(rows_per_micro_batch=3))
