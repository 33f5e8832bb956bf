"""Compiles the engine for TPU chips that are not there; shows their memory.

  python -m experiments.compile_engine --topology=v5e:2x2

Needs libtpu (pip install 'wideseek_jax[tpu]') but no TPU. As many pages as fit
the chips are planned; then both calls are compiled, and what the compiler
reserves stands beside the plan.
"""

import importlib.util
import os
import time

from absl import flags

# Before jax starts: the CPU compiles, and nobody looks for a TPU's host.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TPU_SKIP_MDS_QUERY'] = '1'

import jax.numpy as jnp
from jax.experimental import topologies

from experiments import flags as experiment_flags
from wideseek_jax import sharding
from wideseek_jax.engine import ahead, kernels, memory
from wideseek_jax.models import config as model_config

# GiB of a chip that programs may use.
CHIPS = {'v4': 30.75, 'v5e': 15.75, 'v5p': 95.74, 'v6e': 31.25}

_TOPOLOGY = flags.DEFINE_string('topology', 'v5e:2x2', 'Chips and their grid.')
_MODEL = flags.DEFINE_enum(
  'model', '4b', list(model_config.QWEN3), 'Which Qwen3.'
)
_MESH = flags.DEFINE_list('mesh', ['tensor=-1'], 'Sizes of its axes.')
_ROWS = flags.DEFINE_integer('num_rows', 64, 'Rows that sample.')
_PAGE = flags.DEFINE_integer('page_size', 64, 'Tokens a page.')
_CONTEXT = flags.DEFINE_integer('max_context', 32768, 'Tokens a row.')


def main() -> None:
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError("libtpu is missing: pip install 'wideseek_jax[tpu]'")
  config = model_config.QWEN3[_MODEL.value]
  chips = topologies.get_topology_desc(_TOPOLOGY.value, 'tpu').devices
  sizes = dict(axis.split('=') for axis in _MESH.value)
  sizes = {axis: int(size) for axis, size in sizes.items()}
  mesh = sharding.make_mesh(chips, **sizes)
  how = kernels.choose('auto', 'tpu', config.head_dim, _PAGE.value)
  sizes = {'dtype': jnp.bfloat16, 'max_context': _CONTEXT.value}
  sizes |= {'prefill_len': 512, 'prefill_rows': 8}
  chip = int(CHIPS[_TOPOLOGY.value.split(':')[0]] * 2**30)
  plan = memory.plan(
    config,
    mesh,
    how,
    budget=int(chip * (1 - memory.HEADROOM)),
    num_rows=_ROWS.value,
    num_pages=0,
    page_size=_PAGE.value,
    **sizes,
  )
  print(f'Qwen3-{_MODEL.value} on {_TOPOLOGY.value}, {how.name}: {plan}')
  calls = ahead.lower_calls(config, mesh, how, plan, chunk_len=32, **sizes)
  print('GB a chip   weights    pages  scratch    total       of')
  for name, call in calls.items():
    start = time.monotonic()
    scratch = ahead.scratch_bytes(call.compile())
    held = (plan.weight_bytes, plan.pool_bytes, scratch)
    figures = ' '.join(f'{x / 1e9:8.2f}' for x in (*held, sum(held), chip))
    took = f'compiled in {time.monotonic() - start:.0f} s'
    print(f'{name:10} {figures}   {took}', flush=True)


if __name__ == '__main__':
  experiment_flags.run(main, config_file=None)
