import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wideseek_jax.rl import advantages


def test_sample_deviation():
  # mean 1/4; squares 9/16 + 3/16 = 3/4; /3 = 1/4, root 1/2.
  got = advantages.group_advantages([1, 0, 0, 0])
  np.testing.assert_allclose(got, [1.5, -0.5, -0.5, -0.5], atol=1e-5)
  assert got.dtype == np.float32


def test_population_deviation():
  # squares 3/4; /4 = 3/16, root √3/4: (3/4)/(√3/4) = √3, (1/4)/(√3/4) = 1/√3.
  got = advantages.group_advantages([1, 0, 0, 0], ddof=0)
  third = -1 / np.sqrt(3)
  np.testing.assert_allclose(got, [np.sqrt(3), third, third, third], atol=1e-5)


@pytest.mark.parametrize('rewards', [[0.1] * 3, [0.3], [1.15] * 7])
def test_equal_rewards_have_no_advantage(rewards):
  # 0.1 * 3 / 3 is not 0.1 in floating point: the rest must not be blown up.
  assert not advantages.group_advantages(rewards).any()


@given(
  st.lists(st.integers(0, 20), min_size=2, max_size=9),
  st.sampled_from([0, 1]),
)
def test_centred_and_scaled(rewards, ddof):
  got = advantages.group_advantages(np.asarray(rewards) / 20, ddof=ddof)
  assert abs(got.sum()) < 1e-4
  if len(set(rewards)) > 1:
    assert abs(got.std(ddof=ddof) - 1) < 1e-3
    assert list(np.argsort(got, kind='stable')) == list(
      np.argsort(rewards, kind='stable')
    )


@pytest.mark.parametrize(
  ('rewards', 'ddof'), [([], 1), ([[1.0]], 1), ([1.0, np.nan], 1), ([1.0], 2)]
)
def test_refuses(rewards, ddof):
  with pytest.raises(ValueError):
    advantages.group_advantages(rewards, ddof=ddof)
