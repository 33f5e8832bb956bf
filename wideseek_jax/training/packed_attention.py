"""Attention of packed rows in blocks, for training.

In: queries, keys and values of whole rows and which segment each token belongs
to. Out: what the reference, `models.layers.full_causal_attend`, gives, without
its [T, T] scores: blocks of keys that no query of a block can see (later ones,
and those before the block's first segment) are never computed, and the backward
pass computes scores again instead of reading them (arXiv 2205.14135, here in
plain jnp). Rows of 32k tokens need no more memory for it than rows of 512.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax.models import layers

# Largest magnitude that stands for "not seen": differences of it stay finite.
_UNSEEN = -1e30


def packed_attend(
  segment_ids_BT: jax.Array, positions_BT: jax.Array, *, block: int
) -> layers.Attend:
  """Attention of rows in which segments lie one after the other.

  Args:
    segment_ids_BT: int32, 0 is padding, which sees and is seen by nothing.
    positions_BT: int32, counted from 0 in every segment.
    block: tokens of a block; cut to T.

  Returns:
    An attend function for `transformer.apply`; the cache passes through.
  """
  B, T = segment_ids_BT.shape
  block = min(block, T)
  padding = -T % block
  segment_ids_BT = jnp.pad(segment_ids_BT, ((0, 0), (0, padding)))
  index_T = jnp.arange(T + padding)
  starts_BT = jnp.where(
    segment_ids_BT > 0,
    index_T[None, :] - jnp.pad(positions_BT, ((0, 0), (0, padding))),
    index_T[None, :],
  )
  # The first block of keys that any row needs, for each block of queries.
  first_C = starts_BT.reshape(B, -1, block).min(axis=(0, 2)) // block
  segments_CBt = _to_blocks(segment_ids_BT, block)

  def attend(layer, q_BTNH, k_BTKH, v_BTKH, cache):
    del layer
    N, H = q_BTNH.shape[2:]
    K = k_BTKH.shape[2]
    pad = ((0, 0), (0, padding), (0, 0), (0, 0))
    q_CBKrH = _to_heads(jnp.pad(q_BTNH, pad) / math.sqrt(H), K, block)
    k_CBKtH = _to_heads(jnp.pad(k_BTKH, pad), K, block)
    v_CBKtH = _to_heads(jnp.pad(v_BTKH, pad), K, block)
    out_CBKrH = _attention(q_CBKrH, k_CBKtH, v_CBKtH, segments_CBt, first_C)
    out_CBKGtH = out_CBKrH.reshape(-1, B, K, N // K, block, H)
    out_BCtKGH = out_CBKGtH.transpose(1, 0, 4, 2, 3, 5)
    return out_BCtKGH.reshape(B, -1, N, H)[:, :T], cache

  return attend


def _to_blocks(x_BT: jax.Array, block: int) -> jax.Array:
  """[B, T] → [C, B, t]: C blocks of t tokens."""
  return x_BT.reshape(x_BT.shape[0], -1, block).swapaxes(0, 1)


def _to_heads(x_BTNH: jax.Array, K: int, block: int) -> jax.Array:
  """[B, T, N, H] → [C, B, K, r, H]: r runs over a kv head's queries, then t."""
  B, _, N, H = x_BTNH.shape
  x_BCtKGH = x_BTNH.reshape(B, -1, block, K, N // K, H)
  x_CBKGtH = x_BCtKGH.transpose(1, 0, 3, 4, 2, 5)
  return x_CBKGtH.reshape(-1, B, K, N // K * block, H)


def _seen(segments_CBt, query_block, key_block, shape_BKrs):
  """bool [B, 1, G, t, s] and the 5-D shape of scores: who sees whom."""
  B, K, r, s = shape_BKrs
  q_Bt, k_Bs = segments_CBt[query_block], segments_CBt[key_block]
  same_Bts = (q_Bt[:, :, None] == k_Bs[:, None, :]) & (q_Bt[:, :, None] > 0)
  offset = (query_block - key_block) * s
  index = jnp.arange(s)
  causal_ts = index[:, None] + offset >= index[None, :]
  mask_Bts = same_Bts & causal_ts[None]
  return mask_Bts[:, None, None], (B, K, r // s, s, s)


@jax.custom_vjp
def _attention(q_CBKrH, k_CBKtH, v_CBKtH, segments_CBt, first_C):
  return _forward(q_CBKrH, k_CBKtH, v_CBKtH, segments_CBt, first_C)[0]


def _forward(q_CBKrH, k_CBKtH, v_CBKtH, segments_CBt, first_C):
  """Softmax over one block of keys after the other, with a running top."""

  def query_block(inputs):
    i, first, q_BKrH = inputs

    def key_block(j, carry):
      top_BKr, total_BKr, out_BKrH = carry
      scores = jnp.einsum(
        'BKrH,BKsH->BKrs',
        q_BKrH,
        k_CBKtH[j],
        preferred_element_type=jnp.float32,
      )
      mask, shape = _seen(segments_CBt, i, j, scores.shape)
      masked = jnp.where(mask, scores.reshape(shape), _UNSEEN)
      masked = masked.reshape(scores.shape)
      new_top_BKr = jnp.maximum(top_BKr, masked.max(axis=-1))
      # Until a query has seen a key its maximum is _UNSEEN and exp gives 1 for
      # keys it must not see; the first real key scales all that to 0.
      weights_BKrs = jnp.exp(masked - new_top_BKr[..., None])
      scale_BKr = jnp.exp(top_BKr - new_top_BKr)
      value_BKrH = jnp.einsum(
        'BKrs,BKsH->BKrH',
        weights_BKrs.astype(v_CBKtH.dtype),
        v_CBKtH[j],
        preferred_element_type=jnp.float32,
      )
      total_BKr = total_BKr * scale_BKr + weights_BKrs.sum(axis=-1)
      out_BKrH = out_BKrH * scale_BKr[..., None] + value_BKrH
      return new_top_BKr, total_BKr, out_BKrH

    zeros_BKr = jnp.zeros(q_BKrH.shape[:-1], jnp.float32)
    top_BKr, total_BKr, out_BKrH = jax.lax.fori_loop(
      first,
      i + 1,
      key_block,
      (zeros_BKr + _UNSEEN, zeros_BKr, jnp.zeros(q_BKrH.shape, jnp.float32)),
    )
    empty_BKr = top_BKr == _UNSEEN
    out_BKrH = jnp.where(
      empty_BKr[..., None],
      0.0,
      out_BKrH / jnp.where(empty_BKr, 1.0, total_BKr)[..., None],
    )
    log_total_BKr = top_BKr + jnp.log(jnp.where(empty_BKr, 1.0, total_BKr))
    return out_BKrH.astype(q_BKrH.dtype), log_total_BKr

  blocks = jnp.arange(len(q_CBKrH))
  out_CBKrH, log_total_CBKr = jax.lax.map(
    query_block, (blocks, first_C, q_CBKrH)
  )
  residuals = (
    q_CBKrH,
    k_CBKtH,
    v_CBKtH,
    segments_CBt,
    first_C,
    out_CBKrH,
    log_total_CBKr,
  )
  return out_CBKrH, residuals


def _backward(residuals: tuple[Any, ...], d_out_CBKrH: jax.Array):
  q_CBKrH, k_CBKtH, v_CBKtH, segments_CBt, first_C, out, log_total_CBKr = (
    residuals
  )
  # Σ_s weight · d_weight of every query, from what it put out.
  inner_CBKr = jnp.sum(
    d_out_CBKrH.astype(jnp.float32) * out.astype(jnp.float32), axis=-1
  )

  def query_block(carry, inputs):
    i, first, q_BKrH, d_out_BKrH, log_total_BKr, inner_BKr = inputs

    def key_block(j, carry):
      d_q_BKrH, d_k_CBKtH, d_v_CBKtH = carry
      k_BKsH, v_BKsH = k_CBKtH[j], v_CBKtH[j]
      scores = jnp.einsum(
        'BKrH,BKsH->BKrs', q_BKrH, k_BKsH, preferred_element_type=jnp.float32
      )
      d_weights = jnp.einsum(
        'BKrH,BKsH->BKrs',
        d_out_BKrH,
        v_BKsH,
        preferred_element_type=jnp.float32,
      )
      mask, shape = _seen(segments_CBt, i, j, scores.shape)
      weights = jnp.exp(scores - log_total_BKr[..., None]).reshape(shape)
      weights = jnp.where(mask, weights, 0.0).reshape(scores.shape)
      d_scores = weights * (d_weights - inner_BKr[..., None])
      weights = weights.astype(v_BKsH.dtype)
      d_scores = d_scores.astype(q_BKrH.dtype)
      d_q_BKrH += jnp.einsum(
        'BKrs,BKsH->BKrH', d_scores, k_BKsH, preferred_element_type=jnp.float32
      )
      d_k_BKsH = jnp.einsum(
        'BKrs,BKrH->BKsH', d_scores, q_BKrH, preferred_element_type=jnp.float32
      )
      d_v_BKsH = jnp.einsum(
        'BKrs,BKrH->BKsH',
        weights,
        d_out_BKrH,
        preferred_element_type=jnp.float32,
      )
      return (
        d_q_BKrH,
        d_k_CBKtH.at[j].add(d_k_BKsH),
        d_v_CBKtH.at[j].add(d_v_BKsH),
      )

    d_k_CBKtH, d_v_CBKtH = carry
    d_q_BKrH = jnp.zeros(q_BKrH.shape, jnp.float32)
    d_q_BKrH, d_k_CBKtH, d_v_CBKtH = jax.lax.fori_loop(
      first, i + 1, key_block, (d_q_BKrH, d_k_CBKtH, d_v_CBKtH)
    )
    return (d_k_CBKtH, d_v_CBKtH), d_q_BKrH.astype(q_BKrH.dtype)

  blocks = jnp.arange(len(q_CBKrH))
  (d_k_CBKtH, d_v_CBKtH), d_q_CBKrH = jax.lax.scan(
    query_block,
    (
      jnp.zeros(k_CBKtH.shape, jnp.float32),
      jnp.zeros(v_CBKtH.shape, jnp.float32),
    ),
    (blocks, first_C, q_CBKrH, d_out_CBKrH, log_total_CBKr, inner_CBKr),
  )
  return (
    d_q_CBKrH,
    d_k_CBKtH.astype(k_CBKtH.dtype),
    d_v_CBKtH.astype(v_CBKtH.dtype),
    None,
    None,
  )


_attention.defvjp(_forward, _backward)
