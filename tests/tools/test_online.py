"""Services and pages that behave, and above all those that do not."""

import contextlib
import gzip
import json
import logging
import threading
import time
import zlib

import pytest

from tests.tools import hostile, sockets
from wideseek_jax import types

online = pytest.importorskip(
  'wideseek_jax.tools.online', reason='needs wideseek_jax[online]'
)
from wideseek_jax.tools import web  # noqa: E402

_KEY = 'serper-key-0123456789'
# A busy machine may stop for a while, so only those that must wait wait little.
_SECONDS = {'no answer within 1 s': 1.0}
_OFTEN_S = 60.0
# What the machine may add to a deadline.
_GRACE = 20.0


@pytest.fixture(autouse=True)
def key(monkeypatch):
  monkeypatch.setenv('SERPER_API_KEY', _KEY)


@contextlib.contextmanager
def opened(**options):
  """Tools that may read pages from 127.0.0.1, and from no other here."""
  defaults = {'allowed': ('127.0.0.1/32',), 'cache': '', 'per_second': 0.0}
  with contextlib.closing(online.OnlineTools(**defaults | options)) as tools:
    yield tools


def found(*links):
  hits = [{'link': x, 'title': f'T {x}', 'snippet': 's'} for x in links]
  return json.dumps({'searchParameters': {}, 'organic': hits}).encode()


def test_a_search_asks_the_service_and_keeps_its_hits():
  heads = []

  def answer(connection, path, head, number):
    heads.append(head)
    return sockets.response(found('a', 'b', 'c'), kind='application/json')

  with sockets.serving(answer) as (url, _), opened(search_url=url) as tools:
    assert tools.search('x' * 3000, 2) == [
      types.Hit('a', 'T a', 's'),
      types.Hit('b', 'T b', 's'),
    ]
    assert tools.search('rivers', 0) == []
  (head,) = heads
  assert head.startswith('post / ') and f'x-api-key: {_KEY}' in head


def test_a_page_is_read_with_its_table_and_without_its_navigation():
  with (
    sockets.serving(lambda *_: sockets.response(hostile.PAGE)) as (url, paths),
    opened() as tools,
  ):
    page = tools.access(f'{url}/rivers?a=1#top')
  assert paths == ['/rivers?a=1']
  assert page.url == f'{url}/rivers?a=1' and page.title == "Peru's rivers"
  assert 'flows through the' in page.contents and 'Home' not in page.contents
  assert '| Rimac | 160 |' in page.contents


def test_packed_and_plain_pages_and_those_of_other_encodings_are_read():
  pages = {
    '/gzip': sockets.response(
      gzip.compress(hostile.PAGE), Content_Encoding='gzip'
    ),
    '/zlib': sockets.response(
      zlib.compress(hostile.PAGE), Content_Encoding='deflate'
    ),
    '/text': sockets.response(
      'Zürich'.encode('latin-1'), kind='text/plain; charset=latin-1'
    ),
    '/json': sockets.response(b'{"a": 1}', kind='application/json'),
    '/odd': sockets.response(b'odd', kind='text/plain; charset=no-such'),
    '/moved': sockets.response(status='302 Found', Location='/text'),
  }
  with (
    sockets.serving(lambda c, path, *_: pages[path]) as (url, _),
    opened() as tools,
  ):
    texts = {path: tools.access(url + path).contents for path in pages}
  assert 'Rimac' in texts['/gzip'] and texts['/gzip'] == texts['/zlib']
  assert texts['/text'] == texts['/moved'] == 'Zürich'
  assert texts['/json'] == '{"a": 1}' and texts['/odd'] == 'odd'


@pytest.fixture(scope='module')
def clients(tmp_path_factory):
  """One for all hostile servers of a deadline: none may spoil it."""
  path = str(tmp_path_factory.mktemp('online') / 'web.sqlite')
  options = {'retries': 0, 'max_bytes': 10**6, 'cache': path}
  with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
    patch.setenv('SERPER_API_KEY', _KEY)
    yield {
      seconds: stack.enter_context(opened(seconds=seconds, **options))
      for seconds in (1.0, _OFTEN_S)
    }


@pytest.mark.parametrize(
  ('server', 'reason'),
  hostile.HOSTILE,
  ids=[one.__name__ for one, _ in hostile.HOSTILE],
)
def test_a_hostile_server_is_a_short_error_in_time(clients, server, reason):
  seconds = _SECONDS.get(reason, _OFTEN_S)
  tools = clients[seconds]
  with sockets.serving(server) as (url, paths):
    start = time.monotonic()
    with pytest.raises(web.WebError) as error:
      tools.access(f'{url}/page')
    assert time.monotonic() - start < seconds + _GRACE
    assert str(error.value) == reason
    # A failure is not kept as content: the server is asked again.
    asked = len(paths)
    assert asked > 0
    if reason not in _SECONDS:
      with pytest.raises(web.WebError):
        tools.access(f'{url}/page')
      assert len(paths) == 2 * asked


@pytest.mark.parametrize(
  'url',
  [
    *('http://127.0.0.2:1/', 'http://localhost:1/', 'http://[::1]:1/'),
    *(
      'http://0x7f000002:1/',
      'http://2130706434:1/',
      'http://169.254.169.254/',
    ),
    *('file:///etc/passwd', 'ftp://a.b/', 'gopher://a.b/', '/etc/passwd', ''),
    *(
      'http://',
      'http:///a',
      'http://user:pass@8.8.8.8/',
      'http://a b/',
      '\x00',
    ),
    *('http://[::1', 'http://' + 'a' * 300 + '/', 'http://a:99999/', '\ud800'),
    'http://xn--a\u0301.invalid/',
  ],
)
def test_no_private_or_odd_url_is_opened(clients, url):
  with pytest.raises(web.WebError):
    clients[_OFTEN_S].access(url)


def test_the_address_that_was_checked_is_the_one_that_is_asked():
  told = ['127.0.0.1', '127.0.0.2']
  asked = []

  async def resolve(host, port):
    asked.append(host)
    return [told[len(asked) - 1]]

  with (
    sockets.serving(lambda *_: sockets.response(hostile.PAGE)) as (url, _),
    opened(resolve=resolve, retries=0) as tools,
  ):
    port = url.rpartition(':')[2]
    assert tools.access(f'http://rebinding.example:{port}/').title
    # One look-up a connection: nobody can tell another address in between.
    assert asked == ['rebinding.example']
    with pytest.raises(web.WebError, match='connection failed'):
      tools.access(f'http://rebinding.example:{port}/again')
    assert asked == ['rebinding.example'] * 2


def test_what_passes_is_tried_again_and_what_stays_is_not():
  statuses = {
    '/later': ['503 a', '429 b', '200 OK'],
    '/never': ['403 a', '200 OK'],
    '/gone': ['404 a', '200 OK'],
    # Who is told to come back tomorrow need not wait for the deadline.
    '/tomorrow': ['429 a', '200 OK'],
  }
  waits = {'/tomorrow': '86400'}
  with (
    sockets.serving(
      lambda c, path, *_: sockets.response(
        hostile.PAGE, statuses[path].pop(0), Retry_After=waits.get(path, '0')
      )
    ) as (url, paths),
    opened(retries=2) as tools,
  ):
    assert tools.access(f'{url}/later').title == "Peru's rivers"
    with pytest.raises(web.WebError, match='status 403'):
      tools.access(f'{url}/never')
    assert tools.access(f'{url}/gone') is None
    with pytest.raises(web.WebError, match='status 429'):
      tools.access(f'{url}/tomorrow')
  assert paths == ['/later'] * 3 + ['/never', '/gone', '/tomorrow']


def test_answers_are_kept_for_all_processes_and_failures_are_not(tmp_path):
  said = [
    sockets.response(status='500 a'),
    sockets.response(b'{"message": "no credit"}', kind='application/json'),
    sockets.response(found('a'), kind='application/json'),
  ]
  cache = str(tmp_path / 'web.sqlite')
  with sockets.serving(lambda *_: said.pop(0)) as (url, paths):
    with opened(search_url=url, cache=cache, retries=0) as tools:
      with pytest.raises(web.WebError, match='status 500'):
        tools.search('a', 1)
      with pytest.raises(web.WebError, match='nonsense'):
        tools.search('a', 1)
      assert len(tools.search('a', 1)) == 1
    with opened(search_url=url, cache=cache) as tools:
      assert len(tools.search('a', 1)) == 1  # Nobody is left to ask.
  assert len(paths) == 3


def test_what_many_ask_at_once_is_asked_once():
  def answer(*_):
    time.sleep(0.2)
    return sockets.response(found('a'), kind='application/json')

  with (
    sockets.serving(answer) as (url, paths),
    opened(search_url=url) as tools,
  ):
    results = []
    threads = [
      threading.Thread(target=lambda: results.append(tools.search('a', 1)))
      for _ in range(8)
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
  assert len(paths) == 1 and results == [[types.Hit('a', 'T a', 's')]] * 8


@pytest.mark.parametrize(
  'body',
  [
    *(b'', b'[]', b'null', b'{"organic": 3, "searchParameters": {}}'),
    *(b'{"organic": [3]}', b'{"organic": [{}]}', b'[' * 100_000, b'\xff'),
  ],
)
def test_a_service_that_answers_nonsense_is_an_error(body):
  with (
    sockets.serving(lambda *_: sockets.response(body)) as (url, _),
    opened(search_url=url) as tools,
    pytest.raises(web.WebError, match='answered nonsense'),
  ):
    tools.search('a', 3)


def test_a_reader_is_asked_for_public_pages_only_and_told_no_secrets(
  monkeypatch, caplog
):
  """Keys go to their service and are seen nowhere else."""
  caplog.set_level(logging.DEBUG)
  monkeypatch.setenv('JINA_API_KEY', 'jina-key-987')
  texts = [
    'Title: Rivers\n\nURL Source: x\n\nMarkdown Content:\njina-key-987 Rimac',
    'Title: x\n\nWarning: Target URL returned error 404: Not Found\n\n'
    'Markdown Content:\nNo such page',
    'Title: x\n\nWarning: Target URL returned error 403: No\n\n'
    'Markdown Content:\nForbidden',
  ]
  heads = []

  def answer(connection, path, head, number):
    heads.append(head)
    return sockets.response(texts.pop(0).encode(), kind='text/plain')

  with (
    sockets.serving(answer) as (url, paths),
    opened(reader_url=f'{url}/read/', retries=0) as tools,
  ):
    page = tools.access('http://127.0.0.1/rivers?a=b')
    assert page == types.Page(
      'http://127.0.0.1/rivers?a=b', 'Rivers', '*** Rimac'
    )
    assert tools.access('http://127.0.0.1/none') is None
    with pytest.raises(web.WebError, match='status 403'):
      tools.access('http://127.0.0.1/forbidden')
    with pytest.raises(web.WebError, match='not on the public internet'):
      tools.access('http://127.0.0.2/')
  assert paths[0] == '/read/http://127.0.0.1/rivers?a=b' and len(paths) == 3
  assert 'authorization: bearer jina-key-987' in heads[0]
  assert 'key' not in caplog.text


def test_a_key_is_needed_and_never_told(monkeypatch):
  monkeypatch.setenv('SERPER_API_KEY', 'se cret')
  with pytest.raises(ValueError, match='blanks') as error:
    online.OnlineTools(cache='')
  assert 'cret' not in str(error.value)
  monkeypatch.delenv('SERPER_API_KEY')
  with pytest.raises(ValueError, match='export SERPER_API_KEY'):
    online.OnlineTools(cache='')


def test_requests_begin_at_the_rate_that_is_set():
  starts = []

  def answer(*_):
    starts.append(time.monotonic())
    return sockets.response(found('a'))

  with (
    sockets.serving(answer) as (url, _),
    opened(search_url=url, per_second=20.0) as tools,
  ):
    for number in range(4):
      tools.search(str(number), 1)
  # Three gaps of 50 ms, however fast the machine is.
  assert starts[-1] - starts[0] > 0.14


def test_closing_ends_what_is_in_flight():
  began = threading.Event()

  def answer(connection, *_):
    began.set()
    connection.recv(1)

  errors = []

  def ask(tools, url):
    try:
      tools.access(url)
    except BaseException as error:
      errors.append(error)

  with sockets.serving(answer) as (url, _):
    with opened() as tools:
      thread = threading.Thread(target=ask, args=(tools, url))
      thread.start()
      assert began.wait(60)
    thread.join(60)
  assert len(errors) == 1
