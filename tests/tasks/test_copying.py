import numpy as np
import pytest

from wideseek_jax.tasks import copying

SEP = copying.Separators(newline=1, colon=2, semicolon=3, bar=4)
IDS = np.arange(10, 3000)


@pytest.mark.parametrize('seed', range(30))
def test_every_asked_string_stands_before(seed):
  """What is to be predicted can be found: each run of masked tokens, up to
  its separators, occurs earlier in the trajectory."""
  rng = np.random.default_rng(seed)
  trajectory = copying.copy_trajectory(rng, IDS, SEP)
  tokens, mask = trajectory.token_ids.tolist(), trajectory.sample_mask
  assert len(tokens) == len(mask) and mask.any() and not mask[0]
  start = int(np.flatnonzero(mask)[0])
  asked = {t for t, m in zip(tokens, mask, strict=True) if m and t >= 10}
  assert asked and asked <= set(tokens[:start])


def test_equal_seeds_give_equal_lessons():
  first, second = (
    copying.copy_trajectory(np.random.default_rng(5), IDS, SEP)
    for _ in range(2)
  )
  np.testing.assert_array_equal(first.token_ids, second.token_ids)
  np.testing.assert_array_equal(first.sample_mask, second.sample_mask)
