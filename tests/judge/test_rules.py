import time

import hypothesis
import pytest
from hypothesis import strategies as st

from wideseek_jax.judge import rules

SAME = [
  ('Paris', ' paris '),
  ('New York', 'NewYork'),
  ('**Paris**', 'Paris'),
  ('Ｐａｒｉｓ', 'Paris'),  # Full-width letters.
  ('ﬁn', 'fin'),  # A ligature.
  ('', ' '),
  ('1,234', '1234'),
  ('1,234,567.50', '1234567.5'),
  ('+5', '5'),
  ('\u22125', '-5'),  # The minus sign.
  ('$5.00', '$ 5'),
  ('12 %', '12.0%'),
  ('2020-01-05', 'January 5, 2020'),
  ('5 Jan 2020', '2020/1/5'),
  ('January 5th, 2020', '05 January 2020'),
  ('Sept. 2020', '2020-09'),
  ('2020年1月5日', '2020-01-05'),
  ('https://www.a.org/x/', 'http://a.org/x'),
  ('www.a.org', 'https://A.org/#top'),
]
DIFFERENT = [
  ('1234567', '1234568'),
  ('0.1', '0.10000001'),
  ('-5', '5'),
  ('2020-01-05', '2020-01-06'),
  ('Jan 2020', 'Feb 2020'),
  ('https://a.org/x', 'https://a.org/y'),
  ('https://a.org/?q=1', 'https://a.org/?q=2'),
]
UNDECIDED = [
  ('USA', 'United States'),
  ('5', 'five'),
  ('5', '5%'),
  ('$5', '€5'),
  ('007', '7'),
  ('1,23', '123'),
  ('5 10', '510'),
  ('5 million', '5000000'),
  ('', '0'),
  ('Se7en', ''),
  ('2020-02-30', '2020-03-01'),  # There is no such day.
  ('January 2020', 'January 5, 2020'),
  ('facts/1', 'facts/2'),
]


@pytest.mark.parametrize(
  ('pairs', 'expected'), [(SAME, True), (DIFFERENT, False), (UNDECIDED, None)]
)
def test_cells(pairs, expected):
  for a, b in pairs:
    assert rules.decide(a, b) is expected, (a, b)
    assert rules.decide(b, a) is expected, (b, a)
    assert rules.same(a, b) is (expected is True)


def test_columns_of_mixed_cells_stay_apart():
  # The released code turns all but numbers into '' as soon as one cell of a
  # column is a number, and rounds numbers to six digits.
  films = ['Se7en', '300', '1917', 'Inception', '1234567', '1234568']
  assert len({rules.canonical(film) for film in films}) == len(films)


def test_columns_match_without_case_and_spaces():
  assert rules.column_key(' Home  Page') == rules.column_key('homepage')
  assert rules.column_key('a') != rules.column_key('b')


@hypothesis.settings(
  max_examples=300,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(
  st.text(max_size=20)
  | st.text('0123456789,.-+%$ ', max_size=12)
  | st.text('http:/[]w.@?#0', max_size=20).map('http://{}'.format)
)
def test_any_cell_is_itself(cell):
  assert rules.decide(cell, cell) is True
  assert rules.decide(f' {cell}\n', cell) is True
  hash(rules.canonical(cell))


@hypothesis.settings(deadline=None)
@hypothesis.given(st.integers(-(10**20), 10**20), st.integers(-2, 2))
def test_whole_numbers_are_compared_exactly(number, change):
  assert rules.decide(f'{number:,}', str(number + change)) is (change == 0)


def test_long_cells_are_compared_fast():
  started = time.process_time()
  for unit in ('\u0301\u0323', '1', '1,', ' ', '1 ', 'http://', '**'):
    cell = unit * (1_000_000 // len(unit))
    assert rules.decide(cell, cell) is True
    assert rules.decide(cell, cell + 'x') is None
    rules.canonical(cell[:4096])
    rules.column_key(cell)
  assert time.process_time() - started < 5
