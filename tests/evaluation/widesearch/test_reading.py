import pytest

from tests.evaluation.widesearch import helpers
from wideseek_jax.evaluation.widesearch import reading


def cells(text):
  frame = reading.read_answer(text)
  return [list(frame.columns), *frame.astype(str).to_numpy().tolist()]


def column(*values, name='v'):
  """The cells of one column, as they are typed and turned into texts."""
  rows = (f'k | {value}' for value in values)
  table = cells(helpers.block(f'name | {name}', *rows))
  return [row[1] for row in table[1:]]


@pytest.mark.parametrize(
  'text',
  [
    # The first block counts, though it is a draft.
    '```markdown\n|a|b|\n|1|2|\n```\n```markdown\n|a|b|\n|3|4|\n```',
    # Another fence is none; the first lines of bars count.
    '```md\n|a|b|\n|1|2|\n```',
    'So:\n|a|b|\n|1|2|\n\n|3|4|',
    # An opened block that is not closed is none either.
    '```markdown\n|a|b|\n|1|2|',
    # Bars in prose begin the table, and its next line is no line of bars.
    'either |a|b|\n|1|2|\nor |x|',
    # Only the outer blanks of a cell go; lines without a bar are ignored.
    '```markdown\nTable:\n| A | b\t|\nnote\n| 1 | 2|\n```',
    # Rows of blanks, bars and dashes vanish wherever they stand.
    '```markdown\n|a|b|\n|:-:|---|\n| | |\n|1|2|\n| - | - |\n```',
    # The column without a name vanishes with its cells.
    '```markdown\n| |A|b|\n|--|--|--|\n|7|1|2|\n```',
    # Without outer bars.
    '```markdown\na|b\n-|-\n1|2\n```',
    # A first row longer than the header makes its first cell a row's name.
    '```markdown\na|b\n-|-\n7|1|2\n```',
  ],
)
def test_where_the_table_is(text):
  assert cells(text) == [['a', 'b'], ['1', '2']]


@pytest.mark.parametrize(
  'text', ['', 'no table', '|a|b', '```json\n|1|\n```', 'a | b | c | d']
)
def test_no_table(text):
  # Fewer than four bars.
  assert reading.read_answer(text) is None


def test_the_scan_goes_no_further_than_the_lines_of_bars():
  # Rows that do not begin with a bar end the table.
  assert cells('| a | b |\n1 | 2\n3 | 4') == [['a', 'b']]
  assert cells('|a|b|\n  |1|2|') == [['a', 'b']]


def test_headers():
  text = helpers.block('Full  Name | Área (km²)| Unnamed: 3', 'x | y | z')
  assert cells(text)[0] == ['fullname', 'área(km²)', 'unnamed:3']
  # A name that stands twice gets a number from pandas.
  assert cells(helpers.block('a | a', '1 | 2'))[0] == ['a', 'a.1']
  # Outside the first line capitals stay until pandas' own word is looked for.
  text = '```markdown\nTable\n|Unnamed thing|b|\n|1|2|\n```'
  assert cells(text) == [['b'], ['2']]


@pytest.mark.parametrize(
  ('written', 'read'),
  [
    (['007', '1.0'], ['7.0', '1.0']),
    (['007', '10'], ['7', '10']),
    (['1.50', '2'], ['1.5', '2.0']),
    # One text keeps the whole column as it was written.
    (['007', '2020.0', 'x'], ['007', '2020.0', 'x']),
    (['1,234', '5'], ['1,234', '5']),
    (['true', 'FALSE'], ['True', 'False']),
    (['true', 'yes'], ['true', 'yes']),
    # A missing cell makes floats of integers and is the text nan.
    (['3', ''], ['3.0', 'nan']),
    (['NA', 'n/a', 'None', 'null', 'x'], ['nan', 'nan', 'nan', 'nan', 'x']),
    (['-', '—', 'Unknown'], ['-', '—', 'Unknown']),
    # CSV's quotes: a cell that begins with one loses them.
    (['"x"', '"a" b', 'a "b"'], ['x', 'a b', 'a "b"']),
    # A quoted bar is no border, unless there is a blank beside it.
    (['"a|b"'], ['a|b']),
    (['5.97e24'], ['5.97e+24']),
  ],
)
def test_typed_cells(written, read):
  assert column(*written) == read


@pytest.mark.parametrize(
  'text',
  [
    # No row, not even a header.
    '```markdown\n```',
    '```markdown\nnothing\n```',
    # More cells than the header below the first row; \| is no escape.
    helpers.block('a | b', '1 | 2', '3 | 4 | 5'),
    helpers.block('a | b', '1 | 2', '3 | x\\|y'),
    # A quote that is never closed.
    helpers.block('a | b', '1 | "2', '3 | 4'),
  ],
)
def test_what_cannot_be_read(text):
  with pytest.raises(ValueError):
    reading.read_answer(text)


def test_gold():
  text = 'City ,Pop,Extra\n"A, B",1,x\n\nC,,y\n'
  frame = reading.read_gold(text, ['pop', 'city'])
  assert list(frame.columns) == ['pop', 'city']
  assert frame.astype(str).to_numpy().tolist() == [
    ['1.0', 'A, B'],
    ['nan', 'C'],
  ]


@pytest.mark.parametrize(
  ('text', 'words'),
  [
    ('a,b\n1,2\n3\n', ['line 3', '1 fields', '2']),
    # The quoted field spans lines 2 and 3.
    ('a,b\n"1\n1",2\n3,4,5\n', ['line 4', '3 fields', '2']),
    ('a,c\n1,2\n', ["'b'", "['a', 'c']"]),
    ('', ['no header']),
  ],
)
def test_gold_that_lacks_something(text, words):
  with pytest.raises(ValueError) as caught:
    reading.read_gold(text, ['a', 'b'])
  assert all(word in str(caught.value) for word in words)
