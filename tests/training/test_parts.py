import pytest

from wideseek_jax.training import parts


def test_roles_that_there_are_not():
  with pytest.raises(ValueError, match=r"'leads' is none of .*'subagent'"):
    parts.LoopConfig(trained_roles='leads')


def test_minibatches_must_divide_the_tasks():
  with pytest.raises(ValueError, match='tasks_per_step 8 does not divide'):
    parts.LoopConfig(tasks_per_step=8, minibatches=3)


@pytest.mark.parametrize(
  'name',
  ['num_steps', 'tasks_per_step', 'checkpoint_every', 'epochs', 'minibatches'],
)
def test_zero_is_refused(name):
  with pytest.raises(ValueError, match=f'loop.{name} must be at least 1'):
    parts.LoopConfig(**{name: 0})
