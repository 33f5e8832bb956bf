import dataclasses
import math

import pytest

from wideseek_jax import testing, types
from wideseek_jax.evaluation import copying


def rollout(*reports):
  lead = testing.trajectory([0, 1])
  subagents = tuple(
    dataclasses.replace(testing.trajectory([0, 1], agent=1), answer=report)
    for report in reports
  )
  return types.Rollout('countries', 0, (lead, *subagents))


@pytest.mark.parametrize(
  ('reports', 'counts'),
  [
    (['| Norland | Nora |\n| Sorland | Sora |'], (2, 2)),
    (['| Norland | Noro |', '| Sorland | Sora |'], (1, 2)),
    # Not a cell: '?', an unknown key, a row of another width, the key itself.
    (['| Norland | ? |\n| Westland | Wes |\n| Sorland | Sora | 1 |'], (0, 0)),
    (['Names: Norland; Sorland'], (0, 0)),
  ],
)
def test_reported_cells(reports, counts):
  found = copying.reported_cells(rollout(*reports), testing.COUNTRIES)
  assert found == counts


def test_accuracy_over_groups():
  groups = [[rollout('| Norland | Nora |')], [rollout('| Sorland | Nora |')]]
  tasks = [testing.COUNTRIES] * 2
  assert copying.copy_accuracy(groups, tasks) == (0.5, 2)
  share, total = copying.copy_accuracy([[rollout('')]], [testing.COUNTRIES])
  assert math.isnan(share) and total == 0
