import numpy as np
import pytest
from hypothesis import given, settings
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


@settings(deadline=None)
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


def test_leave_one_out():
  # 1 - 0, and three times 0 - 1/3; nothing is divided by a deviation.
  got = advantages.group_advantages([1, 0, 0, 0], estimator='rloo')
  np.testing.assert_allclose(got, [1, -1 / 3, -1 / 3, -1 / 3], rtol=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9))
def test_leave_one_out_is_the_centred_reward_stretched(rewards):
  # R_i - (Σ - R_i)/(G-1) = G/(G-1) · (R_i - mean).
  got = advantages.group_advantages(rewards, estimator='rloo')
  size = len(rewards)
  expected = (np.asarray(rewards) - np.mean(rewards)) * size / (size - 1)
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_turn_counts_once():
  # Turns earn 1, 0, 0, 0, as the rollouts of test_sample_deviation do.
  got = advantages.group_advantages([1, 0], [1, 3], level='turn')
  np.testing.assert_allclose(got, [1.5, -0.5], atol=1e-5)
  # Others' turns: (3·0 + 2·1/2)/5 = 1/5, (1 + 2·1/2)/3 = 2/3, 1/4.
  got = advantages.group_advantages(
    [1, 0, 0.5], [1, 3, 2], level='turn', estimator='rloo'
  )
  np.testing.assert_allclose(got, [4 / 5, -2 / 3, 1 / 4], rtol=1e-6)


@settings(deadline=None)
@given(
  st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 5)), min_size=1, max_size=9
  ),
  st.sampled_from(['grpo', 'rloo']),
  st.sampled_from([0, 1]),
)
def test_turns_of_rollouts_are_rollouts_of_one_turn(group, estimator, ddof):
  rewards, turns = np.array(group).T
  options = {'estimator': estimator, 'ddof': ddof}
  got = advantages.group_advantages(rewards, turns, level='turn', **options)
  assert np.isfinite(got).all() and not got[turns == 0].any()
  # Options of another level do not read turns.
  np.testing.assert_array_equal(
    advantages.group_advantages(rewards, turns, **options),
    advantages.group_advantages(rewards, **options),
  )
  if estimator == 'grpo' and turns.any():
    each = advantages.group_advantages(np.repeat(rewards, turns), **options)
    np.testing.assert_allclose(np.repeat(got, turns), each, rtol=1e-5)
  if estimator == 'rloo':
    for i in np.flatnonzero(turns):
      others = np.repeat(np.delete(rewards, i), np.delete(turns, i))
      baseline = others.mean() if others.size else rewards[i]
      np.testing.assert_allclose(got[i], rewards[i] - baseline, atol=1e-5)


@pytest.mark.parametrize('estimator', ['grpo', 'rloo'])
@pytest.mark.parametrize('turns', [[0, 0], [3, 0], [0, 1]])
def test_one_rollout_with_turns_has_nothing_to_be_compared_with(
  estimator, turns
):
  got = advantages.group_advantages(
    [1.0, 0.0], turns, level='turn', estimator=estimator
  )
  np.testing.assert_array_equal(got, [0, 0])


@pytest.mark.parametrize(
  ('rewards', 'options', 'message'),
  [
    ([], {}, 'vector'),
    ([[1.0]], {}, 'vector'),
    ([1.0, np.nan], {}, 'finite'),
    ([1.0], {'ddof': 2}, 'ddof'),
    ([1.0], {'estimator': 'ppo'}, "'grpo' or 'rloo', got 'ppo'"),
    ([1.0], {'level': 'token'}, "'rollout' or 'turn', got 'token'"),
    ([1.0], {'level': 'turn'}, 'needs the number of turns'),
    ([1.0], {'level': 'turn', 'turns': [1, 1]}, '1 numbers from 0 on'),
    ([1.0], {'level': 'turn', 'turns': [-1]}, '1 numbers from 0 on'),
  ],
)
def test_refuses(rewards, options, message):
  with pytest.raises(ValueError, match=message):
    advantages.group_advantages(rewards, **options)
