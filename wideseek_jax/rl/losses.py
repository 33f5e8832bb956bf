"""The objective: arrays in, arrays out, a plain weighted sum over tokens.

In: log-probs of the policy, of the policy that sampled, advantages and weights,
all of one shape. Out: the loss Σ weight · -term and sums for the log. Nothing
here is a mean: whoever made the weights has said what every token counts, so a
sum over micro-batches is the sum over the batch.
"""

import jax
import jax.numpy as jnp


def kl_k3(logprobs: jax.Array, ref_logprobs: jax.Array) -> jax.Array:
  """Per-token estimate of KL(policy ‖ reference), never negative.

  With d = ref - logp: exp(d) - d - 1 (J. Schulman, "Approximating KL
  divergence", estimator k3). Same shape as its inputs.
  """
  delta = ref_logprobs - logprobs
  return jnp.expm1(delta) - delta


def clipped_surrogate(
  ratio: jax.Array,
  advantages: jax.Array,
  *,
  clip_low: float,
  clip_high: float,
  dual_clip: float,
) -> jax.Array:
  """The term that every token is to raise.

  min(r·A, clip(r, 1 - clip_low, 1 + clip_high)·A) (arXiv 2602.04634 §3), and
  for A < 0 never below dual_clip·A (dual-clip PPO, arXiv 1912.09729 §4), so one
  token with a huge ratio cannot own the update.

  Args:
    ratio: any shape, π(token) / π_old(token).
    advantages: same shape.
    clip_low: ratios below 1 - clip_low earn a negative advantage nothing more.
    clip_high: ratios above 1 + clip_high earn a positive one nothing more.
    dual_clip: > 1.
  """
  clipped = jnp.clip(ratio, 1 - clip_low, 1 + clip_high)
  term = jnp.minimum(ratio * advantages, clipped * advantages)
  return jnp.where(
    advantages < 0, jnp.maximum(term, dual_clip * advantages), term
  )


def policy_loss(
  logprobs: jax.Array,
  old_logprobs: jax.Array,
  advantages: jax.Array,
  weights: jax.Array,
  *,
  clip_low: float,
  clip_high: float,
  dual_clip: float,
  log_ratio_clamp: float,
  kl_coef: float = 0.0,
  ref_logprobs: jax.Array | None = None,
  entropy_coef: float = 0.0,
  entropy: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Σ weight · (-surrogate + kl_coef · KL - entropy_coef · entropy).

  Args:
    logprobs: float32, any shape; gradients flow through these.
    old_logprobs: same shape, of the policy that sampled.
    advantages: same shape.
    weights: same shape, ≥ 0; a token of weight 0 adds exactly nothing, whatever
      its other values are.
    clip_low: see `clipped_surrogate`.
    clip_high: see `clipped_surrogate`.
    dual_clip: see `clipped_surrogate`.
    log_ratio_clamp: log ratios are cut to ±this before the exponential.
    kl_coef: of `kl_k3` to the reference.
    ref_logprobs: same shape; needed if kl_coef is not 0.
    entropy_coef: of the entropy bonus.
    entropy: same shape, in nats; logged if given, needed for the bonus.

  Returns:
    The loss, a scalar, and sums over tokens: 'weight' (Σ w), and weighted
    'ratio', 'clip_low', 'clip_high', 'clip_dual' (1 where that bound was
    active), 'approx_kl' (k3 of KL(old ‖ new)), 'entropy' and 'ref_kl' if
    given; 'ratio_max' is a maximum instead (0 without any weight).
  """
  trained = weights > 0
  # Padding may hold anything; a where before the exponential keeps its
  # gradients finite too.
  delta = jnp.where(trained, logprobs - old_logprobs, 0.0)
  delta = jnp.clip(delta, -log_ratio_clamp, log_ratio_clamp)
  ratio = jnp.exp(delta)
  term = clipped_surrogate(
    ratio,
    advantages,
    clip_low=clip_low,
    clip_high=clip_high,
    dual_clip=dual_clip,
  )
  loss = -jnp.sum(weights * jnp.where(trained, term, 0.0))
  gains, losses = advantages > 0, advantages < 0
  flags = {
    'ratio': ratio,
    'clip_low': losses & (ratio < 1 - clip_low),
    'clip_high': gains & (ratio > 1 + clip_high),
    'clip_dual': losses & (ratio > dual_clip),
    # The tokens are the old policy's: r - 1 - log r estimates KL(old ‖ new).
    'approx_kl': jnp.expm1(delta) - delta,
  }
  if kl_coef:
    ref_kl = kl_k3(
      jnp.where(trained, logprobs, 0.0), jnp.where(trained, ref_logprobs, 0.0)
    )
    loss += kl_coef * jnp.sum(weights * ref_kl)
    flags['ref_kl'] = ref_kl
  if entropy is not None:
    flags['entropy'] = jnp.where(trained, entropy, 0.0)
  if entropy_coef:
    loss -= entropy_coef * jnp.sum(weights * flags['entropy'])
  metrics = {name: jnp.sum(weights * flag) for name, flag in flags.items()}
  metrics['weight'] = jnp.sum(weights)
  metrics['ratio_max'] = jnp.max(jnp.where(trained, ratio, 0.0))
  return loss, jax.lax.stop_gradient(metrics)
