import contextlib
import multiprocessing

from wideseek_jax.judge import cache


def write(path, start):
  with contextlib.closing(cache.ReplyCache(path)) as replies:
    for i in range(start, start + 200):
      replies.put(str(i % 300), f'{i % 300} from {start}')


def test_what_was_put_is_there(tmp_path):
  path = tmp_path / 'new' / 'cache.sqlite'
  with contextlib.closing(cache.ReplyCache(path)) as replies:
    assert replies.get('a') is None
    replies.put('a', 'one \x00 利马')
    replies.put('a', 'two')
    replies.put('b', '')
  with contextlib.closing(cache.ReplyCache(path)) as replies:
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
  with contextlib.closing(cache.ReplyCache(path)) as replies:
    for i in range(300):
      assert replies.get(str(i)).startswith(f'{i} from')
