"""The released WideSeek-R1-4B on WideSearch and on short questions: 8 chips.

  python -m experiments.evaluate --workdir=runs/widesearch --samples=4 \\
    --config=experiments/configs/wideseek_r1_4b.py \\
    --benchmark=widesearch --data=test.jsonl
  python -m experiments.evaluate --workdir=runs/qa --samples=4 \\
    --config=experiments/configs/wideseek_r1_4b.py \\
    --benchmark=qa --data=FOLDER-OF-THE-SETS

Weights from the folder WideSeek-R1-4B; a judge for pages, cells and answers
(--config.judge.base_url=…).

Hardware: one host of 8 v6e chips. `plan_pod --nocompile --notrain
--topology=v6e:2x4` on its plausible rollout of 115,500 tokens: 30.0 GB a chip
of 33.6, nothing counted for what calls need meanwhile; 800 rollouts of
WideSearch in 0.4 hours at best, 0.9 at 40 % of that speed. The authors' took 7
hours on 8 GPUs and 8 for the judge.

Score to expect (arXiv 2602.04634, with its judge and corpus). WideSearch, 200
tasks, Avg@4 and Max@4: item F1 40.0 and 51.8, row F1 15.3 and 24.4, success
0.4, Pass@4 1.0. Questions: average 59.0; NQ 56.1, TriviaQA 78.5, PopQA 48.5,
2Wiki 75.0, HotpotQA 64.2, Bamboogle 61.8, MuSiQue 28.9. Nobody has run it yet.
"""

import ml_collections

from experiments.configs import laptop, qwen3_4b_pod


def get_config(size: str = 'v6e-8') -> ml_collections.ConfigDict:
  """The config of one host of 8 chips, or 'runlocal'.

  Raises:
    ValueError: there is no such size.
  """
  if size == 'runlocal':
    return laptop.shrink(get_config())
  if size != 'v6e-8':
    raise ValueError(f"no size {size!r}; there are 'v6e-8' and 'runlocal'")
  config = qwen3_4b_pod.get_config('v6e-16').unlock()
  config.policy = 'WideSeek-R1-4B'
  # Weights over 4 chips, twice. Nothing is trained: the engine has all memory.
  config.mesh.update(fsdp=1, data=2)
  config.engine.memory_bytes = 0
  # What plan_pod counts as a step: all of WideSearch, four times.
  config.loop.tasks_per_step = 200
  config.rollout.group_size = 4
  return config.lock()
