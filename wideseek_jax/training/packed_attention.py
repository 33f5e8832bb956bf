"""Attention of packed rows in blocks, for training.

In: queries, keys and values of whole rows and up to where each token is seen:
the one number that tells segments apart, and branches of a tree of segments.
Out: what `models.layers.masked_attention` gives with that mask, without its
[T, T] scores: blocks of keys that no query of a block can see (later ones,
other segments, branches that have ended) are never computed, and the backward
pass computes scores again instead of reading them (arXiv 2205.14135, here in
plain jnp). Memory is linear in T.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax.models import layers

# Largest magnitude that stands for "not seen": differences of it stay finite.
_UNSEEN = -1e30


def packed_attend(
  ends_BS: jax.Array, *, block: int, first: jax.Array | int = 0
) -> layers.Attend:
  """Attention of rows in which a query i sees the keys j <= i < ends[j].

  Args:
    ends_BS: int32, see `batching.Batch`. A segment that shares nothing has its
      end for all its tokens; padding has 0 and sees and is seen by nothing.
    block: tokens of a block; cut to S.
    first: place in the row of the first query, int32 []. There may be fewer
      queries than keys.

  Returns:
    An attend function for `transformer.apply`; the cache passes through.
  """
  B, S = ends_BS.shape
  block = min(block, S)
  ends_BCt = _padded(ends_BS, block).reshape(B, -1, block)
  # Up to where any row sees anything of each block of keys.
  last_C = ends_BCt.max(axis=(0, 2))
  ends_CBt = ends_BCt.swapaxes(0, 1)

  def attend(layer, q_BTNH, k_BSKH, v_BSKH, cache):
    del layer
    T, N, H = q_BTNH.shape[1:]
    K = k_BSKH.shape[2]
    q_CBKrH = _to_heads(_padded(q_BTNH, block) / math.sqrt(H), K, block)
    k_CBKtH = _to_heads(_padded(k_BSKH, block), K, block)
    v_CBKtH = _to_heads(_padded(v_BSKH, block), K, block)
    starts_C = first + block * jnp.arange(len(q_CBKrH))
    out_CBKrH = _attention(
      q_CBKrH, k_CBKtH, v_CBKtH, ends_CBt, last_C, starts_C
    )
    out_CBKGtH = out_CBKrH.reshape(-1, B, K, N // K, block, H)
    out_BCtKGH = out_CBKGtH.transpose(1, 0, 4, 2, 3, 5)
    return out_BCtKGH.reshape(B, -1, N, H)[:, :T], cache

  return attend


def _padded(x: jax.Array, block: int) -> jax.Array:
  """Zeros behind the second axis, up to whole blocks."""
  pad = ((0, 0), (0, -x.shape[1] % block), *((0, 0),) * (x.ndim - 2))
  return jnp.pad(x, pad)


def _to_heads(x_BTNH: jax.Array, K: int, block: int) -> jax.Array:
  """[B, T, N, H] → [C, B, K, r, H]: r runs over a kv head's queries, then t."""
  B, _, N, H = x_BTNH.shape
  x_BCtKGH = x_BTNH.reshape(B, -1, block, K, N // K, H)
  x_CBKGtH = x_BCtKGH.transpose(1, 0, 3, 4, 2, 5)
  return x_CBKGtH.reshape(-1, B, K, N // K * block, H)


def _needed(last_C: jax.Array, start: jax.Array, block: int):
  """The blocks of keys that some query from `start` on sees, and their number.

  They come in order, but need not be neighbours: a branch sees its trunk and
  not the branches between them.
  """
  places_C = block * jnp.arange(len(last_C))
  needed_C = (last_C > start) & (places_C < start + block)
  return jnp.nonzero(needed_C, size=len(last_C))[0], jnp.sum(needed_C)


def _seen(ends_CBt, start, key_block, shape_BKrs):
  """bool [B, 1, 1, t, s] and the 5-D shape of scores: who sees whom."""
  B, K, r, s = shape_BKrs
  index = jnp.arange(s)
  q_t, k_s = start + index, key_block * s + index
  open_Bts = q_t[None, :, None] < ends_CBt[key_block][:, None, :]
  causal_ts = k_s[None, :] <= q_t[:, None]
  mask_Bts = open_Bts & causal_ts[None]
  return mask_Bts[:, None, None], (B, K, r // s, s, s)


@jax.custom_vjp
def _attention(q_CBKrH, k_CBKtH, v_CBKtH, ends_CBt, last_C, starts_C):
  return _forward(q_CBKrH, k_CBKtH, v_CBKtH, ends_CBt, last_C, starts_C)[0]


def _forward(q_CBKrH, k_CBKtH, v_CBKtH, ends_CBt, last_C, starts_C):
  """Softmax over one block of keys after the other, with a running top."""

  def query_block(inputs):
    start, q_BKrH = inputs
    needed_C, count = _needed(last_C, start, ends_CBt.shape[-1])

    def key_block(n, carry):
      j = needed_C[n]
      top_BKr, total_BKr, out_BKrH = carry
      scores = jnp.einsum(
        'BKrH,BKsH->BKrs',
        q_BKrH,
        k_CBKtH[j],
        preferred_element_type=jnp.float32,
      )
      mask, shape = _seen(ends_CBt, start, j, scores.shape)
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
      0,
      count,
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

  out_CBKrH, log_total_CBKr = jax.lax.map(query_block, (starts_C, q_CBKrH))
  residuals = (
    q_CBKrH,
    k_CBKtH,
    v_CBKtH,
    ends_CBt,
    last_C,
    starts_C,
    out_CBKrH,
    log_total_CBKr,
  )
  return out_CBKrH, residuals


def _backward(residuals: tuple[Any, ...], d_out_CBKrH: jax.Array):
  q_CBKrH, k_CBKtH, v_CBKtH, ends_CBt, last_C, starts_C, out, log_total_CBKr = (
    residuals
  )
  # Σ_s weight · d_weight of every query, from what it put out.
  inner_CBKr = jnp.sum(
    d_out_CBKrH.astype(jnp.float32) * out.astype(jnp.float32), axis=-1
  )

  def query_block(carry, inputs):
    start, q_BKrH, d_out_BKrH, log_total_BKr, inner_BKr = inputs
    needed_C, count = _needed(last_C, start, ends_CBt.shape[-1])

    def key_block(n, carry):
      j = needed_C[n]
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
      mask, shape = _seen(ends_CBt, start, j, scores.shape)
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
      0, count, key_block, (d_q_BKrH, d_k_CBKtH, d_v_CBKtH)
    )
    return (d_k_CBKtH, d_v_CBKtH), d_q_BKrH.astype(q_BKrH.dtype)

  (d_k_CBKtH, d_v_CBKtH), d_q_CBKrH = jax.lax.scan(
    query_block,
    (
      jnp.zeros(k_CBKtH.shape, jnp.float32),
      jnp.zeros(v_CBKtH.shape, jnp.float32),
    ),
    (starts_C, q_CBKrH, d_out_CBKrH, log_total_CBKr, inner_CBKr),
  )
  return (
    d_q_CBKrH,
    d_k_CBKtH.astype(k_CBKtH.dtype),
    d_v_CBKtH.astype(v_CBKtH.dtype),
    None,
    None,
    None,
  )


_attention.defvjp(_forward, _backward)
