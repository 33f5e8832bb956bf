import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from wideseek_jax.engine import pages

SIZE = 4


def ids(text):
  return np.array([ord(letter) for letter in text], np.int32)


def compute(table, tokens, count=None):
  """What the engine does around a device call that reads tokens."""
  count = len(tokens) - table.length if count is None else count
  table.reserve(table.length + count)
  table.advance(count)
  return table.publish(tokens)


def test_full_pages_of_a_prefix_are_shared():
  pool = pages.PagePool(10, SIZE)
  first, second = pages.PageTable(pool), pages.PageTable(pool)
  compute(first, ids('abcdefgh'))
  assert second.match(ids('abcdefgX')) == 7
  # One page shared, the second one borrowed for its first three tokens.
  assert second.pages == first.pages[:1]
  assert second.borrowed == first.pages[1]
  compute(second, ids('abcdefgX'))
  assert second.borrowed == 0
  assert second.pages[1] != first.pages[1]
  assert pool.available == 10 - 3


def test_the_same_page_after_another_prefix_is_not_shared():
  pool = pages.PagePool(10, SIZE)
  first, second = pages.PageTable(pool), pages.PageTable(pool)
  compute(first, ids('abcdefgh'))
  assert second.match(ids('Xbcdefgh')) == 0


def test_a_page_half_written_is_not_matched_over():
  pool = pages.PagePool(10, SIZE)
  first, second = pages.PageTable(pool), pages.PageTable(pool)
  compute(first, ids('abcdefgh'))
  compute(second, ids('ab'))
  assert second.match(ids('abcdefgh')) == 0
  compute(second, ids('abcd'))
  assert second.match(ids('abcdefgh')) == 4


def test_a_longer_match_is_taken_before_anything_is_computed():
  # Two that wait for the same tokens of a third: by the time the second may
  # read, the first has read on.
  pool = pages.PagePool(10, SIZE)
  tables = [pages.PageTable(pool) for _ in range(3)]
  compute(tables[0], ids('abcdefXX'))
  assert tables[1].match(ids('abcdefgh')) == 6
  assert tables[2].match(ids('abcdefgh')) == 6
  compute(tables[1], ids('abcdefgh'))
  assert tables[2].match(ids('abcdefgh')) == 2
  assert tables[2].pages == tables[1].pages
  assert tables[2].borrowed == 0
  # Three pages: 'abcd', 'efXX' and 'efgh'.
  assert pool.available == 10 - 3


def test_what_is_computed_twice_is_counted():
  pool = pages.PagePool(3, SIZE)
  first, second = pages.PageTable(pool), pages.PageTable(pool)
  assert first.publish(ids('')) == 0
  compute(first, ids('abcdefgh'))
  first.clear()
  compute(second, ids('12345678'))  # the second page of the first is gone
  second.clear()
  third = pages.PageTable(pool)
  assert third.match(ids('abcdefgh')) == 4
  third.reserve(8)
  third.advance(4)
  assert third.publish(ids('abcdefgh')) == 4
  assert third.publish(ids('abcdefgh')) == 0


def test_a_copy_is_not_computed_twice():
  pool = pages.PagePool(10, SIZE)
  first, second = pages.PageTable(pool), pages.PageTable(pool)
  compute(first, ids('abcdef'))
  second.match(ids('abcdefgh'))
  # Both go on alike, each on its own: 'gh' is computed twice, 'ef' copied.
  assert compute(first, ids('abcdefgh')) == 0
  assert compute(second, ids('abcdefgh')) == 2


def test_rows_read_the_borrowed_page_and_write_their_own():
  pool = pages.PagePool(10, SIZE)
  first, second = pages.PageTable(pool), pages.PageTable(pool)
  compute(first, ids('abcdefgh'))
  second.match(ids('abcdefXXX'))
  second.reserve(9)
  read, write = np.zeros(5, np.int32), np.zeros(3, np.int32)
  second.fill_read(read)
  second.fill_write(write)
  own = second.pages
  assert read.tolist() == [own[0], first.pages[1], own[2], 0, 0]
  assert write.tolist() == [own[1], own[2], 0]


def test_closed_prefixes_stay_until_pages_run_out():
  pool = pages.PagePool(3, SIZE)
  first = pages.PageTable(pool)
  compute(first, ids('abcdefgh'))
  held = list(first.pages)
  first.clear()
  assert pool.available == 3 and pool.num_cached == 2
  second = pages.PageTable(pool)
  assert second.match(ids('abcdefgh')) == 8
  assert second.pages == held
  second.clear()
  # A third page is free; then the end of the prefix goes, then its beginning.
  assert pool.allocate() not in held
  assert pool.allocate() == held[1]
  assert pages.PageTable(pool).match(ids('abcdefgh')) == 4
  assert pool.available == 0  # the table just made still holds it


def test_no_page_left():
  pool = pages.PagePool(1, SIZE)
  table = pages.PageTable(pool)
  assert table.missing(9) == 3
  with pytest.raises(RuntimeError, match='no page'):
    table.reserve(9)
  with pytest.raises(ValueError, match='not held'):
    pool.release(0)


def test_signature_tells_who_computes_the_same_token():
  pool = pages.PagePool(10, SIZE)

  def signature(text, length):
    table = pages.PageTable(pool)
    table.length = length
    return table.signature(ids(text))

  assert signature('abcdefg', 5) == signature('abcdefX', 5)
  assert signature('abcdefg', 5) != signature('abcdeXg', 5)
  assert signature('abcdefg', 5) != signature('Xbcdefg', 5)
  assert signature('abcdefg', 5) != signature('abcdefg', 4)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data())
def test_random_work_mixes_no_tokens_and_leaks_no_page(data):
  """A dict stands for device memory: page -> the tokens whose keys it holds.

  Two letters only, so that prefixes meet; 9 pages of 2, so that they run out.
  """
  size, num_pages = 2, 9
  pool = pages.PagePool(num_pages, size)
  memory = {page: ['?'] * size for page in range(num_pages + 1)}
  tables, texts = [], []

  def device_call(table, text, count):
    read = np.zeros(num_pages, np.int32)
    write = np.zeros(num_pages, np.int32)
    table.fill_read(read)
    table.fill_write(write)
    row = [token for page in read for token in memory[page]]
    start = table.length
    row[start : start + count] = text[start : start + count]
    first = start // size
    for place, page in enumerate(write):
      if page:
        at = (first + place) * size
        memory[page] = row[at : at + size]

  for _ in range(data.draw(st.integers(1, 25))):
    action = data.draw(st.sampled_from(['open', 'read', 'trim', 'close']))
    if action == 'open' or not tables:
      tables.append(pages.PageTable(pool))
      texts.append('')
      continue
    which = data.draw(st.integers(0, len(tables) - 1))
    table = tables[which]
    if action == 'read':
      text = texts[which][: table.length]
      text += data.draw(st.text('ab', min_size=1, max_size=5))
      texts[which] = text
      table.match(ids(text))
      count = len(text) - table.length
      if table.missing(len(text)) <= pool.available:
        table.reserve(len(text))
        device_call(table, text, count)
        table.advance(count)
        table.publish(ids(text))
    elif action == 'trim':
      table.trim()
    else:
      table.clear()
      del tables[which], texts[which]
    held = {p for t in tables for p in [*t.pages, t.borrowed] if p}
    assert len(held) + pool.available == num_pages
    for table, text in zip(tables, texts, strict=True):
      row = np.zeros(num_pages, np.int32)
      table.fill_read(row)
      read = [token for page in row for token in memory[page]]
      assert ''.join(read[: table.length]) == text[: table.length]
  for table in tables:
    table.clear()
  assert pool.available == num_pages
