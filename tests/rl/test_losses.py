import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.rl import losses

BOUNDS = {'clip_low': 0.2, 'clip_high': 0.28, 'dual_clip': 10.0}
ALL = BOUNDS | {'log_ratio_clamp': 20.0}


@pytest.mark.parametrize(
  ('ratio', 'advantage', 'term'),
  [
    (0.5, 1.0, 0.5),  # min(0.5, 0.8)
    (1.0, 1.0, 1.0),
    (1.3, 1.0, 1.28),  # min(1.3, 1.28)
    (0.5, -1.0, -0.8),  # min(-0.5, -0.8)
    (1.0, -1.0, -1.0),
    (1.3, -1.0, -1.3),  # min(-1.3, -1.28)
    (12.0, -1.0, -10.0),  # the dual clip: max(-12, 10 · -1)
    (12.0, 1.0, 1.28),
  ],
)
def test_clip_table(ratio, advantage, term):
  got = losses.clipped_surrogate(
    jnp.float32(ratio), jnp.float32(advantage), **BOUNDS
  )
  np.testing.assert_allclose(got, term, rtol=1e-6)


def test_k3():
  # ref - logp = ln 2: 2 - ln 2 - 1 = 0.3069; equal log-probs: 0.
  got = losses.kl_k3(jnp.log(jnp.array([2.0, 1.0])))
  np.testing.assert_allclose(got, [0.306853, 0.0], atol=1e-6)


def _case(seed=0, size=40):
  rng = np.random.default_rng(seed)
  old = -rng.random(size) * 3
  # Spread so wide that all three bounds are met.
  new = np.minimum(old + rng.normal(size=size) * 1.5, -1e-3)
  return {
    'logprobs': new,
    'old_logprobs': old,
    'advantages': rng.normal(size=size),
    'weights': np.where(rng.random(size) < 0.3, 0, rng.random(size)),
    'ref_logprobs': -rng.random(size) * 3,
    'entropy': rng.random(size),
  }


def _oracle(case, kl_coef, entropy_coef):
  """Token by token, in plain Python floats."""
  loss = 0.0
  for lp, old, a, w, ref, entropy in zip(*case.values(), strict=True):
    r = np.exp(np.clip(lp - old, -20, 20))
    term = min(r * a, min(max(r, 0.8), 1.28) * a)
    if a < 0:
      term = max(term, 10 * a)
    kl = np.exp(ref - lp) - (ref - lp) - 1
    loss += w * (-term + kl_coef * kl - entropy_coef * entropy)
  return loss


def _loss(case, kl_coef=0.0, entropy_coef=0.0):
  arrays = {k: jnp.asarray(v, jnp.float32) for k, v in case.items()}
  return losses.policy_loss(
    **arrays, **ALL, kl_coef=kl_coef, entropy_coef=entropy_coef
  )


@pytest.mark.parametrize('coefs', [(0.0, 0.0), (0.3, 0.0), (0.3, 0.7)])
def test_loss_is_the_oracle(coefs):
  case = _case()
  loss, _ = _loss(case, *coefs)
  np.testing.assert_allclose(loss, _oracle(case, *coefs), rtol=1e-5)


def test_gradient_is_the_oracles_difference():
  case = _case()
  grad = jax.grad(lambda x: _loss(case | {'logprobs': x}, 0.3, 0.7)[0])(
    jnp.asarray(case['logprobs'], jnp.float32)
  )
  grad = np.asarray(grad)
  for i, step in enumerate(np.eye(len(grad)) * 1e-6):
    up = _oracle(case | {'logprobs': case['logprobs'] + step}, 0.3, 0.7)
    down = _oracle(case | {'logprobs': case['logprobs'] - step}, 0.3, 0.7)
    np.testing.assert_allclose(grad[i], (up - down) / 2e-6, atol=2e-3)


def test_sum_over_parts_is_the_whole():
  case = _case()
  halves = [
    {k: v[s] for k, v in case.items()} for s in (slice(9), slice(9, 40))
  ]
  loss, metrics = _loss(case, 0.3, 0.7)
  parts = [_loss(half, 0.3, 0.7) for half in halves]
  np.testing.assert_allclose(loss, parts[0][0] + parts[1][0], rtol=1e-5)
  for name, value in metrics.items():
    both = parts[0][1][name], parts[1][1][name]
    whole = max(both) if name == 'ratio_max' else sum(both)
    np.testing.assert_allclose(value, whole, rtol=1e-5, err_msg=name)


def test_metrics_by_hand():
  # Ratios 0.5, 2, 12, 1 with advantages -, +, -, +; weights 1, 2, 4, 8.
  ratio = jnp.array([0.5, 2.0, 12.0, 1.0])
  _, metrics = losses.policy_loss(
    jnp.log(ratio),
    jnp.zeros(4),
    jnp.array([-1.0, 1.0, -1.0, 1.0]),
    jnp.array([1.0, 2.0, 4.0, 8.0]),
    **ALL,
  )
  expected = {
    'weight': 15,
    'ratio': 0.5 + 4 + 48 + 8,
    'ratio_max': 12,
    'clip_low': 1,
    'clip_high': 2,
    'clip_dual': 4,
    # Σ w (r - 1 - log r)
    'approx_kl': 0.193147 + 2 * 0.306853 + 4 * 8.515093,
  }
  assert metrics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_log_ratio_is_clamped():
  # e^20 at most, and beyond it no gradient: -1 · e^20 · A.
  def loss(x):
    return losses.policy_loss(
      x,
      jnp.full(1, -100.0),
      jnp.full(1, -1.0),
      jnp.ones(1),
      **ALL | {'dual_clip': jnp.inf},
    )[0]

  value, grad = jax.value_and_grad(loss)(jnp.zeros(1))
  np.testing.assert_allclose(value, np.exp(20), rtol=1e-5)
  assert grad == 0


def test_a_token_without_weight_is_nothing():
  def loss(x):
    return losses.policy_loss(
      x,
      jnp.array([-1.0, jnp.nan]),
      jnp.array([1.0, jnp.nan]),
      jnp.array([1.0, 0.0]),
      **ALL,
      kl_coef=1.0,
      ref_logprobs=jnp.array([-1.0, -jnp.inf]),
    )[0]

  value, grad = jax.value_and_grad(loss)(jnp.array([-1.0, -jnp.inf]))
  np.testing.assert_allclose(value, -1, rtol=1e-6)
  np.testing.assert_allclose(grad, [-1, 0], rtol=1e-6)
