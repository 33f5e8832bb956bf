import json

import pytest

mixing = pytest.importorskip(
  'wideseek_jax.tasks.mixing', reason="pip install 'wideseek_jax[data]'"
)

_WIDE = [f'w{i}' for i in range(5)]
_DEEP = [f'd{i}' for i in range(4)]


def _take(stream, count):
  return [next(stream) for _ in range(count)]


def test_the_ratio_holds_and_every_epoch_has_all_in_a_new_order():
  found = _take(mixing.mixed([_WIDE, _DEEP], (3, 1), seed=1), 80)
  wide = [x for x in found if x[0] == 'w']
  deep = [x for x in found if x[0] == 'd']
  assert (len(wide), len(deep)) == (60, 20)
  # In any four, three are wide.
  assert all(
    sum(x[0] == 'w' for x in found[i : i + 4]) == 3 for i in range(0, 80, 4)
  )
  epochs = [tuple(wide[i : i + 5]) for i in range(0, 60, 5)]
  assert all(sorted(epoch) == _WIDE for epoch in epochs)
  assert len(set(epochs)) > 6
  assert found == _take(mixing.mixed([_WIDE, _DEEP], (3, 1), seed=1), 80)
  assert found != _take(mixing.mixed([_WIDE, _DEEP], (3, 1), seed=2), 80)


def test_a_position_is_kept_and_gone_on_from():
  whole = _take(mixing.mixed([_WIDE, _DEEP], (1, 1), seed=3), 40)
  stream = mixing.mixed([_WIDE, _DEEP], (1, 1), seed=3)
  assert _take(stream, 17) == whole[:17]
  # As plain JSON, so any checkpoint can hold it.
  state = json.loads(json.dumps(stream.get_state()))
  resumed = mixing.mixed([_WIDE, _DEEP], (1, 1), seed=3)
  resumed.set_state(state)
  assert _take(resumed, 23) == whole[17:]


def test_equal_sources_do_not_share_an_order():
  found = _take(mixing.mixed([range(50), range(50)], (1, 1)), 100)
  assert found[::2] != found[1::2] and sorted(found[::2]) == sorted(found[1::2])


def test_without_shuffling_the_order_stays():
  found = _take(mixing.mixed([_WIDE, []], (1, 0), shuffle=False), 10)
  assert found == _WIDE * 2


@pytest.mark.parametrize(
  ('sources', 'weights'),
  [([_WIDE], (1, 1)), ([_WIDE], (0,)), ([_WIDE], (-1,)), ([[]], (1,))],
)
def test_nonsense_is_refused(sources, weights):
  with pytest.raises(ValueError, match='weight'):
    mixing.mixed(sources, weights)
