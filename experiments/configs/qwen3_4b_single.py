"""Qwen3-4B as a single agent, trained like the lead and its subagents.

  --config=experiments/configs/qwen3_4b_single.py:v6e-16

The baseline SingleSeek-R1-4B of the paper: one agent of up to 50 turns searches
by itself; data, objective and limits are those of qwen3_4b_pod.py, memory too.

Hardware: 16 v6e chips, or another slice of qwen3_4b_pod.py. A plausible rollout
of 25,900 tokens, `plan_pod --nocompile --topology=v6e:4x4 --subagents=0
--lead_turns=16 --lead_turn=400`: 20.2 GB a chip of 33.6 beside an update, which
needs 10.0 more (compiled for qwen3_4b_pod.py); a step 606 s of rollouts + 123 s
of update, 156 steps in 1.3 days at best, 3.3 at 40 % of that speed.

Score to expect: WideSearch item F1 28.1, row F1 6.5, success 0.3 (Avg@4 over
200 tasks, arXiv 2602.04634, from 20.1, 3.0 and 0.0 before), with the authors'
judge and corpus. Nobody has run this yet.
"""

import ml_collections

from experiments.configs import laptop, qwen3_4b_pod


def get_config(slice_name: str = 'v6e-16') -> ml_collections.ConfigDict:
  """The config of a slice (see qwen3_4b_pod.py), or 'runlocal'.

  Raises:
    ValueError: there is no such slice.
  """
  if slice_name == 'runlocal':
    return laptop.shrink(get_config())
  config = qwen3_4b_pod.get_config(slice_name).unlock()
  config.rollout.workflow = 'single'
  # An agent's 32,000 tokens fill a row, and a rollout is one agent.
  rows = config.batch.rows_per_micro_batch
  config.batch.min_micro_batches = 1024 // rows
  return config.lock()
