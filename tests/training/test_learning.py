import dataclasses

import numpy as np
import pytest

from wideseek_jax import testing, types
from wideseek_jax.rl import weights as weights_lib
from wideseek_jax.tasks import rewards
from wideseek_jax.training import learning


def test_agent_means():
  def trajectory(mask, failures=()):
    return testing.trajectory(mask, failures=failures)

  groups = [
    [types.Rollout('t', 0, (trajectory([0, 1, 1]), trajectory([0, 1])))],
    [
      types.Rollout(
        'u', 0, (trajectory([0, 0, 0, 1], (types.CONTEXT_FAILED,)),)
      )
    ],
  ]
  found = learning.agent_means(groups)
  # Agents of 3, 2 and 4 tokens, of which 2, 1 and 1 are sampled.
  assert found['agent/tokens'] == pytest.approx(3.0)
  assert found['agent/sampled_tokens'] == pytest.approx(4 / 3)
  assert found['agent/context_failed'] == pytest.approx(1 / 3)


def _scored(reward, *turns, format_ok=True):
  """A rollout whose agents have so many turns of one token, and its score."""
  agents = []
  for index, count in enumerate(turns):
    agent = testing.trajectory([0, 1] * count, agent=index)
    made = tuple(
      types.Turn(2 * i + 1, 2 * i + 2, 'stop', '') for i in range(count)
    )
    agents.append(dataclasses.replace(agent, turns=made))
  rollout = types.Rollout('t', 0, tuple(agents))
  return rollout, types.Score(reward, {'format_ok': float(format_ok)})


def test_advantages_count_trained_turns():
  # Rollouts of 1 and 2 + 1 turns; a third without the right form, of whose two
  # turns the last alone is trained.
  made = [
    _scored(1.0, 1),
    _scored(0.0, 2, 1),
    _scored(0.0, 2, format_ok=False),
  ]
  groups, scores = [[r for r, _ in made]], [[s for _, s in made]]
  (got,) = learning.score_advantages(groups, scores)
  # 1, 0, 0: mean 1/3, sample deviation 1/√3.
  root = np.sqrt(3)
  np.testing.assert_allclose(got, [2 / root, -1 / root, -1 / root], rtol=1e-5)
  (got,) = learning.score_advantages(
    groups, scores, level='turn', estimator='rloo'
  )
  # 1 - 0; 0 - 1/(1 + 1); 0 - 1/(1 + 3).
  np.testing.assert_allclose(got, [1, -1 / 2, -1 / 4], rtol=1e-6)


@pytest.mark.parametrize(
  ('roles', 'weights', 'advantages'),
  [
    # 1/2 · 1/2 · 1/3, 1/2 · 1/2 · 1/1 and 1/2 · 1/1 · 1/2; 1 - 0 and 0 - 1.
    ('both', ([1 / 12, 1 / 4], [1 / 4]), [1, -1]),
    # Its lead is the only agent of the first rollout that counts: 1/2 · 1/3.
    ('lead', ([1 / 6, 0], [1 / 4]), [1, -1]),
    # 1/2 · 1/1; the second rollout has nothing that trains, so that the first
    # is compared with nobody.
    ('subagent', ([0, 1 / 2], [0]), [0, 0]),
    ('none', ([0, 0], [0]), [0, 0]),
  ],
)
def test_only_the_roles_that_train_have_weights(roles, weights, advantages):
  """A lead of three turns with a subagent of one; a lead of two turns."""
  made = [_scored(1.0, 3, 1), _scored(0.0, 2)]
  groups, scores = [[r for r, _ in made]], [[s for _, s in made]]
  roles = rewards.TRAINED_ROLES[roles]
  masks = [rewards.trained_mask(*pair, roles) for pair in made]
  (found,) = weights_lib.token_weights([masks])
  # Each second token is sampled.
  sampled = [[list(agent[1::2]) for agent in agents] for agents in found]
  expected = [
    [[weight] * count for weight, count in zip(own, counts, strict=True)]
    for own, counts in zip(weights, ((3, 1), (2,)), strict=True)
  ]
  for ours, theirs in zip(sampled, expected, strict=True):
    for one, other in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-6)
  (got,) = learning.score_advantages(
    groups, scores, roles, estimator='rloo', level='turn'
  )
  np.testing.assert_allclose(got, advantages, rtol=1e-6)
