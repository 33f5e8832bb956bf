import json

import pytest

from experiments import bench_decode
from tests.experiments import helpers
from wideseek_jax.models import config as model_config


@pytest.mark.parametrize('tied', [True, False])
def test_bytes_of_a_step_by_hand(tied):
  # Vocabulary 10, width 4, mlp 6, 2 layers, 2 heads, 1 kv head, head size 4.
  config = model_config.ModelConfig(10, 4, 6, 2, 2, 1, 4, tied=tied)
  # Query and out 4·2·4 each, key and value 4·1·4 each, mlp 3·4·6, norms 2·4
  # and 2·4; then the table of 10·4 (once: as input only rows of it are read)
  # and the final norm.
  numbers = 2 * (2 * 32 + 2 * 16 + 72 + 8 + 8) + 40 + 4
  # Keys and values: 2 layers, 4 numbers each.
  kv = 2 * 2 * 4
  found = bench_decode.step_bytes(config, 2, rows=5, context=7.5)
  assert found == 2 * (numbers + 5 * 7.5 * kv)


@pytest.mark.slow
def test_it_runs():
  found = helpers.run(
    'bench_decode',
    *('--shape=micro', '--rows=1,4'),
    *('--prompt=32', '--new=32', '--page_size=16'),
  )
  assert found.returncode == 0, found.stderr[-2000:]
  rows = [json.loads(line) for line in found.stdout.splitlines()[1:]]
  assert [row['rows'] for row in rows] == [1, 4]
  for row in rows:
    assert row['late_compiles'] == 0
    assert 0 < row['of_bound'] < 1
