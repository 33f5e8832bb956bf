"""Loss and gradient against the NumPy oracle, from tables of logits.

Agents lie scattered over rows, with what is not trained between and inside
them; each has a table of logits for its trained tokens. So everything but the
model is under test: weights, log-probs, ratios, clips, sums over segments.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.rl import oracle
from wideseek_jax.rl import logprobs, losses, weights

V, T = 5, 14
# Task 0: rollouts of 2 and 1 agents; task 1: rollouts of 1 and 2. For each
# agent (row, segment id, places of its trained tokens): two segments share rows
# 0 and 1, and one of them is in two pieces.
AGENTS = [
  [[(0, 1, (1, 2, 5)), (1, 1, (0, 2))], [(2, 1, (3, 4, 5, 6, 9))]],
  [[(0, 2, (7, 8, 10, 11))], [(1, 2, (3, 6, 7)), (2, 3, (12,))]],
]
ADVANTAGES = [[1.3, -0.7], [-1.1, 0.9]]
# How far off each agent's old policy is: every bound is met by some sequence.
SHIFTS = [[[0.6, 0.1], [1.6]], [[-0.9], [-0.5, 0.02]]]
# Narrow, so that random ratios meet all of them.
BOUNDS = {
  'clip_low': 0.2,
  'clip_high': 0.28,
  'dual_clip': 3.0,
  'log_ratio_clamp': 2.5,
}
FULL = {'kl_coef': 0.3, 'entropy_coef': 0.2, 'tis_cap': 1.2}


def _logp(logits, targets):
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  return np.log(p[np.arange(len(p)), targets])


def _tasks():
  """What the oracle reads."""
  rng = np.random.default_rng(0)

  def agent(places, shift):
    size = len(places)
    logits = rng.normal(size=(size, V)) * 1.5
    targets = rng.integers(0, V, size)
    now = _logp(logits, targets)
    old = np.minimum(now - shift + 0.8 * rng.normal(size=size), -1e-3)
    return oracle.Agent(
      logits=logits,
      targets=targets,
      old=old,
      behavior=old - 0.3 * shift + 0.4 * rng.normal(size=size),
      ref=now + rng.normal(size=size),
    )

  return [
    [
      (advantage, [agent(a[2], s) for a, s in zip(agents, sh, strict=True)])
      for agents, advantage, sh in zip(group, advs, shifts, strict=True)
    ]
    for group, advs, shifts in zip(AGENTS, ADVANTAGES, SHIFTS, strict=True)
  ]


TASKS = _tasks()


def _flat(nested):
  return [agent for group in nested for rollout in group for agent in rollout]


def _rows(aggregation):
  """The same as rows: garbage wherever nothing is trained."""
  rng = np.random.default_rng(1)
  masks = [
    [[np.isin(np.arange(T), places) for _, _, places in r] for r in group]
    for group in AGENTS
  ]
  token_weights = _flat(weights.token_weights(masks, aggregation))
  rows = {
    'logits': rng.normal(size=(3, T, V)),
    'targets': rng.integers(0, V, (3, T)),
    'segment_ids': np.zeros((3, T), int),
    'weights': np.zeros((3, T)),
    'advantages': np.full((3, T), np.nan),
    'old_logprobs': np.full((3, T), np.nan),
    'behavior_logprobs': np.full((3, T), -np.inf),
    'ref_logprobs': np.full((3, T), np.inf),
  }
  agents = _flat([[agents for _, agents in group] for group in TASKS])
  advantages = [
    a for group in TASKS for a, agents in group for _ in range(len(agents))
  ]
  for (row, segment, places), agent, advantage, weight in zip(
    _flat(AGENTS), agents, advantages, token_weights, strict=True
  ):
    at = (row, list(places))
    # Untrained places of an agent are its own too.
    rows['segment_ids'][row, places[0] : places[-1] + 1] = segment
    rows['weights'][row] += weight
    rows['advantages'][at] = advantage
    rows['logits'][at], rows['targets'][at] = agent.logits, agent.targets
    rows['old_logprobs'][at] = agent.old
    rows['behavior_logprobs'][at] = agent.behavior
    rows['ref_logprobs'][at] = agent.ref
  return rows


def _loss(logits, rows, options):
  """The code under test."""
  rows = {
    name: jnp.asarray(x, jnp.int32 if x.dtype == int else jnp.float32)
    for name, x in rows.items()
  }
  scores = logprobs.score_logits(logits, rows['targets'])
  return losses.policy_loss(
    scores.logprobs,
    rows['old_logprobs'],
    rows['advantages'],
    rows['weights'],
    segment_ids=rows['segment_ids'],
    behavior_logprobs=rows['behavior_logprobs'],
    ref_logprobs=rows['ref_logprobs'],
    entropy=scores.entropy,
    **options,
  )


def _oracle_gradient(options):
  """d loss / d logits of each trained token, in the order of the agents."""
  slopes = []
  for t, group in enumerate(TASKS):
    for r, (advantage, agents) in enumerate(group):
      for a, agent in enumerate(agents):

        def moved(logits, t=t, r=r, a=a, advantage=advantage, agents=agents):
          agents = list(agents)
          agents[a] = dataclasses.replace(agents[a], logits=logits)
          tasks = [list(g) for g in TASKS]
          tasks[t][r] = (advantage, agents)
          return oracle.loss(tasks, options)

        shape = agent.logits.shape
        units = np.eye(agent.logits.size).reshape(-1, *shape)
        slopes.append(
          [oracle.slope(moved, agent.logits, unit) for unit in units]
        )
        slopes[-1] = np.reshape(slopes[-1], shape)
  return slopes


CASES = [
  {'ratio_level': ratio, 'tis_level': tis, 'aggregation': aggregation, **FULL}
  for ratio, tis, aggregation in itertools.product(
    ('token', 'sequence'),
    ('off', 'token', 'sequence'),
    ('dual_level', 'token_mean'),
  )
  # With a factor a token, GSPO's gradients are no sequence's: see below.
  if (ratio, tis) != ('sequence', 'token')
] + [{}, {'kl_coef': 0.3}, {'entropy_coef': 0.2}]


@pytest.mark.parametrize(
  'case',
  CASES,
  ids=lambda case: '-'.join(str(value) for value in case.values()) or 'plain',
)
def test_loss_and_gradient_are_the_oracles(case):
  options = oracle.Options(**BOUNDS | case)
  rows = _rows(options.aggregation)
  given = dataclasses.asdict(options)
  del given['aggregation']
  (loss, metrics), grad = jax.value_and_grad(_loss, has_aux=True)(
    jnp.asarray(rows['logits'], jnp.float32), rows, given
  )
  np.testing.assert_allclose(loss, oracle.loss(TASKS, options), atol=1e-6)
  expected = np.zeros((3, T, V))
  for (row, _, places), slopes in zip(
    _flat(AGENTS), _oracle_gradient(options), strict=True
  ):
    expected[row, list(places)] = slopes
  np.testing.assert_allclose(grad, expected, atol=2e-6)
  # Every bound was met, or this says little.
  for name in ('clip_low', 'clip_high', 'clip_dual'):
    assert metrics[name] > 0, name
  if options.tis_level != 'off':
    assert 0 < metrics['tis_capped'] < metrics['weight']


def test_factors_of_tokens_scale_the_gradients_of_tokens():
  rows = _rows('dual_level')

  def run(**options):
    options = dataclasses.asdict(
      oracle.Options(ratio_level='sequence', tis_cap=1.2, **BOUNDS | options)
    )
    del options['aggregation']
    logits = jnp.asarray(rows['logits'], jnp.float32)
    return jax.grad(_loss, has_aux=True)(logits, rows, options)[0]

  factor = np.exp(rows['old_logprobs'] - rows['behavior_logprobs'])
  factor = np.where(rows['weights'] > 0, np.minimum(factor, 1.2), 0)
  np.testing.assert_allclose(
    run(tis_level='token'), run() * factor[..., None], atol=1e-6
  )


def test_sequence_ratio_by_hand():
  # Log ratios ln 4, 0 of agent 1 and ln 9 of agent 2: √4·1 = 2 and 9.
  got = jnp.exp(
    losses.sequence_log_ratio(
      jnp.log(jnp.array([[4.0, 1, 9, 1]])),
      jnp.array([[True, True, True, False]]),
      jnp.array([[1, 1, 2, 2]]),
    )
  )
  np.testing.assert_allclose(got, [[2, 2, 9, 1]], rtol=1e-6)


def test_truncated_importance_sampling_by_hand():
  # π_old / π_behavior: 3/2 and 1/3 of agent 1, 5 of agent 2; cap 2. All weigh
  # 1, A = 1 and r = 1, so the loss is minus the sum of the factors.
  def run(level):
    old = jnp.log(jnp.array([[0.6, 0.1, 0.5]]))
    loss, metrics = losses.policy_loss(
      old,
      old,
      jnp.ones((1, 3)),
      jnp.ones((1, 3)),
      **BOUNDS,
      segment_ids=jnp.array([[1, 1, 2]]),
      tis_level=level,
      behavior_logprobs=jnp.log(jnp.array([[0.4, 0.3, 0.1]])),
    )
    return -loss, metrics

  loss, metrics = run('token')  # 3/2, 1/3, 2
  np.testing.assert_allclose(loss, 3 / 2 + 1 / 3 + 2, rtol=1e-6)
  np.testing.assert_allclose(metrics['tis'], loss, rtol=1e-6)
  assert metrics['tis_capped'] == 1
  # Σ r - 1 - log r
  expected = 3 / 2 + 1 / 3 + 5 - 3 - np.log(3 / 2 / 3 * 5)
  np.testing.assert_allclose(metrics['mismatch_kl'], expected, rtol=1e-5)
  loss, metrics = run('sequence')  # 1/2, 1/2, 2
  np.testing.assert_allclose(loss, 1 / 2 + 1 / 2 + 2, rtol=1e-6)
  loss, metrics = run('off')
  np.testing.assert_allclose(loss, 3, rtol=1e-6)
  assert 'tis' not in metrics


def test_huge_mismatch_is_the_cap():
  # exp(200) is beyond float32.
  def loss(x):
    return losses.policy_loss(
      x,
      x,
      jnp.ones((1, 2)),
      jnp.ones((1, 2)),
      **BOUNDS,
      segment_ids=jnp.ones((1, 2), jnp.int32),
      tis_level='sequence',
      behavior_logprobs=jnp.full((1, 2), -100.0),
    )[0]

  assert loss(jnp.zeros((1, 2))) == -4
