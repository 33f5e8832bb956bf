"""Strict JAX for every test: eight simulated devices, no silent rank promotion.

Must run before jax starts its back end, hence at import.
"""

import os

os.environ.setdefault('XLA_FLAGS', '')
os.environ['JAX_PLATFORMS'] = 'cpu'

import jax

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
