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
  """Tokens to read, rows × time.

  Attributes:
    tables: the rows' pages, with room for the tokens read.
    tokens_RT: int32; what stands behind a row's last token is ignored.
  """

  tables: attention.RowTables
  tokens_RT: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeRows:
  """Rows that sample; a row with limit 0 is idle.

  Attributes:
    tables: the rows' pages, with room for the chunk and a token more.
    token_R: int32, the token after those that the row holds: its keys are not
      yet computed.
    limit_R: int32, sample at most so many tokens.
    key_R2: uint32, key of the turn.
    index_R: int32, how many tokens of the turn were sampled before.
    temperature_R: float32.
    top_k_R: int32.
    top_p_R: float32.
    stop_RI: int32 token ids that end the turn, padded with -1.
  """

  tables: attention.RowTables
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


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def prefill(
  config: model_config.ModelConfig,
  how: attention.Attention,
  mesh: jax.sharding.Mesh,
  params: transformer.Params,
  pages: attention.Layers,
  rows: PrefillRows,
) -> attention.Layers:
  """Computes keys and values of tokens; nothing is sampled.

  Args:
    config: the model's shape.
    how: how keys lie in the pages and who reads them.
    mesh: where params and pages live.
    params: the policy.
    pages: the pool, donated.
    rows: what to read.

  Returns:
    The pool.
  """
  _traces[0] += 1
  how = attention.on_mesh(how, mesh, config)
  tables = rows.tables
  T = rows.tokens_RT.shape[1]
  positions_RT = tables.start_R[:, None] + jnp.arange(T)[None, :]
  _, cache = transformer.apply(
    config,
    params,
    rows.tokens_RT,
    positions_RT,
    attention.model_attend(how, positions_RT, tables),
    how.open(pages, tables),
    _constrain(mesh),
  )
  return how.close(pages, cache, tables)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=5)
def decode_chunk(
  config: model_config.ModelConfig,
  how: attention.Attention,
  mesh: jax.sharding.Mesh,
  chunk_len: int,
  params: transformer.Params,
  pages: attention.Layers,
  rows: DecodeRows,
) -> tuple[attention.Layers, Sampled]:
  """Samples up to chunk_len tokens a row; ends early when every row has ended.

  Args:
    config: the model's shape.
    how: how keys lie in the pages and who reads them.
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
  how = attention.on_mesh(how, mesh, config)
  tables = rows.tables
  R = rows.token_R.shape[0]

  def unfinished(state):
    step, active_R = state[0], state[4]
    return (step < chunk_len) & jnp.any(active_R)

  def sample_one(state):
    step, token_R, count_R, stopped_R, active_R, sampled, cache = state
    positions_R1 = (tables.start_R + count_R)[:, None]
    hidden_R1D, cache = transformer.apply(
      config,
      params,
      token_R[:, None],
      positions_R1,
      attention.model_attend(how, positions_R1, tables),
      cache,
      constrain,
    )
    logits_RV = transformer.unembed(config, params, hidden_R1D[:, 0])
    # Each device has a part of the vocabulary, then samples some rows from all
    # of it: less to send than logits of all rows, and the sums of one device.
    # Asked for the latter only, XLA would gather the embedding.
    logits_RV = constrain(logits_RV, ('batch', 'vocab'))
    logits_RV = constrain(logits_RV, ('samples', None))
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
    how.open(pages, tables),
  )
  state = jax.lax.while_loop(unfinished, sample_one, state)
  _, _, count_R, stopped_R, _, sampled, cache = state
  pages = how.close(pages, cache, tables)
  return pages, Sampled(*sampled, count_R, stopped_R)
