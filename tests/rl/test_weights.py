import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wideseek_jax.rl import weights


def _mask(trained, skipped=0):
  return np.array([False] * skipped + [True] * trained)


def _sums(nested):
  """The nested arrays' sums, rounded."""
  return [[[float(w.sum()) for w in r] for r in group] for group in nested]


def test_by_hand():
  # Two tasks of G=2. Rollout 0: a lead with 3 tokens and a subagent with 1;
  # rollout 1: a lead with 2.
  group = [[_mask(3, 1), _mask(1, 2)], [_mask(2, 2)]]
  first, second = weights.token_weights([group, group])
  np.testing.assert_allclose(
    first[0][0], [0, 1 / 24, 1 / 24, 1 / 24], rtol=1e-6
  )
  np.testing.assert_allclose(first[0][1], [0, 0, 1 / 8], rtol=1e-6)
  np.testing.assert_allclose(first[1][0], [0, 0, 1 / 8, 1 / 8], rtol=1e-6)
  np.testing.assert_array_equal(second[0][0], first[0][0])
  # 12 trained tokens in all.
  means = weights.token_weights([group, group], 'token_mean')
  np.testing.assert_allclose(
    means[0][1][0], np.array([0, 0, 1, 1]) / 12, rtol=1e-6
  )


def test_agents_count_the_same_whatever_their_lengths():
  # A masked mean over these four would give them 0.034, 0.170, 0.284, 0.511.
  masks = [[[_mask(n) for n in (600, 3000, 5000, 9000)]]]
  (((agents),),) = _sums(weights.token_weights(masks))
  np.testing.assert_allclose(agents, [0.25] * 4, rtol=1e-5)
  (((agents),),) = _sums(weights.token_weights(masks, 'token_mean'))
  np.testing.assert_allclose(agents, [0.034, 0.170, 0.284, 0.511], atol=1e-3)


def test_who_is_not_trained_does_not_count():
  # N=1 in rollout 0; rollout 1 is trained nowhere, and its half is lost.
  masks = [[[_mask(4), _mask(0, 9)], [_mask(0, 3)]]]
  first, second = weights.token_weights(masks)[0]
  np.testing.assert_allclose(first[0], [1 / 8] * 4, rtol=1e-6)
  assert not first[1].any() and not second[0].any()
  assert first[1].dtype == np.float32


GROUPS = st.lists(  # tasks
  st.lists(  # rollouts
    st.lists(  # agents
      st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=4
    ),
    min_size=1,
    max_size=4,
  ),
  min_size=1,
  max_size=4,
)


@settings(deadline=None)
@given(GROUPS)
def test_tasks_rollouts_and_agents_have_equal_shares(groups):
  masks = [[[np.array(m) for m in r] for r in group] for group in groups]
  for group, rollouts in zip(
    masks, _sums(weights.token_weights(masks)), strict=True
  ):
    for agents, sums in zip(group, rollouts, strict=True):
      num_trained = sum(mask.any() for mask in agents)
      share = 1 / (len(masks) * len(group) * max(num_trained, 1))
      expected = [share * mask.any() for mask in agents]
      np.testing.assert_allclose(sums, expected, rtol=1e-5)


@settings(deadline=None)
@given(GROUPS)
def test_tokens_of_a_token_mean_are_equal(groups):
  masks = [[[np.array(m) for m in r] for r in group] for group in groups]
  got = weights.token_weights(masks, 'token_mean')
  flat = np.concatenate([w for g in got for r in g for w in r])
  trained = np.concatenate([m for g in masks for r in g for m in r])
  expected = trained / max(trained.sum(), 1)
  np.testing.assert_allclose(flat, expected, rtol=1e-6)


def test_refuses():
  with pytest.raises(ValueError, match="'dual_level' or 'token_mean', got 'x'"):
    weights.token_weights([], 'x')
