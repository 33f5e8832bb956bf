import contextlib
import multiprocessing
import sqlite3

import pytest

from wideseek_jax import cache


def write(path, start):
  with contextlib.closing(cache.TextCache(path, 'option')) as replies:
    for i in range(start, start + 200):
      replies.put(str(i % 300), f'{i % 300} from {start}')


def test_what_was_put_is_there(tmp_path):
  path = tmp_path / 'new' / 'cache.sqlite'
  with contextlib.closing(cache.TextCache(path, 'option')) as replies:
    assert replies.get('a') is None
    replies.put('a', 'one \x00 利马')
    replies.put('a', 'two')
    replies.put('b', '')
  with contextlib.closing(cache.TextCache(path, 'option')) as replies:
    assert replies.get('a') == 'one \x00 利马' and replies.get('b') == ''


def test_processes_share_it(tmp_path):
  path = tmp_path / 'cache.sqlite'
  spawn = multiprocessing.get_context('spawn')
  writers = [
    spawn.Process(target=write, args=(path, start)) for start in (0, 100, 200)
  ]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join()
    assert writer.exitcode == 0
  with contextlib.closing(cache.TextCache(path, 'option')) as replies:
    for i in range(300):
      assert replies.get(str(i)).startswith(f'{i} from')


def test_a_text_is_forgotten_when_it_is_too_old(tmp_path):
  now = [1000.0]
  path = tmp_path / 'cache.sqlite'

  def opened():
    return contextlib.closing(
      cache.TextCache(path, 'option', max_age=60.0, clock=lambda: now[0])
    )

  with opened() as texts:
    texts.put('a', 'one')
    now[0] = 1060.0  # Exactly 60 s old: still good.
    assert texts.get('a') == 'one'
    texts.put('a', 'two')
    assert texts.get('a') == 'one'
    now[0] = 1061.0
    assert texts.get('a') is None
    texts.put('a', 'three')
    assert texts.get('a') == 'three'
    now[0] = 1200.0
  with opened():
    pass  # What is too old leaves the file.
  with contextlib.closing(sqlite3.connect(path)) as database:
    assert database.execute('SELECT count(*) FROM replies').fetchone() == (0,)


def test_a_file_without_times_is_read_on(tmp_path):
  path = tmp_path / 'cache.sqlite'
  with contextlib.closing(sqlite3.connect(path)) as database:
    database.execute(
      'CREATE TABLE replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) '
      'WITHOUT ROWID'
    )
    database.execute("INSERT INTO replies VALUES ('a', 'one')")
    database.commit()
  with contextlib.closing(cache.TextCache(path, 'option')) as texts:
    assert texts.get('a') == 'one'
    texts.put('b', 'two')
    assert texts.get('b') == 'two'


def test_a_file_that_is_none_is_an_error_that_names_the_option(tmp_path):
  path = tmp_path / 'cache.sqlite'
  path.write_bytes(b'no database' * 100)
  with pytest.raises(BlockingIOError, match='some_option'):
    cache.TextCache(path, 'some_option', BlockingIOError)
