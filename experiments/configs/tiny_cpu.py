"""The shipped one-million-parameter policy on real facts.

Hardware: 2 CPU cores, 4 GB of memory. Time: about 10 minutes.
Score to expect: see "Results" in README.md.
"""

import ml_collections

from wideseek_jax import config


def get_config() -> ml_collections.ConfigDict:
  return config.default_config('tiny')
