"""wideseek_jax: agents that scale in width, trained with GRPO in JAX.

The public names; README.md shows the ten lines that use them. They are looked
up when first asked for, so that importing one leaf module (a tokenizer, the
agents) loads neither JAX nor the rest of the package.
"""

import importlib
from typing import Any

_PLACES = {
  'agents.format': ('format_rollout',),
  'agents.rollout': ('rollout_group', 'rollout_groups'),
  'build': (
    'Policy',
    'build_engine',
    'build_policy',
    'build_tasks',
    'build_tools',
    'build_train_step',
    'init_train_state',
  ),
  'config': ('default_config',),
  'rl.advantages': ('group_advantages',),
  'run': ('evaluate', 'save_policy', 'train'),
  'tasks.rewards': ('score', 'trained_mask'),
  'tokenizer': ('Tokenizer',),
  'training.batching': ('make_batch',),
  'types': ('Page', 'Rollout', 'Task', 'Trajectory'),
}
_MODULES = {name: place for place, names in _PLACES.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'wideseek_jax has no public name {name!r}')
  module = importlib.import_module(f'wideseek_jax.{_MODULES[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  return __all__
