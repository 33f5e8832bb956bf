"""Qwen3-0.6B on one host: the method in a day, without services.

  --config=experiments/configs/qwen3_0p6b.py          8 chips, v5e-8
  --config=experiments/configs/qwen3_0p6b.py:runlocal a laptop

Tasks of the facts, wide and deep, which need no judge and no server; the
weights are read from the folder Qwen3-0.6B. The limits are halved: contexts of
16,000 tokens, 16 tasks x 8 rollouts a step.

Hardware: one host of 8 v5e chips. `plan_pod --nocompile --topology=v5e:2x4` on
its plausible rollout of 115,500 tokens: 9.9 GB a chip of 16.9 beside what an
update needs meanwhile; a step 326 s of rollouts + 87 s of update, 50 steps in
5.7 hours at best, 14 at 40 % of that speed. The facts' rollouts are shorter.

Score to expect: none is published for this size. The facts' held-out tasks are
scored every 10 steps (validation); rising is what to look for.
"""

import ml_collections

from experiments.configs import accelerators, laptop
from wideseek_jax import config as config_lib


def get_config(size: str = 'v5e-8') -> ml_collections.ConfigDict:
  """The config of one host, or 'runlocal'.

  Raises:
    ValueError: there is no such size.
  """
  if size == 'runlocal':
    return laptop.shrink(get_config())
  if size != 'v5e-8':
    raise ValueError(f"no size {size!r}; there are 'v5e-8' and 'runlocal'")
  config = config_lib.default_config('tiny')
  config.policy = 'Qwen3-0.6B'
  config.mesh.fsdp = 8
  config.data.update(
    kinds=('wide', 'deep'), max_rows=20, max_columns=5, num_train=4000
  )
  accelerators.use_accelerators(config)
  config.rollout.update(
    max_context=16_000, max_turn_tokens=4000, page_chars=6000
  )
  config.engine.update(num_rows=128, memory_bytes=int(9e9), max_context=16_384)
  # A row a chip; 128 rollouts of the plausible sizes fill about 850 rows.
  config.batch.update(
    row_len=16_384, rows_per_micro_batch=8, min_micro_batches=128
  )
  config.loop.update(
    num_steps=50, tasks_per_step=16, eval_every=10, checkpoint_every=5
  )
  return config.lock()
