"""The engine's programs for TPU chips that are not there."""

import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from wideseek_jax import sharding
from wideseek_jax.engine import ahead, kernels, memory
from wideseek_jax.models import config as model_config

QWEN3_4B = model_config.QWEN3['4b']
SIZES = {
  'dtype': jnp.bfloat16,
  'max_context': 32_768,
  'prefill_len': 512,
  'prefill_rows': 8,
}


@pytest.mark.slow
@pytest.mark.parametrize(
  ('topology', 'gib', 'sequences'),
  # So many of the 64 rows can be 32k long at once.
  [('v5e:2x2', 15.75, 10), ('v5p:2x2x1', 95.74, 74)],
)
def test_qwen3_4b_on_four_chips(topology, gib, sequences, monkeypatch):
  reason = 'needs libtpu: pip install jax[tpu]'
  pytest.importorskip('libtpu', reason=reason)
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  chips = topologies.get_topology_desc(topology, 'tpu')
  mesh = sharding.make_mesh(chips.devices, tensor=4)
  chip = int(gib * 2**30)
  plan = memory.plan(
    QWEN3_4B,
    mesh,
    kernels.RAGGED,
    budget=int(0.9 * chip),
    num_rows=64,
    num_pages=0,
    page_size=64,
    **SIZES,
  )
  assert plan.num_pages // 512 == sequences
  calls = ahead.lower_calls(
    QWEN3_4B, mesh, kernels.RAGGED, plan, chunk_len=32, **SIZES
  )
  for name, call in calls.items():
    compiled = call.compile()
    # A kernel a layer, and none of its own copies of the pages.
    program = compiled.as_text()
    assert program.count('custom_call_target="tpu_custom_call"') == 36
    scratch = ahead.scratch_bytes(compiled)
    assert scratch < plan.pool_bytes / 36, name
    given = compiled.memory_analysis().argument_size_in_bytes
    held = plan.weight_bytes + plan.pool_bytes
    assert held <= given < 1.01 * held
    assert given + scratch < chip
