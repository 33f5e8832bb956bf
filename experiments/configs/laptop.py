"""Any config at a laptop's size: what `:runlocal` gives.

In: a config made for other hardware. Out: one that does the same with the
shipped policy on a few tasks of the facts, in a minute or two on two cores.
"""

import ml_collections

from wideseek_jax import config as config_lib

# What a run is for, whatever its size; all else is the tiny preset's.
_KEPT = {
  'advantage': ('estimator', 'level', 'ddof', 'eps'),
  'batch': ('aggregation', 'share_prefixes'),
  'grpo': (
    *('clip_low', 'clip_high', 'dual_clip', 'kl_coef', 'entropy_coef'),
    *('log_ratio_clamp', 'ratio_level', 'tis_level', 'tis_cap', 'max_ratio'),
    'remat',
  ),
  'loop': ('epochs', 'minibatches', 'rescore'),
  'rollout': ('workflow', 'lead_searches', 'check_urls'),
}


def shrink(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The same objective and workflow at the tiny preset's sizes, two steps."""
  small = config_lib.default_config('tiny')
  for node, names in _KEPT.items():
    small[node].update({name: config[node][name] for name in names})
  take_few(small)
  return small


def take_few(config: ml_collections.ConfigDict) -> None:
  """Leaves two steps on a few tasks: shows that it runs, not what it gains."""
  config.data.update(num_train=8, num_validation=2, num_test=4)
  config.loop.update(num_steps=2, tasks_per_step=2, checkpoint_every=2)
  config.rollout.group_size = 4
  config.engine.num_rows = 4  # fewer shapes to compile than of 32
