from hypothesis import given, settings
from hypothesis import strategies as st

from wideseek_jax.training import packing


@settings(max_examples=40, deadline=None)
@given(
  lengths=st.lists(st.integers(1, 20), max_size=25),
  row_len=st.integers(20, 50),
)
def test_rows_hold_every_segment_once(lengths, row_len):
  rows = packing.assign_rows(lengths, row_len)
  assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
  sums = [sum(lengths[i] for i in row) for row in rows]
  assert all(size <= row_len for size in sums)
  # Best fit opens a row only when no open one has room: any two rows together
  # hold more than one row's length.
  if len(sums) > 1:
    smallest, second = sorted(sums)[:2]
    assert smallest + second > row_len


def test_best_fit():
  # 6 → row 0 (room 4), 5 → row 1 (room 5), 4 → row 0 exactly, not row 1.
  assert packing.assign_rows([4, 5, 6, 5], 10) == [[2, 0], [1, 3]]
