"""The recipe of the shipped policy `packaged:tiny`.

Hardware: 2 CPU cores. Time: about an hour. It is made once.
Score to expect: see "The shipped policy" in README.md.
"""

import math

import ml_collections

from wideseek_jax import config as config_lib


def get_config() -> ml_collections.ConfigDict:
  tiny = config_lib.default_config('tiny')
  config = ml_collections.ConfigDict()
  config.seed = 0
  # One simulated device a core: XLA runs small operations on one thread.
  config.mesh = tiny.mesh.copy_and_resolve_references()
  config.mesh.data = 2
  # Arguments of models.config.ModelConfig.
  config.model = ml_collections.ConfigDict(
    {
      'vocab_size': 2048,
      'embed_dim': 128,
      'mlp_dim': 384,
      'num_layers': 4,
      'num_heads': 4,
      'num_kv_heads': 2,
      'head_dim': 32,
      'max_context': 2048,
    }
  )
  # A policy's folder or 'packaged:NAME'; '' trains a tokenizer on the facts'
  # pages and so many tasks' demonstrations, which have the chat format.
  config.tokenizer = 'packaged:tiny'
  config.tokenizer_tasks = 200
  # Arguments of training.warm_start.demonstration_set.
  config.demonstrations = ml_collections.ConfigDict(
    {
      'num_real': 1600,
      'num_worlds': 80,
      'num_per_world': 30,
      'deep_share': 0.12,
      'types_per_world': 8,
      'entities_per_type': 60,
    }
  )
  config.wide = ml_collections.ConfigDict(
    {
      name: tiny.data[name]
      for name in ('min_rows', 'max_rows', 'min_columns', 'max_columns')
    }
  )
  config.rollout = tiny.rollout.copy_and_resolve_references()
  # Five lessons: random strings to copy, strings that end alike,
  # demonstrations (the format), last turns of flawless ones (looking up),
  # demonstrations again. Each has most updates, an accuracy that is enough,
  # trajectories an update, rows and an optimiser of its own.
  rows = {'row_len': 1024, 'rows_per_micro_batch': 2, 'min_micro_batches': 16}
  short = {'row_len': 256, 'rows_per_micro_batch': 8, 'min_micro_batches': 4}
  adam = {'b1': 0.9, 'b2': 0.98, 'eps': 1e-8, 'decay': 'cosine'}
  config.lessons = ml_collections.ConfigDict(
    {
      'copy': {
        # How long copying stays on its plateaus is chance: the second, about
        # 0.92, ends when values are found by page and attribute. All that comes
        # after is learned several times faster by a policy that has it.
        'num_steps': 4000,
        'enough': 0.97,
        'size': 64,
        'batch': short,
        'optimizer': adam
        | {'learning_rate': 2e-3, 'warmup_steps': 100, 'decay': 'constant'},
      },
      'alike': {
        'num_steps': 600,
        'enough': math.inf,
        'size': 64,
        'batch': short,
        'optimizer': adam
        | {'learning_rate': 1.5e-3, 'warmup_steps': 20, 'total_steps': 600},
      },
      'format': {
        'num_steps': 300,
        'enough': math.inf,
        'size': 16,
        'batch': rows,
        'optimizer': adam
        | {'learning_rate': 1.5e-3, 'warmup_steps': 50, 'total_steps': 600},
      },
      'look_up': {
        'num_steps': 600,
        'enough': math.inf,
        'size': 40,
        'batch': rows,
        'optimizer': adam
        | {'learning_rate': 1.5e-3, 'warmup_steps': 20, 'total_steps': 800},
      },
      'flaws': {
        'num_steps': 400,
        'enough': math.inf,
        'size': 16,
        'batch': rows,
        'optimizer': adam
        | {'learning_rate': 1e-3, 'warmup_steps': 10, 'total_steps': 420},
      },
    }
  )
  return config.lock()
