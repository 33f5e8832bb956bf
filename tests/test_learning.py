"""The claim in small: trained with GRPO, the reward rises."""

import numpy as np
import pytest

import wideseek_jax as ws
from wideseek_jax.training import metrics_log


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_reward_rises(tmp_path):
  config = ws.default_config('tiny')
  config.loop.update(num_steps=12, tasks_per_step=4)
  ws.train(config, tmp_path)
  rewards = [
    row['rollout/reward'] for row in metrics_log.read_metrics(tmp_path)
  ]
  # Each mean is over 4 steps of 32 rollouts whose rewards spread by about 0.4,
  # so its standard error is about 0.04: 0.1 is 2.5 of them.
  assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.1
