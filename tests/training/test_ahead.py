"""The training forward and backward for TPU chips that are not there."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer
from wideseek_jax.training import batching, micro_batches

CONFIG = model_config.ModelConfig(
  vocab_size=2048,
  embed_dim=512,
  mlp_dim=1024,
  num_layers=4,
  num_heads=8,
  num_kv_heads=4,
  head_dim=128,
)


@pytest.mark.slow
def test_the_kernel_is_in_the_program(monkeypatch):
  reason = 'needs libtpu: pip install jax[tpu]'
  pytest.importorskip('libtpu', reason=reason)
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  chips = topologies.get_topology_desc('v5e:2x2', 'tpu')
  mesh = sharding.make_mesh(chips.devices, fsdp=2, context=2)
  table = sharding.TRAIN_TABLE
  score = micro_batches.make_scorer(
    CONFIG,
    mesh,
    logprob_chunk=256,
    compute_dtype=jnp.bfloat16,
    remat='block',
  )

  def loss(params, fixed, micro_batch):
    del fixed
    scores = score(params, micro_batch)
    return jnp.sum(scores.logprobs * micro_batch.weights), {}

  def placed(leaf, axes):
    where = sharding.named_sharding(mesh, leaf.shape, axes, table)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  params = jax.tree.map(
    placed, transformer.param_shapes(CONFIG), transformer.logical_axes(CONFIG)
  )
  batch = micro_batches.batch_shapes(
    batching.make_sft_batch([], row_len=2048, rows_per_micro_batch=4), mesh
  )
  step = jax.jit(
    functools.partial(micro_batches.accumulate, loss),
    out_shardings=(jax.tree.map(lambda x: x.sharding, params), None),
  )
  program = step.lower(params, None, batch).compile().as_text()
  # One loop over layers: forward, forward again, and the gradients of queries
  # and of keys.
  assert program.count('custom_call_target="tpu_custom_call"') == 4
