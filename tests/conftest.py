"""Strict JAX for every test: eight simulated devices, no silent rank promotion.

Must run before jax starts its back end, hence at import. Set
WIDESEEK_TEST_PLATFORM to tpu or cuda to run `-m device` on one.
"""

import os

# Most of the time goes into compiling small programs; LLVM without optimisation
# takes a quarter less of it. What XLA itself does with a program stays.
os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')
os.environ['JAX_PLATFORMS'] = os.environ.get('WIDESEEK_TEST_PLATFORM', 'cpu')

import jax

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
