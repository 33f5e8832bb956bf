import time

import hypothesis
import pytest
from hypothesis import strategies as st

from wideseek_jax import types
from wideseek_jax.tasks import tables

CITIES = types.Table(('a', 'b'), (('1', '2'), ('3', '')))
BLOCK = '```markdown\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |\n```'


def parsed(text):
  table, reason = tables.parse_markdown_table(text)
  assert (table is None) == bool(reason)
  return table


@pytest.mark.parametrize(
  'text',
  [
    BLOCK,
    f'Here:\n{BLOCK}\nDone.',
    f'<think>{BLOCK.replace("1", "9")}</think>\n{BLOCK}',
    # The last block wins, also over one that never closes.
    BLOCK.replace('1', '9') + '\n' + BLOCK,
    BLOCK + '\n```markdown\n| x |',
    # Outer borders and the separator may be missing; alignment is allowed.
    '```markdown\na|b\n:-:|--\n1|2\n3| |\n```',
    '```markdown\n| a | b |\n\n  | 1 | 2 |  \r\n| 3 | |\n```',
  ],
)
def test_tables_that_parse(text):
  assert parsed(text) == CITIES


@pytest.mark.parametrize(
  ('text', 'reason'),
  [
    ('', 'no closed'),
    ('| a |\n|---|\n| 1 |', 'no closed'),
    ('```\n| a |\n| 1 |\n```', 'no closed'),
    ('```markdown\n| a |\n| 1 |', 'no closed'),
    ('```markdown\n| a |\n| 1 |\n```markdown\n| b |', 'no closed'),
    (f'<think>{BLOCK}', 'no closed'),
    (f'<think>{BLOCK}</think> Done.', 'no closed'),
    (f'{BLOCK}<think>', 'no closed'),
    ('```markdown\n\n```', 'empty'),
    ('```markdown\n| a |\n```', 'no rows'),
    ('```markdown\n| a |\n|---|\n```', 'no rows'),
    ('```markdown\n| a | a |\n| 1 | 2 |\n```', 'same name'),
    ('```markdown\n| a | |\n| 1 | 2 |\n```', 'no name'),
    ('```markdown\n| a | b |\n| 1 |\n```', 'Row 1 has 1 cells'),
    ('```markdown\n| a |\n| 1 |\nwords\n```', 'Line 3'),
  ],
)
def test_tables_that_do_not_parse(text, reason):
  table, why = tables.parse_markdown_table(text)
  assert table is None and reason in why


def test_only_the_second_line_separates():
  text = '```markdown\n| a |\n|---|\n| - |\n|---|\n```'
  assert parsed(text).rows == (('-',), ('---',))


CELL = st.text(
  st.sampled_from('ab|\\-: `\n\r\x0b\x1c\u2028\u00e9\U0001f600{}'), max_size=6
)


@hypothesis.settings(
  max_examples=300,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(st.data())
def test_a_rendered_table_reads_back(data):
  width = data.draw(st.integers(1, 4))
  # Three backticks would close the block: no table can hold them.
  cells = CELL.filter(lambda cell: '```' not in cell)
  columns = data.draw(
    st.lists(
      cells.filter(str.strip),
      min_size=width,
      max_size=width,
      unique_by=lambda cell: ' '.join(cell.split()),
    )
  )
  row = st.lists(cells, min_size=width, max_size=width)
  rows = data.draw(st.lists(row, min_size=1, max_size=4))

  def clean(cells):
    return tuple(' '.join(cell.split()) for cell in cells)

  table = types.Table(tuple(columns), tuple(map(tuple, rows)))
  assert parsed(f'x {tables.render_table(table)} y') == types.Table(
    clean(columns), tuple(clean(row) for row in rows)
  )


HOSTILE = st.sampled_from(
  [
    *('```markdown', '```', '|', '\\|', '\n', '---', '<think>', '</think>'),
    *('\\boxed{', '{', '}', '\x00', '\ud800', ' ', '| a | b |\n', '\\'),
  ]
)


@hypothesis.settings(
  max_examples=300,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(st.lists(HOSTILE | st.text(max_size=3), max_size=40))
def test_any_text_gives_a_table_or_a_reason(pieces):
  text = ''.join(pieces)
  table, reason = tables.parse_markdown_table(text)
  if table is None:
    assert reason
  else:
    assert table.rows and '' not in table.columns and not reason
  boxed = tables.extract_boxed(text)
  if boxed is not None:
    assert '\\boxed{' in text and boxed in text
    assert boxed.count('{') == boxed.count('}')


@pytest.mark.parametrize(
  'unit',
  [
    *('|', '\\|', '```markdown', '```markdown|', '```', '\n', '| a ', '- '),
    *('\\boxed{', '{', '}', '<think>', '</think>', '\\', '|\n', ' '),
    *('\\boxed{}', '|---'),
  ],
)
def test_a_megabyte_of_anything_is_read_fast(unit):
  body = unit * (1_000_000 // len(unit))
  started = time.process_time()
  for text in (body, f'```markdown\n{body}\n```', f'\\boxed{{{body}'):
    tables.parse_markdown_table(text)
    tables.extract_boxed(text)
  # Linear work takes tenths of a second; quadratic work takes hours.
  assert time.process_time() - started < 10


@pytest.mark.parametrize(
  ('text', 'boxed'),
  [
    ('so \\boxed{ 42 }.', '42'),
    ('\\boxed{1} and \\boxed{2}', '2'),
    ('\\boxed{\\frac{1}{2}}', '\\frac{1}{2}'),
    ('\\boxed{1} then \\boxed{2', '1'),
    ('\\boxed{}', ''),
    ('\\boxed{1', None),
    ('boxed{1}', None),
    ('<think>\\boxed{1}</think>\\boxed{2}', '2'),
    ('<think>\\boxed{1}</think>', None),
    ('<think>\\boxed{1}', None),
  ],
)
def test_boxed(text, boxed):
  assert tables.extract_boxed(text) == boxed
