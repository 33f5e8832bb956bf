"""Log-probabilities of given tokens from hidden states, chunk by chunk.

In: the last hidden states of packed rows, a function to logits, the tokens that
were sampled. Out: their log-probs and the entropy of the distributions. Logits
exist for one chunk of time at once, forward and backward: a row of 32k tokens
over 150k words would otherwise need 20 GB.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class TokenScores(NamedTuple):
  """What the policy thinks of every token.

  Attributes:
    logprobs: float32 [B, T], log-prob of the target.
    entropy: float32 [B, T], of the whole distribution, in nats.
    is_top: bool [B, T], no token is likelier than the target (by more than
      1e-5 nats).
  """

  logprobs: jax.Array
  entropy: jax.Array
  is_top: jax.Array


def score_logits(logits_BTV: jax.Array, targets_BT: jax.Array) -> TokenScores:
  """Scores targets under logits held whole; -inf logits are allowed.

  Args:
    logits_BTV: any float dtype; computed in float32.
    targets_BT: int32, in [0, V).
  """
  logits_BTV = logits_BTV.astype(jnp.float32)
  max_BT1 = jax.lax.stop_gradient(logits_BTV.max(axis=-1, keepdims=True))
  shifted_BTV = logits_BTV - max_BT1
  exp_BTV = jnp.exp(shifted_BTV)
  sum_BT = exp_BTV.sum(axis=-1)
  # Comparing instead of gathering: the gradient is then one fused elementwise
  # pass, where a gather's would be a scatter into a zeroed [B, T, V].
  vocab_V = jnp.arange(logits_BTV.shape[-1], dtype=targets_BT.dtype)
  hit_BTV = targets_BT[..., None] == vocab_V[None, None, :]
  target_BT = jnp.where(hit_BTV, shifted_BTV, 0.0).sum(axis=-1)
  log_sum_BT = jnp.log(sum_BT)
  # Σ p·(x - max); a token that is cut off (-inf) adds 0, not 0·inf.
  finite_BTV = jnp.where(exp_BTV > 0, shifted_BTV, 0.0)
  mean_BT = (exp_BTV * finite_BTV).sum(axis=-1) / sum_BT
  return TokenScores(
    logprobs=target_BT - log_sum_BT,
    entropy=log_sum_BT - mean_BT,
    # Not >= 0: XLA may compute a logit twice, with other last bits.
    is_top=target_BT >= -1e-5,
  )


def token_logprobs(
  hidden_BTD: jax.Array,
  unembed_fn: Callable[[jax.Array], jax.Array],
  targets_BT: jax.Array,
  *,
  chunk_len: int,
  temperature: float = 1.0,
  entropy_grad: bool = False,
) -> TokenScores:
  """Scores targets without ever holding the logits of a whole row.

  Every chunk's logits are computed again in the backward pass, so that memory
  holds B × chunk_len × V of them. Rows stay rows: a batch sharded over its
  rows is chunked without communication.

  Args:
    hidden_BTD: final hidden states.
    unembed_fn: [B, t, D] → logits [B, t, V]. To score a truncated distribution
      (top-k, top-p) let it return -inf for what was cut off.
    targets_BT: int32, the token that follows each position.
    chunk_len: positions of a row at once; at least T means one chunk.
    temperature: > 0; logits are divided by it, as the sampler did.
    entropy_grad: whether gradients flow through the entropy.

  Returns:
    `TokenScores` of [B, T] arrays.

  Raises:
    ValueError: chunk_len < 1 or temperature ≤ 0.
  """
  if chunk_len < 1:
    raise ValueError(f'chunk_len must be at least 1, got {chunk_len}')
  if temperature <= 0:
    raise ValueError(f'temperature must be > 0 to score, got {temperature}')

  @jax.checkpoint
  def score(hidden_BtD, targets_Bt):
    scores = score_logits(unembed_fn(hidden_BtD) / temperature, targets_Bt)
    if entropy_grad:
      return scores
    return scores._replace(entropy=jax.lax.stop_gradient(scores.entropy))

  B, T, D = hidden_BTD.shape
  if chunk_len >= T:
    return score(hidden_BTD, targets_BT)
  num_chunks = -(-T // chunk_len)
  padding = num_chunks * chunk_len - T
  hidden_BTD = jnp.pad(hidden_BTD, ((0, 0), (0, padding), (0, 0)))
  targets_BT = jnp.pad(targets_BT, ((0, 0), (0, padding)))
  scores = jax.lax.map(
    lambda chunk: score(*chunk),
    (
      hidden_BTD.reshape(B, num_chunks, chunk_len, D).swapaxes(0, 1),
      targets_BT.reshape(B, num_chunks, chunk_len).swapaxes(0, 1),
    ),
  )
  return jax.tree.map(
    lambda x_CBt: x_CBt.swapaxes(0, 1).reshape(B, -1)[:, :T], scores
  )
