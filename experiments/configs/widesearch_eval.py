"""WideSeek-R1-4B on WideSearch: the paper's table, one slice of 8 chips.

  python -m experiments.evaluate --workdir=runs/widesearch --samples=4 \\
    --config=experiments/configs/widesearch_eval.py

Weights from the folder WideSeek-R1-4B, tasks from test.jsonl (200, English and
Chinese), a judge for pages and cells (--config.judge.base_url=…).

PLAN

Score to expect (Avg@4 and Max@4, all 200 tasks; arXiv 2602.04634, its judge and
corpus): item F1 40.0 and 51.8, row F1 15.3 and 24.4, success 0.4, Pass@4 1.0.
Nobody has run this yet.
"""

import ml_collections

from experiments.configs import laptop, qwen3_4b_pod

# Weights over 4 chips, two copies; nothing is trained, so the engine has all.
SLICE = 'v6e-8'


def get_config(size: str = SLICE) -> ml_collections.ConfigDict:
  """The config of a slice, or 'runlocal'.

  Raises:
    ValueError: there is no such size.
  """
  if size == 'runlocal':
    return laptop.shrink(get_config())
  if size != SLICE:
    raise ValueError(f'no size {size!r}; there are {SLICE!r} and "runlocal"')
  config = qwen3_4b_pod.get_config('v6e-16').unlock()
  config.policy = 'WideSeek-R1-4B'
  config.mesh.update(fsdp=1, data=2, tensor=4)
  config.data.update(test_file='test.jsonl', num_test=200)
  config.engine.update(num_rows=256, memory_bytes=0)
  # The rollouts of a task are its samples: see --samples.
  config.loop.tasks_per_step = 200
  config.rollout.group_size = 4
  return config.lock()
