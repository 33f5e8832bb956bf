import pytest

from wideseek_jax import config as config_lib
from wideseek_jax.evaluation import studies


@pytest.mark.parametrize('study', studies.STUDIES)
def test_cells_change_options_that_there_are(study):
  config = config_lib.default_config()
  cells = studies.cells(study, config.rollout, 'p')
  assert len({cell.name for cell in cells}) == len(cells)
  assert any(cell.train for cell in cells) == (study in studies.TRAINING)
  for cell in cells:
    copy = config.copy_and_resolve_references()
    copy.update_from_flattened_dict(
      cell.changes | (cell.train or {}) | studies.played(cell, 't', 'p')
    )
    # No two cells are the same run.
    cells_like_it = [
      other
      for other in cells
      if (other.changes, other.train, other.plays)
      == (cell.changes, cell.train, cell.plays)
    ]
    assert cells_like_it == [cell]


def test_limits():
  multi, single = {'workflow': 'multi'}, {'workflow': 'single'}
  assert studies.limits(multi) == {}
  assert studies.limits(multi, width=0, depth=7) == {
    'rollout.workflow': 'single',
    'rollout.max_single_turns': 7,
  }
  assert studies.limits(single, width=3, depth=7) == {
    'rollout.workflow': 'multi',
    'rollout.max_subagents': 3,
    'rollout.max_lead_turns': 7,
  }
  assert studies.limits(single, depth=2) == {'rollout.max_single_turns': 2}


def test_who_plays_what():
  both, lead, subagent, none = (
    (cell.train, studies.played(cell, 'new', 'old'))
    for cell in studies.cells('roles', {'workflow': 'multi'}, 'old')
  )
  assert both == ({'loop.trained_roles': 'both'}, {'policy': 'new'})
  assert lead[0] == {'loop.trained_roles': 'lead', 'subagent_policy': 'old'}
  assert lead[1] == {'policy': 'new', 'subagent_policy': 'old'}
  assert subagent[0]['loop.trained_roles'] == 'subagent'
  assert subagent[1] == {'policy': 'old', 'subagent_policy': 'new'}
  assert none == (None, {'policy': 'old'})


def summary(mean):
  estimate = {'mean': mean, 'low': mean - 0.1, 'high': mean + 0.1, 'count': 3}
  return {
    'samples': 2,
    'scores': {'all': {'item_f1': {'avg@2': estimate, 'max@2': estimate}}},
    'costs': {'rollouts': 6, 'tokens': 6000},
  }


def test_the_table_and_the_figure(tmp_path):
  found = {'0': summary(0.25), '2': summary(0.5)}
  assert studies.table('width', found).splitlines() == [
    '| subagents of a fan-out | item_f1 avg@2 | item_f1 max@2 '
    '| tokens a rollout |',
    '|---|---|---|---|',
    '| 0 | 25.0 [15.0, 35.0] | 25.0 [15.0, 35.0] | 1,000 |',
    '| 2 | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] | 1,000 |',
    '',
    '3 tasks; per cent with 95 % bootstrap intervals.',
  ]
  studies.plot('width', found, tmp_path / 'f.png')
  assert (tmp_path / 'f.png').read_bytes().startswith(b'\x89PNG')
