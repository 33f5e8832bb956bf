"""From logits to a token: temperature, top-k, top-p, and an addressed key.

One uniform number a token is turned into a sample by the inverse of the
cumulative distribution. It comes from the turn's address and the token's index
in the turn, so a sample does not depend on who shares the batch. The log-prob
that leaves is the one of the distribution that was sampled from.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np


def address_key(address: tuple[int, ...]) -> np.ndarray:
  """Hashes a turn's address to a raw threefry key, uint32 [2].

  Args:
    address: integers such as (seed, step, task, rollout, agent, turn).
  """
  text = ','.join(str(int(number)) for number in address)
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return np.frombuffer(digest, dtype='<u4').astype(np.uint32)


def token_uniforms(keys_R2: jax.Array, index_R: jax.Array) -> jax.Array:
  """One number in [0, 1) a row, float32 [R].

  Args:
    keys_R2: uint32, raw threefry keys of the turns (`address_key`).
    index_R: int32, which token of its turn each row samples.
  """
  keys = jax.random.wrap_key_data(keys_R2, impl='threefry2x32')
  keys = jax.vmap(jax.random.fold_in)(keys, index_R)
  return jax.vmap(jax.random.uniform)(keys)


def _invert(
  scores_RV: jax.Array, uniform_R: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Draws from softmax(scores) by its cumulative sum, in the given order."""
  top_R1 = jnp.max(scores_RV, axis=-1, keepdims=True)
  mass_RV = jnp.exp(scores_RV - top_R1)
  cumulative_RV = jnp.cumsum(mass_RV, axis=-1)
  total_R1 = cumulative_RV[:, -1:]
  # Rounding may put a step of the cumulative sum at a token without mass:
  # such a token is never taken, and the likeliest one is if none is left.
  above = (cumulative_RV > uniform_R[:, None] * total_R1) & (mass_RV > 0)
  best_R = jnp.argmax(scores_RV, axis=-1)
  index_R = jnp.where(
    jnp.any(above, axis=-1), jnp.argmax(above, axis=-1), best_R
  )
  chosen_R1 = jnp.take_along_axis(scores_RV, index_R[:, None], axis=-1)
  return index_R, (chosen_R1 - top_R1 - jnp.log(total_R1))[:, 0]


def _invert_filtered(
  scores_RV: jax.Array,
  uniform_R: jax.Array,
  top_k_R: jax.Array,
  top_p_R: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """`_invert` after top-k and then top-p, for the rows that ask for them."""
  V = scores_RV.shape[-1]
  # Ranked: the likeliest first, equals by token id.
  sorted_RV, ids_RV = jax.lax.sort(
    (-scores_RV, jax.lax.broadcasted_iota(jnp.int32, scores_RV.shape, 1)),
    num_keys=1,
    is_stable=True,
  )
  ranked_RV = -sorted_RV
  rank_1V = jnp.arange(V)[None, :]
  k_R1 = jnp.where(top_k_R > 0, top_k_R, V)[:, None]
  ranked_RV = jnp.where(rank_1V < k_R1, ranked_RV, -jnp.inf)
  probs_RV = jax.nn.softmax(ranked_RV, axis=-1)
  before_RV = jnp.cumsum(probs_RV, axis=-1) - probs_RV
  keep_RV = (before_RV < top_p_R[:, None]) | (rank_1V == 0)
  ranked_RV = jnp.where(keep_RV, ranked_RV, -jnp.inf)
  place_R, logprob_R = _invert(ranked_RV, uniform_R)
  token_R = jnp.take_along_axis(ids_RV, place_R[:, None], axis=-1)[:, 0]
  # A row without filters keeps its sample whoever shares the batch.
  plain_R, plain_logprob_R = _invert(scores_RV, uniform_R)
  filtered_R = (top_k_R > 0) | (top_p_R < 1)
  return (
    jnp.where(filtered_R, token_R, plain_R),
    jnp.where(filtered_R, logprob_R, plain_logprob_R),
  )


def sample(
  logits_RV: jax.Array,
  temperature_R: jax.Array,
  top_k_R: jax.Array,
  top_p_R: jax.Array,
  uniform_R: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Samples a token a row.

  Args:
    logits_RV: float32.
    temperature_R: float32; 0 takes the likeliest token, with log-prob 0 (it
      had probability 1).
    top_k_R: int32, keep the k likeliest tokens, equals by id; 0 keeps all.
    top_p_R: float32, then keep the fewest tokens whose probability reaches
      this; 1 keeps all.
    uniform_R: float32 in [0, 1), see `token_uniforms`.

  Returns:
    (token_R int32, logprob_R float32): the token, and its log-prob after
    temperature and filters.
  """
  greedy_R = temperature_R == 0
  scores_RV = logits_RV / jnp.where(greedy_R, 1.0, temperature_R)[:, None]
  # The filters sort the vocabulary: only batches that use them pay for it.
  token_R, logprob_R = jax.lax.cond(
    jnp.any((top_k_R > 0) | (top_p_R < 1)),
    _invert_filtered,
    lambda scores, uniform, k, p: _invert(scores, uniform),
    scores_RV,
    uniform_R,
    top_k_R,
    top_p_R,
  )
  best_R = jnp.argmax(logits_RV, axis=-1)
  return (
    jnp.where(greedy_R, best_R, token_R).astype(jnp.int32),
    jnp.where(greedy_R, 0.0, logprob_R),
  )
