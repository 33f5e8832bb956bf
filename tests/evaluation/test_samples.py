import pytest

from wideseek_jax.evaluation import samples


def test_by_hand():
  found = samples.at_k({'a': [0.5, 1.0, 0.0, 0.0], 'b': [0.0] * 4}, 4)
  assert found == {
    'avg@4': {'a': 0.375, 'b': 0.0},
    'max@4': {'a': 1.0, 'b': 0.0},
    # One of four samples is a success; one of all four is.
    'pass@1': {'a': 0.25, 'b': 0.0},
    'pass@4': {'a': 1.0, 'b': 0.0},
  }


def test_fewer_than_were_drawn():
  found = samples.at_k({'a': [0.0, 1.0, 1.0, 0.0]}, 2)
  # Of the 6 pairs of four samples only that of the two failures has none.
  assert found['pass@2'] == {'a': pytest.approx(5 / 6)}
  assert found['pass@1'] == {'a': 0.5}
  assert found['avg@2'] == {'a': 0.5}


@pytest.mark.parametrize(('k', 'words'), [(0, 'at least 1'), (3, "'a' has 2")])
def test_refusals(k, words):
  with pytest.raises(ValueError, match=words):
    samples.at_k({'a': [0.0, 1.0]}, k)
