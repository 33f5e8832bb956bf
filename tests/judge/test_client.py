import asyncio
import contextlib
import email.utils
import json
import logging
import socket
import threading
import time

import pytest

from tests.judge import faults, server
from wideseek_jax import types
from wideseek_jax.judge import client, completions


class Waits(list):
  """Stands for the clock: notes how long a client would have waited."""

  async def __call__(self, seconds):
    self.append(seconds)


@contextlib.contextmanager
def asking(answer, **options):
  with (
    server.serving(answer) as (url, requests),
    contextlib.closing(connect(url, **options)) as judge,
  ):
    yield judge, requests


def connect(url, **options):
  defaults = {'jitter': lambda: 1.0, 'sleep': Waits(), 'model': 'm'}
  return client.HttpJudge(base_url=url, **(defaults | options))


def test_replies_come_in_the_order_of_the_prompts():
  def slow_first(handler, prompt, number):
    if prompt == '0':
      time.sleep(0.1)
    return server.echo(handler, prompt, number)

  with asking(slow_first) as (judge, requests):
    prompts = [str(i) for i in range(20)]
    assert judge(prompts) == [f'reply to {p}' for p in prompts]
    assert judge([]) == []
    stats = judge.stats()
  assert stats.calls == 20 and stats.tokens == 200 and stats.retries == 0
  body, headers = requests[0]
  assert body['temperature'] == 0 and body['model'] == 'm'
  assert body['max_tokens'] == 2048 and 'Authorization' not in headers


def test_equal_prompts_in_flight_are_one_call():
  started, go_on = threading.Event(), threading.Event()

  def wait(handler, prompt, number):
    started.set()
    assert go_on.wait(60)
    return server.echo(handler, prompt, number)

  with asking(wait) as (judge, requests):
    found = []
    threads = [
      threading.Thread(target=lambda: found.append(judge(['a', 'a'])))
      for _ in range(4)
    ]
    for thread in threads:
      thread.start()
    assert started.wait(60)
    # Four callers wait for one request.
    while len(asyncio.all_tasks(judge._loop._loop)) < 5:
      time.sleep(0.005)
    go_on.set()
    for thread in threads:
      thread.join()
    assert found == [['reply to a'] * 2] * 4
    assert len(requests) == 1


def test_no_more_requests_are_in_flight_than_allowed():
  lock, running, most = threading.Lock(), [0], [0]

  def count(handler, prompt, number):
    with lock:
      running[0] += 1
      most[0] = max(most[0], running[0])
    time.sleep(0.01)
    with lock:
      running[0] -= 1
    return server.echo(handler, prompt, number)

  with asking(count, concurrency=3) as (judge, _):
    judge([str(i) for i in range(20)])
  assert most[0] == 3


@pytest.mark.parametrize('fault', faults.PASSING)
def test_a_fault_that_passes_is_outlived(fault):
  def twice(handler, prompt, number):
    if number < 2:
      return faults.PASSING[fault](handler, prompt, number)
    return server.echo(handler, prompt, number)

  waits = Waits()
  options = faults.TIMEOUTS.get(fault, {})
  with asking(twice, sleep=waits, **options) as (judge, requests):
    assert judge(['a']) == ['reply to a']
    assert len(requests) == 3 and judge.stats().retries == 2
  assert waits == [1.0, 2.0]


@pytest.mark.parametrize('fault', faults.PASSING)
def test_a_fault_that_stays_is_one_error(fault):
  options = {'retries': 1} | faults.TIMEOUTS.get(fault, {})
  with asking(faults.PASSING[fault], **options) as (judge, _):
    with pytest.raises(
      types.JudgeUnavailable, match=r'm at 127\.0\.0\.1'
    ) as error:
      judge(['a', 'b', 'c'])
    assert len(str(error.value)) < 600 and '\n' not in str(error.value)
    # It does not try again.
    calls = judge.stats().calls
    with pytest.raises(types.JudgeUnavailable):
      judge(['d'])
    assert judge.stats().calls == calls


def test_waits_double_up_to_a_minute_and_are_jittered():
  waits = Waits()
  options = {'retries': 9, 'sleep': waits, 'jitter': lambda: 0.0}
  with (
    asking(faults.status(500), **options) as (judge, _),
    pytest.raises(types.JudgeUnavailable, match='10 times'),
  ):
    judge(['a'])
  # Half of 1, 2, 4 … 32, 60, 60, 60: with the jitter's lowest draw.
  assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_retry_after_is_heeded():
  date = email.utils.formatdate(time.time() + 30, usegmt=True)
  headers = ['7', '0.5', date, 'soon', '-3', '99999']

  def busy(handler, prompt, number):
    if number < len(headers):
      return 429, b'', {'Retry-After': headers[number]}
    return server.echo(handler, prompt, number)

  waits = Waits()
  with asking(busy, sleep=waits) as (judge, _):
    judge(['a'])
  assert waits[:2] == [7.0, 2.0]
  assert 25 < waits[2] <= 30
  # What says nothing changes nothing; nobody makes us wait for a day.
  assert waits[3:] == [8.0, 16.0, 60.0]


@pytest.mark.parametrize(
  'value', ['', '-1', 'x', '1e9', 'Wed, 99 Foo 2000', '٣']
)
def test_a_retry_after_without_meaning(value):
  assert completions.retry_after(value) == 0


@pytest.mark.parametrize('code', [301, 401, 403, 404])
def test_what_no_retry_mends_is_not_retried(code):
  waits = Waits()
  headers = {'Location': 'http://127.0.0.1:1/'}
  with asking(faults.status(code, b'why', **headers), sleep=waits) as (
    judge,
    _,
  ):
    with pytest.raises(types.JudgeUnavailable, match=f'status {code}, why'):
      judge(['a'])
    # The prompt, and a harmless one.
    assert judge.stats().calls == 2
  assert waits == []


@pytest.mark.parametrize('code', [200, 400, 403, 413, 500])
def test_a_prompt_that_alone_is_refused_gets_the_empty_reply(code, tmp_path):
  def refuse(handler, prompt, number):
    if 'poison' in prompt:
      return code, b'no'
    return server.echo(handler, prompt, number)

  options = {'retries': 2, 'cache': str(tmp_path / 'cache')}
  with asking(refuse, **options) as (judge, _):
    assert judge(['a', 'poison', 'b']) == ['reply to a', '', 'reply to b']
    assert judge(['poison']) == ['']  # Nothing was kept.
    assert judge.stats().refused == 2


def test_a_dead_judge_ends_what_all_callers_wait_for():
  asked = threading.Event()

  def hang_or_fail(handler, prompt, number):
    if prompt == 'slow':
      asked.set()
      time.sleep(20)
    return 401, b''

  with asking(hang_or_fail) as (judge, _):
    errors = []

    def wait():
      with pytest.raises(types.JudgeUnavailable) as error:
        judge(['slow'])
      errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked.wait(60)
    started = time.monotonic()
    with pytest.raises(types.JudgeUnavailable):
      judge(['a'])
    thread.join()
    assert errors and time.monotonic() - started < 5


def test_nobody_listens():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    url = f'http://127.0.0.1:{free.getsockname()[1]}/v1'
    with (
      contextlib.closing(connect(url, retries=2)) as judge,
      pytest.raises(types.JudgeUnavailable, match=r'ConnectError.*3 times'),
    ):
      judge(['a'])


def test_closing_ends_what_is_in_flight():
  asked = threading.Event()

  def hang(handler, prompt, number):
    asked.set()
    time.sleep(20)

  with asking(hang) as (judge, _):
    closer = threading.Thread(target=lambda: asked.wait(60) and judge.close())
    closer.start()
    with pytest.raises(types.JudgeUnavailable, match='closed'):
      judge(['a'])
    closer.join()
    with pytest.raises(types.JudgeUnavailable, match='closed'):
      judge(['a'])


def test_budgets():
  with asking(server.echo, max_calls=3, concurrency=1) as (judge, requests):
    judge(['a', 'b'])
    with pytest.raises(types.JudgeUnavailable, match=r'3 calls.*max_calls'):
      judge(['c', 'd'])
    assert len(requests) == 3
  # 10 tokens each: the second reply spends it.
  with asking(server.echo, max_total_tokens=15, concurrency=1) as (
    judge,
    requests,
  ):
    with pytest.raises(types.JudgeUnavailable, match='max_total_tokens'):
      judge(['a', 'b', 'c'])
    assert len(requests) == 2


@pytest.mark.parametrize('usage', [None, [], {'total_tokens': '7'}, {'x': 1}])
def test_tokens_are_estimated_where_the_server_is_silent(usage):
  answer = {'choices': [{'message': {'content': 'r' * 400}}], 'usage': usage}
  with asking(faults.body(json.dumps(answer).encode())) as (judge, _):
    judge(['p' * 4000])
    # 4,400 characters and the frame around the prompt.
    assert 1100 <= judge.stats().tokens < 1150


def test_a_model_that_declines_and_broken_text():
  declines = b'{"choices": [{"message": {"content": null}}]}'
  with asking(faults.body(declines)) as (judge, _):
    assert judge(['a']) == ['']
  half = b'{"choices": [{"message": {"content": "\\ud800"}}]}'
  with asking(faults.body(half)) as (judge, _):
    assert judge(['a']) == ['?']
  with asking(server.echo) as (judge, _):
    assert judge(['\ud800 \x00 "']) == ['reply to ? \x00 "']


def test_the_cache_outlives_a_client_and_is_shared(tmp_path):
  options = {'cache': str(tmp_path / 'new' / 'cache.sqlite')}
  with server.serving(server.echo) as (url, requests):
    with contextlib.closing(connect(url, **options)) as judge:
      judge(['a', 'b'])
    with (
      contextlib.closing(connect(url, **options)) as one,
      contextlib.closing(connect(url, **options)) as two,
    ):
      assert one(['a', 'b']) == ['reply to a', 'reply to b']
      two(['c'])
      assert one(['c']) == ['reply to c']
      assert one.stats().calls == 0 and one.stats().cached == 3
    # Another model is another judge.
    with contextlib.closing(connect(url, **options, model='n')) as judge:
      judge(['a'])
  assert len(requests) == 4


def test_what_was_answered_before_the_judge_died_is_kept(tmp_path):
  def die(handler, prompt, number):
    return server.echo(handler, prompt, number) if number < 3 else (401, b'')

  cache = str(tmp_path / 'cache')
  with (
    asking(die, cache=cache, concurrency=1) as (judge, _),
    pytest.raises(types.JudgeUnavailable),
  ):
    judge(['a', 'b', 'c', 'd'])
  with asking(server.echo, cache=cache) as (judge, requests):
    assert judge(['a', 'b', 'c', 'd'])[3] == 'reply to d'
    assert len(requests) == 1


def test_a_cache_that_cannot_be_used(tmp_path):
  path = tmp_path / 'cache'
  path.write_text('this is no database, and longer than its header ' * 30)
  with pytest.raises(types.JudgeUnavailable, match='name another one'):
    connect('http://127.0.0.1:1', cache=str(path))
  assert path.read_text().startswith('this')


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog):
  caplog.set_level(logging.DEBUG)
  monkeypatch.setenv('JUDGE_KEY', 'sk-secret123\n')

  def tell(handler, prompt, number):
    return 401, b'x' * 370 + b' you sent sk-secret123, which I do not know'

  with asking(tell, api_key_env='JUDGE_KEY') as (judge, requests):
    with pytest.raises(types.JudgeUnavailable) as error:
      judge(['a'])
    assert requests[0][1]['Authorization'] == 'Bearer sk-secret123'
    assert 'sk-' not in str(error.value) and 'sk-' not in repr(judge)
  assert 'sk-' not in caplog.text
  monkeypatch.setenv('JUDGE_KEY', 'sk-secret\n123')
  with pytest.raises(ValueError, match='JUDGE_KEY') as error:
    connect('http://127.0.0.1:1', api_key_env='JUDGE_KEY')
  assert 'sk-' not in str(error.value)


@pytest.mark.parametrize(
  'options',
  [
    {'base_url': 'localhost:30000'},
    {'base_url': 'http://a:port'},
    {'model': ''},
    {'concurrency': 0},
    {'retries': -1},
    {'max_tokens': 0},
  ],
)
def test_arguments_without_meaning_are_refused(options):
  with pytest.raises(ValueError, match='judge'):
    client.HttpJudge(**({'base_url': 'http://a', 'model': 'm'} | options))
