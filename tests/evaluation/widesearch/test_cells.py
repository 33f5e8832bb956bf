"""Each line is a statement of what the official scorer does with a cell."""

import pytest

from wideseek_jax.evaluation.widesearch import cells


@pytest.mark.parametrize(
  ('name', 'cell', 'expected'),
  [
    ('norm_str', ' New  York* ', 'newyork'),
    ('norm_str', 'a_b `c`\u00a0d\te', 'a_b`c`\u00a0d\te'),
    ('extract_number', '12.5%', '12.5%'),
    ('extract_number', '12.5 %', '12.5'),
    ('extract_number', '2020-2021', '2020'),
    ('extract_number', 'CO2: 5', '2'),
    ('extract_number', '1 200', '1'),
    ('extract_number', '1,5', '15'),
    ('extract_number', '1,234.50 m', '1234.50'),
    ('extract_number', '\u22125', '5'),
    ('extract_number', '-5', '-5'),
    ('extract_number', '+.5', '+.5'),
    ('extract_number', '7.', '7.'),
    ('extract_number', '5.97e24', '5.97'),
    ('extract_number', '$3.5 billion', '3.5'),
    ('extract_number', '３00', '３00'),
    ('extract_number', 'unknown', 'NULL'),
    ('norm_date', '5 March 2020', '2020-03-05'),
    # Month first, unless that cannot be.
    ('norm_date', '02.01.2021', '2021-02-01'),
    ('norm_date', '02/01/2021', '2021-02-01'),
    ('norm_date', '25/01/2021', '2021-01-25'),
    ('norm_date', '2020年3月5日', '2020-03-05'),
    # A month has its first day.
    ('norm_date', 'March 2020', '2020-03-01'),
    ('norm_date', '20200305', '20200305'),
    ('norm_date', 'Rolling', 'Rolling'),
  ],
)
def test_preprocess(name, cell, expected):
  assert cells.PREPROCESS[name](cell) == expected


def test_a_missing_date_is_read_as_august():
  assert cells.PREPROCESS['norm_date']('nan')[4:] == '-08-01'
  assert cells.STRICT_PREPROCESS['norm_date']('nan') == 'nan'


@pytest.mark.timeout(60)
def test_a_long_text_is_no_date():
  # dateparser would read for minutes.
  digits = '1 ' * 3000
  assert cells.PREPROCESS['norm_date'](digits) == digits


OFFICIAL = [
  ('exact_match', 'Lima', 'LIMA', None, 1.0),
  ('exact_match', 'Lima ', 'Lima', None, 0.0),
  # One way only.
  ('in_match', 'York', 'New York', None, 1.0),
  ('in_match', 'New York', 'York', None, 0.0),
  # Inclusive, and relative to the gold number: 0.1 · 110 = 11 but 0.1 · 99.
  ('number_near', '99', '110', 0.1, 1.0),
  ('number_near', '110', '99', 0.1, 0.0),
  ('number_near', '12.5%', '0.125', 0, 1.0),
  ('number_near', '0.1', '0', 0.5, 0.0),
  ('number_near', 'NULL', 'NULL', None, 1.0),
  ('number_near', 'abc', 'abd', 0.5, 0.0),
  ('number_near', '1,000', '1000', 0.1, 0.0),
  ('number_near', '1_000', '1000', 0, 1.0),
  ('number_near', '１０', '10', 0, 1.0),
  ('number_near', 'nan', 'nan', 0.1, 0.0),
  ('number_near', 'inf', 'inf', 0.1, 0.0),
  # 31 days, then 32, of 2024.
  ('date_near', '2024-03-01', '2024-04-01', None, 1.0),
  ('date_near', '2024-03-01', '2024-04-02', None, 0.0),
  # 31.5 days round down to 31, and -31.5 to -32.
  ('date_near', '2024-04-01 12:00', '2024-03-01', None, 1.0),
  ('date_near', '2024-03-01', '2024-04-01 12:00', None, 0.0),
  ('date_near', 'Rolling', 'TBD', None, 1.0),
  ('date_near', 'nan', 'nan', None, 1.0),
  # One of them is a date, which a blank is.
  ('date_near', 'nan', 'TBD', None, 0.0),
  ('date_near', '2024-03-01', 'TBD', None, 0.0),
  ('url_match', 'https://a.org/x?y', 'see http://a.org', None, 1.0),
  ('url_match', 'https://a.org', 'https://www.a.org', None, 0.0),
  ('url_match', 'https://a.org', 'https://A.org', None, 0.0),
  ('url_match', 'https://a.org:80', 'https://a.org', None, 0.0),
  ('url_match', 'https://me@a.org', 'https://a.org', None, 0.0),
  ('url_match', 'https://a.org https://b.org', 'https://a.org', None, 0.0),
  ('url_match', 'HTTPS://a.org', 'https://a.org', None, 0.0),
  # What follows a host sticks to it, except after its slash.
  ('url_match', '[x](https://a.org)', 'https://a.org', None, 0.0),
  ('url_match', '[x](https://a.org/)', 'https://a.org', None, 1.0),
  ('url_match', '<https://a.org>', 'https://a.org', None, 0.0),
  ('url_match', 'https://a.org.', 'https://a.org', None, 0.0),
  # A path may hold anything, an underline and a tilde end a url in the host.
  ('url_match', 'https://a_b.org', 'https://a_b.org', None, 1.0),
  ('url_match', 'https://a~b.org', 'https://a', None, 1.0),
  # No url on either side: no hosts are as good as no hosts.
  ('url_match', 'www.mit.edu', 'www.harvard.edu', None, 1.0),
  ('url_match', 'www.mit.edu', 'https://mit.edu', None, 0.0),
]


@pytest.mark.parametrize(
  ('metric', 'predicted', 'gold', 'criterion', 'expected'), OFFICIAL
)
def test_official(metric, predicted, gold, criterion, expected):
  assert cells.official(metric, predicted, gold, criterion) == expected


@pytest.mark.parametrize(
  ('metric', 'predicted', 'gold', 'criterion', 'error'),
  [
    ('number_near', '1', '2', None, TypeError),
    ('url_match', '[https://a.org](https://a.org)', 'x', None, ValueError),
    ('date_near', '2024-03-01', '2024-03-01 10:00 UTC', None, TypeError),
    ('exact_match', 3, '3', None, AttributeError),
  ],
)
def test_what_costs_the_whole_table(metric, predicted, gold, criterion, error):
  with pytest.raises(error):
    cells.official(metric, predicted, gold, criterion)
  assert cells.strict(metric, predicted, gold, criterion) == 0.0


STRICT = [
  ('number_near', 'nan', 'nan', 0.1, 1.0),
  ('number_near', 'inf', 'inf', 0.1, 1.0),
  ('date_near', 'Rolling', 'TBD', None, 0.0),
  ('date_near', 'nan', '2024-08-01', None, 0.0),
  ('in_match', 'nan', 'Hernan', None, 0.0),
  ('url_match', 'www.mit.edu', 'www.harvard.edu', None, 0.0),
  ('url_match', 'www.mit.edu', 'www.mit.edu', None, 1.0),
  ('url_match', '[https://a.org](https://a.org)', 'x', None, 0.0),
]


@pytest.mark.parametrize(
  ('metric', 'predicted', 'gold', 'criterion', 'expected'), STRICT
)
def test_strict(metric, predicted, gold, criterion, expected):
  assert cells.strict(metric, predicted, gold, criterion) == expected


def test_strict_is_official_elsewhere():
  changed = {case[:3] for case in STRICT}
  others = [c for c in OFFICIAL if c[:3] not in changed and c[1] != c[2]]
  assert len(others) > 30
  for metric, predicted, gold, criterion, expected in others:
    assert cells.strict(metric, predicted, gold, criterion) == expected


def test_strict_keeps_texts_without_numbers():
  assert cells.STRICT_PREPROCESS['extract_number']('soon') == 'soon'
  assert cells.STRICT_PREPROCESS['extract_number']('in 3') == '3'
  assert cells.STRICT_PREPROCESS['norm_date'](['a']) == ['a']
