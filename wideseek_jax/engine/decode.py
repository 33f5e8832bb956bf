"""The two device calls of the engine: read tokens, and sample a chunk.

Host tables come in as small arrays of fixed shape, the pages are donated and
come back changed. Both calls know nothing of sequences or queues: a row is a
page table, a length and how to sample. Each shape of the inputs compiles once;
`num_traces` counts.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.engine import attention, sampling
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

_traces = [0]


def num_traces() -> int:
  """How often this process has traced (hence compiled) a device call."""
  return _traces[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PrefillRows:
  """Tokens to read, rows × time; idle rows point at page 0.

  Attributes:
    read_RN: int32 ids of the pages that hold each row's earlier tokens.
    write_RW: int32 ids of the pages touched, 0 (scratch) beyond the row's own.
    start_R: int32, how many tokens the row holds already.
    tokens_RT: int32; what stands behind a row's last token is ignored.
  """

  read_RN: Any
  write_RW: Any
  start_R: Any
  tokens_RT: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeRows:
  """Rows that sample; a row with limit 0 is idle.

  Attributes:
    read_RN: int32 ids of the pages of each row, with room for the chunk.
    write_RW: int32 ids of the pages touched, 0 (scratch) beyond the row's own.
    length_R: int32, tokens whose keys the row holds.
    token_R: int32, the token after them, whose keys are not yet computed.
    limit_R: int32, sample at most so many tokens.
    key_R2: uint32, key of the turn.
    index_R: int32, how many tokens of the turn were sampled before.
    temperature_R: float32.
    top_k_R: int32.
    top_p_R: float32.
    stop_RI: int32 token ids that end the turn, padded with -1.
  """

  read_RN: Any
  write_RW: Any
  length_R: Any
  token_R: Any
  limit_R: Any
  key_R2: Any
  index_R: Any
  temperature_R: Any
  top_k_R: Any
  top_p_R: Any
  stop_RI: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sampled:
  """What a chunk sampled.

  Attributes:
    token_RC: int32 [R, chunk_len], valid up to the row's count.
    logprob_RC: float32 [R, chunk_len].
    count_R: int32, tokens sampled.
    stopped_R: bool, the last of them is a stop token.
  """

  token_RC: Any
  logprob_RC: Any
  count_R: Any
  stopped_R: Any


def _constrain(mesh: jax.sharding.Mesh):
  return functools.partial(
    sharding.constrain, mesh=mesh, table=sharding.DECODE_TABLE
  )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def prefill(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  params: transformer.Params,
  pages: attention.Pages,
  rows: PrefillRows,
) -> attention.Pages:
  """Computes keys and values of tokens; nothing is sampled.

  Args:
    config: the model's shape.
    mesh: where params and pages live.
    params: the policy.
    pages: the pool, donated.
    rows: what to read.

  Returns:
    The pool.
  """
  _traces[0] += 1
  constrain = _constrain(mesh)
  page = pages[0][0].shape[1]
  R, T = rows.tokens_RT.shape
  # Room for the new tokens behind the longest row that fits read_RN.
  room_RN = jnp.zeros((R, T // page), jnp.int32)
  table_RN = jnp.concatenate([rows.read_RN, room_RN], axis=1)
  cache = attention.gather(pages, table_RN, constrain)
  positions_RT = rows.start_R[:, None] + jnp.arange(T)[None, :]
  attend = attention.cached_attend(positions_RT)
  _, cache = transformer.apply(
    config, params, rows.tokens_RT, positions_RT, attend, cache, constrain
  )
  first_R = rows.start_R // page
  return attention.scatter(pages, cache, first_R, rows.write_RW, constrain)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def decode_chunk(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  chunk_len: int,
  params: transformer.Params,
  pages: attention.Pages,
  rows: DecodeRows,
) -> tuple[attention.Pages, Sampled]:
  """Samples up to chunk_len tokens a row; ends early when every row has ended.

  Args:
    config: the model's shape.
    mesh: where params and pages live.
    chunk_len: most tokens a row.
    params: the policy.
    pages: the pool, donated.
    rows: who samples, and how.

  Returns:
    (the pool, what was sampled). The last token of a row is left as the token
    whose keys are not yet computed.
  """
  _traces[0] += 1
  constrain = _constrain(mesh)
  page = pages[0][0].shape[1]
  R = rows.token_R.shape[0]

  def unfinished(state):
    step, active_R = state[0], state[4]
    return (step < chunk_len) & jnp.any(active_R)

  def sample_one(state):
    step, token_R, count_R, stopped_R, active_R, sampled, cache = state
    positions_R1 = (rows.length_R + count_R)[:, None]
    attend = attention.cached_attend(positions_R1)
    hidden_R1D, cache = transformer.apply(
      config, params, token_R[:, None], positions_R1, attend, cache, constrain
    )
    logits_RV = transformer.unembed(config, params, hidden_R1D[:, 0])
    new_R, logprob_R = sampling.sample(
      logits_RV,
      rows.temperature_R,
      rows.top_k_R,
      rows.top_p_R,
      sampling.token_uniforms(rows.key_R2, rows.index_R + count_R),
    )
    token_RC, logprob_RC = sampled
    write = jax.lax.dynamic_update_slice
    sampled = (
      write(token_RC, new_R[:, None], (0, step)),
      write(logprob_RC, logprob_R[:, None], (0, step)),
    )
    stop_R = jnp.any(new_R[:, None] == rows.stop_RI, axis=1) & active_R
    # A row that has ended stays where it is: it computes the same keys of its
    # last token again, beyond the length that anybody reads.
    token_R = jnp.where(active_R, new_R, token_R)
    count_R = count_R + active_R
    active_R = active_R & ~stop_R & (count_R < rows.limit_R)
    stopped_R = stopped_R | stop_R
    return step + 1, token_R, count_R, stopped_R, active_R, sampled, cache

  state = (
    0,
    rows.token_R,
    jnp.zeros(R, jnp.int32),
    jnp.zeros(R, bool),
    rows.limit_R > 0,
    (
      jnp.zeros((R, chunk_len), jnp.int32),
      jnp.zeros((R, chunk_len), jnp.float32),
    ),
    attention.gather(pages, rows.read_RN, constrain),
  )
  state = jax.lax.while_loop(unfinished, sample_one, state)
  _, _, count_R, stopped_R, _, sampled, cache = state
  first_R = rows.length_R // page
  pages = attention.scatter(pages, cache, first_R, rows.write_RW, constrain)
  return pages, Sampled(*sampled, count_R, stopped_R)
