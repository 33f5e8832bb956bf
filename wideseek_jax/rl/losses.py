"""The objective: arrays in, arrays out, a plain weighted sum over tokens.

In: log-probs of the policy, of the policy that sampled, advantages and weights,
all of one shape. Out: the loss Σ weight · -term and sums for the log. Nothing
here is a mean over the batch: whoever made the weights has said what every
token counts, so a sum over micro-batches is the sum over the batch.
"""

from typing import Literal

import jax
import jax.numpy as jnp

# What a ratio is of: one token, or all trained tokens of one agent.
RatioLevel = Literal['token', 'sequence']
TisLevel = Literal['off', 'token', 'sequence']


def segment_sums(values_BT: jax.Array, segment_ids_BT: jax.Array) -> jax.Array:
  """At every place the sum over its segment of its row.

  Args:
    values_BT: any float dtype, 0 where nothing is to be added.
    segment_ids_BT: int32, from 0 to T; a segment need not be in one piece.

  Returns:
    [B, T].
  """
  num_segments = values_BT.shape[1] + 1

  def sum_row(values_T, ids_T):
    sums = jax.ops.segment_sum(values_T, ids_T, num_segments=num_segments)
    return sums[ids_T]

  return jax.vmap(sum_row)(values_BT, segment_ids_BT)


def kl_k3(log_ratio: jax.Array) -> jax.Array:
  """Per-token estimate of KL(p ‖ q) at tokens of p, never negative.

  With d = log q - log p: exp(d) - d - 1 (J. Schulman, "Approximating KL
  divergence", estimator k3). Same shape as its input, which is d.
  """
  return jnp.expm1(log_ratio) - log_ratio


def sequence_log_ratio(
  delta_BT: jax.Array, trained_BT: jax.Array, segment_ids_BT: jax.Array
) -> jax.Array:
  """Mean log ratio of a token's agent, with the token's own gradient.

  GSPO-token (arXiv 2507.18071 §4.3): the value is that of the sequence ratio,
  log s = 1/n Σ log r over the agent's n trained tokens; the gradient at each
  token is its own. Where an agent's tokens have one weight and one advantage,
  the gradients add up to that of the sequence ratio.

  Args:
    delta_BT: log ratios, 0 where not trained.
    trained_BT: bool.
    segment_ids_BT: whose a trained token is.
  """
  fixed_BT = jax.lax.stop_gradient(delta_BT)
  count_BT = segment_sums(trained_BT.astype(delta_BT.dtype), segment_ids_BT)
  mean_BT = segment_sums(fixed_BT, segment_ids_BT) / jnp.maximum(count_BT, 1)
  return jnp.where(trained_BT, mean_BT + (delta_BT - fixed_BT), 0.0)


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
  ratio_level: RatioLevel = 'token',
  segment_ids: jax.Array | None = None,
  tis_level: TisLevel = 'off',
  tis_cap: float = 2.0,
  behavior_logprobs: jax.Array | None = None,
  kl_coef: float = 0.0,
  ref_logprobs: jax.Array | None = None,
  entropy_coef: float = 0.0,
  entropy: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Σ weight · (-tis · surrogate + kl_coef · KL - entropy_coef · entropy).

  Args:
    logprobs: float32, any shape ([B, T] if segments are read); gradients flow
      through these.
    old_logprobs: same shape, what ratios are taken to.
    advantages: same shape.
    weights: same shape, ≥ 0; a token of weight 0 adds exactly nothing, whatever
      its other values are.
    clip_low: see `clipped_surrogate`.
    clip_high: see `clipped_surrogate`.
    dual_clip: see `clipped_surrogate`.
    log_ratio_clamp: log ratios, those to the reference too, are cut to ±this
      before the exponential.
    ratio_level: 'sequence' has one ratio an agent (GSPO, `sequence_log_ratio`);
      its bounds are much narrower: 3e-4 and 4e-4 in the paper.
    segment_ids: int32 [B, T], whose a trained token is, from 1 on within each
      row; read at level 'sequence'.
    tis_level: unless 'off', the surrogate is multiplied by min(π_old /
      π_behavior, tis_cap) of the token, or of all trained tokens of its agent
      (truncated importance sampling: Yao et al. 2025, "Your efficient RL
      framework secretly brings you off-policy RL training").
    tis_cap: see above.
    behavior_logprobs: same shape, of the engine that sampled; None if
      old_logprobs are those already: that factor is 1 and is not computed.
    kl_coef: of `kl_k3` to the reference.
    ref_logprobs: same shape; needed if kl_coef is not 0.
    entropy_coef: of the entropy bonus.
    entropy: same shape, in nats; logged if given, needed for the bonus.

  Returns:
    The loss, a scalar, and sums over tokens: 'weight' (Σ w), and weighted
    'ratio', 'clip_low', 'clip_high', 'clip_dual' (1 where that bound was
    active), 'approx_kl' (k3 of KL(old ‖ new), token by token), 'entropy' and
    'ref_kl' if given; if it is computed, 'tis' (the factor), 'tis_capped' (1
    where the cap was active) and 'mismatch_kl' (k3 of KL(behavior ‖ old), token
    by token); 'ratio_max' is a maximum instead (0 without any weight).
  """
  trained = weights > 0

  def log_ratio(of, to):
    # Padding may hold anything; a where before the exponential keeps its
    # gradients finite too.
    return jnp.where(trained, of - to, 0.0)

  def clamp(delta):
    return jnp.clip(delta, -log_ratio_clamp, log_ratio_clamp)

  delta = log_ratio(logprobs, old_logprobs)
  sums = {'approx_kl': kl_k3(clamp(delta))}
  if ratio_level == 'sequence':
    delta = sequence_log_ratio(delta, trained, segment_ids)
  ratio = jnp.exp(clamp(delta))
  term = clipped_surrogate(
    ratio,
    advantages,
    clip_low=clip_low,
    clip_high=clip_high,
    dual_clip=dual_clip,
  )
  gains, losses = advantages > 0, advantages < 0
  sums |= {
    'ratio': ratio,
    'clip_low': losses & (ratio < 1 - clip_low),
    'clip_high': gains & (ratio > 1 + clip_high),
    'clip_dual': losses & (ratio > dual_clip),
  }
  if tis_level != 'off' and behavior_logprobs is not None:
    mismatch = log_ratio(old_logprobs, behavior_logprobs)
    sums['mismatch_kl'] = kl_k3(clamp(mismatch))
    if tis_level == 'sequence':
      mismatch = segment_sums(mismatch, segment_ids)
    tis = jax.lax.stop_gradient(jnp.minimum(jnp.exp(mismatch), tis_cap))
    sums |= {'tis': tis, 'tis_capped': tis == tis_cap}
    term *= tis
  loss = -jnp.sum(weights * jnp.where(trained, term, 0.0))
  if kl_coef:
    sums['ref_kl'] = kl_k3(clamp(log_ratio(ref_logprobs, logprobs)))
    loss += kl_coef * jnp.sum(weights * sums['ref_kl'])
  if entropy is not None:
    sums['entropy'] = jnp.where(trained, entropy, 0.0)
  if entropy_coef:
    loss -= entropy_coef * jnp.sum(weights * sums['entropy'])
  metrics = {name: jnp.sum(weights * value) for name, value in sums.items()}
  metrics['weight'] = jnp.sum(weights)
  metrics['ratio_max'] = jnp.max(jnp.where(trained, ratio, 0.0))
  return loss, jax.lax.stop_gradient(metrics)
