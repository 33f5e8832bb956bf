import numpy as np
import pytest

from wideseek_jax.evaluation import metrics


def test_task_means_average_samples_and_skip_missing_columns():
  rows = [
    {'task_id': 'a', 'item_f1': 0.5},
    {'task_id': 'a', 'item_f1': 1.0},
    {'task_id': 'b', 'item_f1': 0.0},
    {'task_id': 'c', 'exact_match': 1.0},
  ]
  assert metrics.task_means(rows, 'item_f1') == {'a': 0.75, 'b': 0.0}


def test_interval_matches_the_normal_one():
  values = np.random.default_rng(1).normal(0.3, 0.1, size=400)
  found = metrics.estimate(values)
  # 1.96 standard errors of 0.1 / sqrt(400) = 0.005.
  half = 1.96 * values.std(ddof=1) / 20
  assert found.mean == pytest.approx(values.mean())
  assert found.low == pytest.approx(values.mean() - half, abs=1e-3)
  assert found.high == pytest.approx(values.mean() + half, abs=1e-3)
  assert found.count == 400


def test_gain_is_paired():
  before = {str(i): i / 100 for i in range(100)}
  after = {name: value + 0.1 for name, value in before.items()}
  found = metrics.paired_gain(before, after)
  # The tasks differ widely, each gain is 0.1: the interval has no width.
  assert found.mean == pytest.approx(0.1)
  assert found.high - found.low < 1e-12


def test_refusals():
  with pytest.raises(ValueError, match='no tasks'):
    metrics.estimate([])
  with pytest.raises(ValueError, match='same tasks'):
    metrics.paired_gain({'a': 1.0}, {'b': 1.0})
