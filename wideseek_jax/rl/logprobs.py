"""Log-probabilities of given tokens from hidden states, chunk by chunk.

In: the last hidden states of packed rows, a function to logits, the tokens that
were sampled. Out: their log-probs and the entropy of the distributions. Logits
exist for one chunk of time at once, forward and backward: a row of 32k tokens
over 150k words would otherwise need 20 GB.
"""

import functools
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
  asked_BT: jax.Array | None = None,
  temperature: float = 1.0,
  entropy_grad: bool = False,
) -> TokenScores:
  """Scores targets without ever holding the logits of a whole row.

  Places that are asked for are moved to the front of their row, and only the
  chunks that hold any are computed: what a policy only read costs no logits.
  They are computed again in the backward pass, so that memory holds
  B × chunk_len × V of them. Rows stay rows: a batch sharded over its rows is
  chunked without communication.

  Args:
    hidden_BTD: final hidden states.
    unembed_fn: [B, t, D] → logits [B, t, V]. To score a truncated distribution
      (top-k, top-p) let it return -inf for what was cut off.
    targets_BT: int32, the token that follows each position.
    chunk_len: positions of a row at once; at least T means one chunk.
    asked_BT: bool, the places whose scores will be read, all if None. Others
      have any finite score, and their gradient must be 0.
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
  B, T, _ = hidden_BTD.shape
  chunk_len = min(chunk_len, T)
  unembed_fn, tables = jax.closure_convert(
    unembed_fn, hidden_BTD[:, :chunk_len]
  )

  def score(tables, hidden_BtD, targets_Bt):
    logits_BtV = unembed_fn(hidden_BtD, *tables) / temperature
    scores = score_logits(logits_BtV, targets_Bt)
    if entropy_grad:
      return scores
    return scores._replace(entropy=jax.lax.stop_gradient(scores.entropy))

  def to_chunks(x_BT):
    pad = ((0, 0), (0, -T % chunk_len), *((0, 0),) * (x_BT.ndim - 2))
    x_BT = jnp.pad(x_BT, pad)
    x_BCt = x_BT.reshape(B, -1, chunk_len, *x_BT.shape[2:])
    return x_BCt.swapaxes(0, 1)

  def to_rows(x_CBt):
    return x_CBt.swapaxes(0, 1).reshape(B, -1)[:, :T]

  if asked_BT is None:
    asked_BT = jnp.ones((B, T), bool)
  order_BT = jnp.argsort(~asked_BT, axis=1)
  place_BT = jnp.argsort(order_BT, axis=1)
  scores = _score_chunks(
    score,
    tuple(tables),
    to_chunks(_reorder(hidden_BTD, order_BT, place_BT)),
    to_chunks(jnp.take_along_axis(targets_BT, order_BT, axis=1)),
    -(-jnp.max(jnp.sum(asked_BT, axis=1)) // chunk_len),
  )
  return jax.tree.map(
    lambda x_CBt: jnp.take_along_axis(to_rows(x_CBt), place_BT, axis=1), scores
  )


@jax.custom_vjp
def _reorder(x_BTD, order_BT, place_BT):
  """Place i of a row gets what was at order[i]; place is the way back."""
  del place_BT
  return jnp.take_along_axis(x_BTD, order_BT[..., None], axis=1)


_reorder.defvjp(
  lambda x, order, place: (_reorder(x, order, place), (order, place)),
  # Looking up is much faster than the scatter that JAX would make of it.
  lambda saved, d_x: (_reorder(d_x, *saved[::-1]), None, None),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _score_chunks(score, tables, hidden_CBtD, targets_CBt, count):
  """score(tables, hidden, targets) of the first `count` chunks, 0 behind."""
  shapes = jax.eval_shape(score, tables, hidden_CBtD[0], targets_CBt[0])

  def body(n, scores_CBt):
    return jax.tree.map(
      lambda x_CBt, x_Bt: x_CBt.at[n].set(x_Bt),
      scores_CBt,
      score(tables, hidden_CBtD[n], targets_CBt[n]),
    )

  zeros = jax.tree.map(
    lambda x: jnp.zeros((len(hidden_CBtD), *x.shape), x.dtype), shapes
  )
  return jax.lax.fori_loop(0, count, body, zeros)


def _backward(score, saved, d_scores_CBt):
  tables, hidden_CBtD, targets_CBt, count = saved

  def body(n, carry):
    d_tables, d_hidden_CBtD = carry
    _, pull = jax.vjp(
      lambda *args: score(*args, targets_CBt[n])[:2], tables, hidden_CBtD[n]
    )
    more, d_hidden_BtD = pull(tuple(d[n] for d in d_scores_CBt[:2]))
    d_tables = jax.tree.map(jnp.add, d_tables, more)
    return d_tables, d_hidden_CBtD.at[n].set(d_hidden_BtD)

  zeros = jax.tree.map(jnp.zeros_like, (tables, hidden_CBtD))
  return *jax.lax.fori_loop(0, count, body, zeros), None, None


_score_chunks.defvjp(
  lambda score, *args: (_score_chunks(score, *args), args), _backward
)
