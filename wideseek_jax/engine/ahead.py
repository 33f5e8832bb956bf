"""Compiles the engine's calls for devices that need not be there.

In: a model's shape, the engine's sizes and a mesh, of real devices or of a
topology. Out: the calls ready to compile, and what they hold on each device.
Weights and pages are shapes only; nothing is allocated.
"""

import jax
import jax.numpy as jnp

from wideseek_jax import sharding
from wideseek_jax.engine import attention, decode, memory, sequences
from wideseek_jax.models import config as model_config


def lower_calls(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  how: attention.Attention,
  plan: memory.Plan,
  *,
  dtype: jnp.dtype,
  max_context: int,
  chunk_len: int,
  prefill_len: int,
  prefill_rows: int,
) -> dict[str, jax.stages.Lowered]:
  """The engine's two calls at their largest, 'decode' and 'prefill'.

  Args:
    config: the model's shape.
    mesh: where the calls would run.
    how: who reads the pages.
    plan: rows and pages.
    dtype: as in `engine.Engine`, and so are those that follow.
    max_context: every row has room for so many tokens.
    chunk_len: tokens sampled a row.
    prefill_len: tokens read a row.
    prefill_rows: rows that read, a multiple of the data shards.
  """
  params = memory.param_shapes(config, mesh, dtype)
  pages = attention.page_shapes(
    how, mesh, config, plan.num_pages, plan.page_size, dtype
  )

  spec = sharding.full_spec(('batch',), sharding.DECODE_TABLE)
  by_row = jax.sharding.NamedSharding(mesh, spec)

  def shapes(rows):
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_row), rows
    )

  sampling = sequences.decode_rows(
    [], plan.num_rows, chunk_len, max_context, plan.page_size
  )
  reading = sequences.prefill_rows(
    [], prefill_rows, prefill_len, max_context, plan.page_size
  )
  return {
    'decode': decode.decode_chunk.lower(
      config, how, mesh, chunk_len, params, pages, shapes(sampling)
    ),
    'prefill': decode.prefill.lower(
      config, how, mesh, params, pages, shapes(reading)
    ),
  }


def scratch_bytes(compiled: jax.stages.Compiled) -> int:
  """What a compiled call needs on each device beside what it is given."""
  found = compiled.memory_analysis()
  # The pages come back in the place of those given: no output of their own.
  new = found.output_size_in_bytes - found.alias_size_in_bytes
  return found.temp_size_in_bytes + new
