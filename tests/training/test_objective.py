"""The real step's loss and gradient against NumPy, all the way.

Model, log-probs, weights, packing, rescoring and objective are one jitted
program here and plain float64 NumPy there; the gradient is compared along a
random direction of every parameter.
"""

import dataclasses

import jax
import numpy as np
import pytest
from jax.extend import core as jax_core

from tests.rl import oracle
from tests.training import examples, numpy_model
from wideseek_jax.training import batching, grpo_step

TEMPERATURE = 0.8
STEP_OPTIONS = {
  'temperature': TEMPERATURE,
  'logprob_chunk': 7,
  'attention_block': 4,
}
VARIANTS = {
  'grpo': oracle.Options(
    clip_low=0.02,
    clip_high=0.03,
    dual_clip=1.2,
    tis_level='token',
    tis_cap=1.1,
    kl_coef=0.3,
    entropy_coef=0.1,
  ),
  'gspo': oracle.Options(
    clip_low=0.004,
    clip_high=0.006,
    dual_clip=1.05,
    ratio_level='sequence',
    tis_level='sequence',
    tis_cap=1.1,
    aggregation='token_mean',
  ),
}


def _params(seed=None):
  """Float64 parameters, those of `examples` or some near them."""
  params = jax.tree.map(lambda p: np.asarray(p, np.float64), examples.params())
  if seed is None:
    return params
  rng = np.random.default_rng(seed)
  # To float32 and back: the step sees the same numbers.
  return jax.tree.map(
    lambda p: (
      (p + 0.1 * rng.normal(size=p.shape) * p.std())
      .astype(np.float32)
      .astype(np.float64)
    ),
    params,
  )


PARAMS, OLD, REF = _params(), _params(1), _params(2)


def _logits(params, agent):
  """[n, V] and [n]: before each sampled token, and those tokens."""
  before = np.flatnonzero(agent.sample_mask) - 1
  logits = numpy_model.logits(params, agent.token_ids) / TEMPERATURE
  return logits[before], agent.token_ids[before + 1]


def _logprobs(params, agent):
  logits, targets = _logits(params, agent)
  logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return logits[np.arange(len(targets)), targets]


def _groups():
  """Random groups; the engine's log-probs are near those of OLD."""
  groups, advantages = examples.random_groups(14, tasks=3, size=3)
  rng = np.random.default_rng(3)

  def sampled(agent):
    behavior = np.zeros(len(agent.token_ids), np.float32)
    noise = 0.1 * rng.normal(size=agent.num_sampled)
    behavior[agent.sample_mask] = _logprobs(OLD, agent) + noise
    return dataclasses.replace(agent, behavior_logprobs=behavior)

  return [
    [
      dataclasses.replace(
        rollout, trajectories=tuple(map(sampled, rollout.trajectories))
      )
      for rollout in group
    ]
    for group in groups
  ], advantages


GROUPS, ADVANTAGES = _groups()


# What does not move with the parameters, by agent.
FIXED = {
  id(trajectory): (_logprobs(OLD, trajectory), _logprobs(REF, trajectory))
  for group in GROUPS
  for rollout in group
  for trajectory in rollout.trajectories
}


def _oracle_loss(params, options):
  def agent(trajectory):
    logits, targets = _logits(params, trajectory)
    old, ref = FIXED[id(trajectory)]
    return oracle.Agent(
      logits=logits,
      targets=targets,
      old=old,
      behavior=trajectory.behavior_logprobs[trajectory.sample_mask],
      ref=ref,
    )

  tasks = [
    [
      (advantage, [agent(t) for t in rollout.trajectories])
      for rollout, advantage in zip(group, advantages, strict=True)
    ]
    for group, advantages in zip(GROUPS, ADVANTAGES, strict=True)
  ]
  return oracle.loss(tasks, options)


def _float32(params):
  return jax.tree.map(lambda p: p.astype(np.float32), params)


def _run(options, mesh):
  """(metrics, gradient) of the real step."""
  given = dataclasses.asdict(options)
  aggregation = given.pop('aggregation')
  optimizer, state = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, **STEP_OPTIONS, **given
  )
  batch = batching.make_batch(
    GROUPS,
    ADVANTAGES,
    row_len=14,
    rows_per_micro_batch=4,
    aggregation=aggregation,
  )
  assert batch.num_micro_batches > 1 and batch.segment_ids.max() > 1
  batch = step.rescore(_float32(OLD), batch)
  ref = [_float32(REF)] if options.kl_coef else []
  state, metrics = step(state, batch, *ref)
  metrics = {name: float(value) for name, value in metrics.items()}
  return metrics, examples.gradient(state)


@pytest.mark.parametrize(
  ('variant', 'shape'),
  [
    ('grpo', (1, 1, 1)),
    pytest.param('gspo', (1, 1, 1), marks=pytest.mark.slow),
    ('gspo', (2, 2, 2)),
  ],
)
def test_the_step_is_the_oracle(variant, shape):
  options = VARIANTS[variant]
  metrics, grads = _run(options, examples.mesh(*shape))
  np.testing.assert_allclose(
    metrics['loss'], _oracle_loss(PARAMS, options), rtol=1e-5, atol=1e-6
  )
  rng = np.random.default_rng(4)
  leaves, tree = jax.tree.flatten(PARAMS)
  for index, (leaf, grad) in enumerate(
    zip(leaves, jax.tree.leaves(grads), strict=True)
  ):

    def moved(at, index=index):
      return _oracle_loss(
        tree.unflatten([*leaves[:index], at, *leaves[index + 1 :]]), options
      )

    direction = rng.normal(size=leaf.shape)
    direction /= np.linalg.norm(direction)
    slope = oracle.slope(moved, leaf, direction)
    np.testing.assert_allclose(
      np.sum(grad * direction), slope, rtol=1e-4, atol=5e-6
    )
  # Every bound was met, or this says little.
  for name in ('clip_low', 'clip_high', 'clip_dual', 'tis_capped'):
    assert 0 < metrics[name] < 1, name
  assert metrics['mismatch_kl'] > 1e-3
  assert 0 < metrics['tis_mean'] < options.tis_cap
  assert ('ref_kl' in metrics) == (options.kl_coef != 0)


def test_numpy_model_is_the_model():
  tokens = GROUPS[0][0].lead.token_ids[None]
  np.testing.assert_allclose(
    numpy_model.logits(PARAMS, tokens[0]),
    examples.logits_alone(examples.params(), tokens)[0],
    atol=1e-5,
  )


def _count_dots(jaxpr):
  """Matrix products of a program, those inside its loops once."""
  return sum(
    (equation.primitive.name == 'dot_general')
    + sum(
      _count_dots(sub) for sub in jax_core.jaxprs_in_params(equation.params)
    )
    for equation in jaxpr.eqns
  )


def test_a_reference_costs_one_forward_pass_or_nothing():
  mesh = examples.mesh()
  optimizer, state = examples.plain_state(mesh)
  batch = batching.make_batch(
    GROUPS, ADVANTAGES, row_len=24, rows_per_micro_batch=4
  )

  def dots(function, *args):
    return _count_dots(jax.make_jaxpr(function)(*args).jaxpr)

  def step(**options):
    return grpo_step.make_grpo_step(
      examples.CONFIG, optimizer, mesh, **STEP_OPTIONS, **options
    )

  without = dots(step(), state, batch)
  forward = dots(step().rescore, state.params, batch)
  both = dots(step(kl_coef=0.1), state, batch, state.params)
  assert 0 < forward < without
  assert both == without + forward
