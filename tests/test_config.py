import inspect

import pytest

from wideseek_jax import config as config_lib
from wideseek_jax.agents import rollout_config
from wideseek_jax.engine import engine
from wideseek_jax.judge import client
from wideseek_jax.models import lora
from wideseek_jax.rl import advantages
from wideseek_jax.tasks import rewards
from wideseek_jax.training import batching, grpo_step, parts, train_state

# Which node holds whose arguments.
CONSTRUCTORS = {
  'rollout': rollout_config.RolloutConfig,
  'engine': engine.Engine,
  'judge': client.HttpJudge,
  'judge_engine': engine.Engine,
  'reward': rewards.score,
  'lora': lora.Lora,
  'grpo': grpo_step.make_grpo_step,
  'advantage': advantages.group_advantages,
  'optimizer': train_state.make_optimizer,
  'batch': batching.make_batch,
  'loop': parts.LoopConfig,
}


@pytest.mark.parametrize('node', sorted(CONSTRUCTORS))
def test_every_option_is_read_by_somebody(node):
  taken = set(inspect.signature(CONSTRUCTORS[node]).parameters)
  assert set(config_lib.default_config()[node]) <= taken


def test_the_config_is_locked():
  config = config_lib.default_config()
  with pytest.raises(AttributeError):
    config.grpo.clip_hihg = 0.3
  with pytest.raises(AttributeError):
    config.new = 1


def test_unknown_preset():
  with pytest.raises(ValueError, match="no preset 'huge'"):
    config_lib.default_config('huge')


def test_the_schedule_ends_with_the_updates():
  config = config_lib.default_config()
  config.loop.update(num_steps=10, epochs=3, minibatches=2)
  assert config.optimizer.total_steps == 60


def test_limits_fit_each_other():
  config = config_lib.default_config()
  assert config.rollout.max_context <= config.engine.max_context
  # A whole trajectory is one segment of a training row.
  assert config.rollout.max_context <= config.batch.row_len
