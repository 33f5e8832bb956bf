import dataclasses
import json

from wideseek_jax.training import best


@dataclasses.dataclass(frozen=True)
class State:
  step: int


def test_a_better_validation_replaces_the_one_before(tmp_path):
  saved = []

  def keeper(rows):
    return best.keeper(
      tmp_path, rows, lambda folder, state: saved.append((folder, state.step))
    )

  keep = keeper([])
  for step, reward in enumerate([-0.5, -0.6, 0.2, 0.2, 0.1]):
    keep(State(step), {'valid/reward': reward, 'valid/item_f1': 0.0})
  # Steps 1 and 4 are worse, step 3 is equal.
  assert saved == [(tmp_path / 'best', 0), (tmp_path / 'best', 2)]
  assert json.loads((tmp_path / 'best/validation.json').read_text()) == {
    'step': 2,
    'valid/reward': 0.2,
    'valid/item_f1': 0.0,
  }
  # A resumed run remembers what its log says.
  keep = keeper([{'step': 1}, {'step': 2, 'valid/reward': 0.2}])
  keep(State(5), {'valid/reward': 0.2})
  assert len(saved) == 2
  keep(State(6), {'valid/reward': 0.3})
  assert saved[-1] == (tmp_path / 'best', 6)
