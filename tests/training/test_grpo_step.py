import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.models import layers, transformer
from wideseek_jax.training import batching, grpo_step

TEMPERATURE = 0.8
GROUPS, ADVANTAGES = examples.random_groups()
OPTIONS = {
  'temperature': TEMPERATURE,
  'logprob_chunk': 7,
  'attention_block': 4,
}


def _batch(rows_per_micro_batch=8, row_len=16, **kwargs):
  return batching.make_batch(
    GROUPS,
    ADVANTAGES,
    row_len=row_len,
    rows_per_micro_batch=rows_per_micro_batch,
    **kwargs,
  )


def _one_row_each(batch):
  """The same segments, every one alone in a row."""
  names = [f.name for f in dataclasses.fields(batch)][:7]
  rows = {name: [] for name in names}
  for row in range(batch.tokens.shape[1]):
    for segment in range(1, batch.segment_ids[0, row].max() + 1):
      mine = batch.segment_ids[0, row] == segment
      for name in names:
        values = getattr(batch, name)[0, row][mine]
        if name == 'segment_ids':
          values = np.ones_like(values)
        rows[name].append(np.pad(values, (0, 16 - len(values))))
  arrays = {name: np.stack(value)[None] for name, value in rows.items()}
  return dataclasses.replace(batch, **arrays)


def _run(batch, mesh=None, **options):
  """Metrics, gradient and the step of one update."""
  mesh = mesh or examples.mesh()
  optimizer, state = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, **OPTIONS | options
  )
  state, metrics = step(state, batch)
  metrics = {name: float(value) for name, value in metrics.items()}
  return metrics, examples.gradient(state), step


@pytest.fixture(scope='module')
def base():
  return _run(_batch())


def _same(got, expected):
  for name, value in expected[0].items():
    np.testing.assert_allclose(
      got[0][name], value, rtol=1e-5, atol=1e-6, err_msg=name
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    got[1],
    expected[1],
  )


def _logprobs(params, tokens):
  """Of every token after the first, one agent alone, logits whole."""
  tokens = jnp.asarray(tokens)[None]
  positions = jnp.arange(tokens.shape[1])[None]
  hidden, _ = transformer.apply(
    examples.CONFIG,
    params,
    tokens,
    positions,
    layers.full_causal_attend(None, positions),
  )
  logits = transformer.unembed(examples.CONFIG, params, hidden)
  logits = np.asarray(logits[0, :-1], np.float64) / TEMPERATURE
  logits -= logits.max(-1, keepdims=True)
  logps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return logps[np.arange(len(logps)), np.asarray(tokens[0, 1:])]


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
  metrics, _, _ = base
  np.testing.assert_allclose(
    metrics['loss'], -_objective(examples.params()), rtol=1e-5
  )
  # Every bound was met somewhere, or this says little.
  for name in ('clip_low', 'clip_high'):
    assert metrics[name] > 0
  np.testing.assert_allclose(metrics['weight'], 1, rtol=1e-5)


def test_gradient_is_the_objectives_difference(base):
  _, grads, _ = base
  params = examples.params()
  for name in ('embedding', 'final_norm'):
    rng = np.random.default_rng(1)
    direction = rng.normal(size=params[name].shape).astype(np.float32)

    def moved(size, name=name, direction=direction):
      return -_objective(params | {name: params[name] + size * direction})

    slope = (moved(1e-3) - moved(-1e-3)) / 2e-3
    np.testing.assert_allclose(
      np.sum(grads[name] * direction), slope, rtol=2e-2, atol=2e-3
    )


@pytest.mark.parametrize('rows', [1, 2, 4])
def test_micro_batches_change_nothing(base, rows):
  batch = _batch(rows_per_micro_batch=rows, min_micro_batches=8)
  assert 1 < batch.num_micro_batches < len(batch.tokens)
  _same(_run(batch), base)


def test_packing_changes_nothing(base):
  packed = _batch()
  alone = _one_row_each(packed)
  assert alone.tokens.shape[1] > (packed.segment_ids[0].max(-1) > 0).sum()
  _same(_run(alone), base)


@pytest.mark.parametrize('shape', [(8, 1, 1), (1, 8, 1), (1, 1, 2), (2, 2, 2)])
def test_devices_change_nothing(base, shape):
  _same(_run(_batch(), examples.mesh(*shape)), base)


def test_remat_and_bfloat16(base):
  _same(_run(_batch(), remat=True), base)
  metrics, grads, _ = _run(_batch(), compute_dtype=jnp.bfloat16)
  np.testing.assert_allclose(metrics['loss'], base[0]['loss'], atol=0.03)
  assert grads['embedding'].dtype == np.float32


def test_compiles_once_for_every_count_of_micro_batches():
  mesh = examples.mesh()
  optimizer, state = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(examples.CONFIG, optimizer, mesh, **OPTIONS)
  seen = set()
  for tasks in (1, 2, 2):
    batch = batching.make_batch(
      GROUPS[:tasks],
      ADVANTAGES[:tasks],
      row_len=16,
      rows_per_micro_batch=1,
      min_micro_batches=16,
    )
    seen.add(int(batch.num_micro_batches))
    with jax.transfer_guard('disallow'):
      state, _ = step(state, batch)
  assert len(seen) == 2
  assert step.compilations() == 1


def test_kl_to_a_reference():
  ref_params = jax.tree.map(lambda p: p * 1.1, examples.params())
  mesh = examples.mesh()
  optimizer, state = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, kl_coef=0.5, **OPTIONS
  )
  with pytest.raises(ValueError, match='ref_params'):
    step(state, _batch())
  _, metrics = step(state, _batch(), ref_params)
  expected = -_objective(examples.params(), 0.5, ref_params)
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  assert metrics['ref_kl'] > 0


def test_entropy_bonus_raises_entropy():
  # No advantage pulls (log-probs are the behaviour's, advantages cancel out of
  # the term at 0): the gradient is the bonus alone.
  batch = dataclasses.replace(
    _batch(), advantages=np.zeros_like(_batch().advantages)
  )
  mesh = examples.mesh()
  optimizer, state = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, entropy_coef=0.1, **OPTIONS
  )
  state, before = step(state, batch)
  _, after = step(state, batch)
  np.testing.assert_allclose(
    before['loss'], -0.1 * before['entropy'], rtol=1e-5
  )
  assert after['entropy'] > before['entropy']


def test_rescored_batch_starts_at_ratio_one():
  mesh = examples.mesh()
  rescore = grpo_step.make_score_step(examples.CONFIG, mesh, **OPTIONS)
  batch = rescore(examples.params(), _batch(rows_per_micro_batch=2))
  metrics, _, _ = _run(batch)
  np.testing.assert_allclose(
    [metrics['ratio_mean'], metrics['ratio_max']], 1, rtol=1e-5
  )
  np.testing.assert_allclose(metrics['approx_kl'], 0, atol=1e-6)
  # Σ weight · A, since every ratio is 1.
  expected = -np.sum(batch.weights * batch.advantages)
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)


def test_update_with_a_huge_ratio_is_skipped(base):
  assert base[0]['skipped'] == 0
  ratio = base[0]['ratio_mean']
  metrics, grads, _ = _run(_batch(), max_ratio=ratio * 0.9)
  assert metrics['skipped'] == 1
  assert not any(g.any() for g in jax.tree.leaves(grads))
  metrics, grads, _ = _run(_batch(), max_ratio=ratio * 1.1)
  assert metrics['skipped'] == 0 and grads['embedding'].any()


def test_rows_must_divide_over_the_devices():
  with pytest.raises(ValueError, match='3 rows per micro-batch'):
    _run(_batch(rows_per_micro_batch=3), examples.mesh(2, 1, 1))
