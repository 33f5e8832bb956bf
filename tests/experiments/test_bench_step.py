import json

import numpy as np
import pytest

from experiments import bench_step
from tests.experiments import helpers
from wideseek_jax import testing, types
from wideseek_jax.models import config as model_config
from wideseek_jax.training import batching


def test_flops_of_a_step_by_hand():
  # Vocabulary 10, width 4, mlp 6, 2 layers, 2 heads, 1 kv head, head size 4.
  config = model_config.ModelConfig(10, 4, 6, 2, 2, 1, 4)
  batch = bench_step.plain_batch(3, 5, 8, 10, per_micro_batch=1)
  # The last token of a row is only a target: 3 rows of 7 places, which see
  # 1 + … + 7 of them; 3 targets a row are trained.
  tokens, pairs, trained = 3 * 7, 3 * 28, 3 * 3
  # Query and out 4·2·4 each, key and value 4·1·4 each, mlp 3·4·6.
  layer = 2 * 32 + 2 * 16 + 72
  expected = 6 * (2 * layer * tokens + 10 * 4 * trained) + 12 * 2 * 8 * pairs
  assert bench_step.step_flops(config, batch) == expected


def test_a_row_for_every_turn():
  whole = testing.trajectory([0, 0, 1, 1, 0, 1])
  rollout = types.Rollout('task', 0, (whole,))
  first, second = bench_step.split_turns(rollout).trajectories
  assert first.token_ids.tolist() == [1, 2, 3, 4]
  assert first.sample_mask.tolist() == [0, 0, 1, 1]
  assert second.token_ids.tolist() == [1, 2, 3, 4, 5, 6]
  assert second.sample_mask.tolist() == [0, 0, 0, 0, 0, 1]


def test_layouts_train_the_same_with_ever_fewer_tokens():
  (group,) = testing.wideseek_groups(group_size=3, shrink=64)
  made = bench_step.layouts(group, 512, 2)
  stats = {name: batching.batch_stats(batch) for name, batch in made.items()}
  assert len({s.trained_tokens for s in stats.values()}) == 1
  for batch in made.values():
    assert batch.weights.sum() == pytest.approx(1, abs=1e-4)
  assert stats['turns'].tokens == stats['agents'].turn_tokens
  assert stats['agents'].tokens == stats['trees'].unshared_tokens
  assert stats['turns'].tokens > stats['agents'].tokens > stats['trees'].tokens


def test_an_unknown_chip_is_refused():
  assert bench_step.chip_peak('NVIDIA H100 80GB HBM3') == 989e12
  with pytest.raises(ValueError, match='add it to CHIP_PEAKS'):
    bench_step.chip_peak('cpu')


@pytest.mark.slow
def test_it_runs(tmp_path):
  out = tmp_path / 'ours.jsonl'
  found = helpers.run(
    'bench_step',
    *('--preset=micro', '--repeats=1', '--budget_s=0', f'--out={out}'),
    *('--shrink=64', '--group=2'),
  )
  assert found.returncode == 0, found.stderr[-2000:]
  rows = {r['case']: r for r in map(json.loads, out.read_text().splitlines())}
  assert rows['train']['units'] == 32 * 256
  assert all(0 < row['of_peak'] < 1 for row in rows.values())
  losses = [r['loss'] for name, r in rows.items() if 'wideseek' in name]
  assert len(losses) == 3
  np.testing.assert_allclose(losses, losses[0], rtol=1e-4)
  assert 'trees: ' in found.stdout
