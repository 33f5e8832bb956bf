"""The server on a real socket, its client, and a crowd."""

import concurrent.futures
import contextlib
import http.client
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tests.experiments import helpers
from tests.tools import sockets
from wideseek_jax import types
from wideseek_jax.tools import (
  corpus,
  remote,
  retrieval,
  search,
  text_index,
  web,
)

server = pytest.importorskip(
  'wideseek_jax.tools.server', reason='needs wideseek_jax[serve]'
)

_PAGES = tuple(
  types.Page(f'http://wiki/index.php?title={name}', name, f'{name}\n{text}')
  for name, text in (
    ('Lima', 'city of Peru'),
    ('Ica', 'another city of Peru'),
    ('Rimac', 'river 利马'),
  )
)


@pytest.fixture(scope='module')
def index():
  return search.SearchIndex(corpus.Corpus(_PAGES))


@contextlib.contextmanager
def serving(retriever, **options):
  listener = socket.create_server(('127.0.0.1', 0), backlog=512)
  running = server.make_uvicorn(server.SearchServer(retriever, **options))
  thread = threading.Thread(target=running.run, args=([listener],))
  thread.start()
  try:
    yield f'http://127.0.0.1:{listener.getsockname()[1]}'
  finally:
    running.should_exit = True
    thread.join()


@pytest.fixture(scope='module')
def url(index):
  with serving(index, max_count=5, max_queries=4) as url:
    yield url


def post(url, route, body):
  return httpx.post(url + route, json=body, timeout=60)


def _payload(page):
  return {'url': page.url, 'title': page.title, 'contents': page.contents}


def test_retrieve_is_the_references(url, index):
  answer = post(url, '/retrieve', {'queries': ['rimac', 'peru', ''], 'topk': 2})
  assert answer.status_code == 200
  assert answer.json() == {
    'result': [
      [_payload(page) for page, _ in found]
      for found in index.retrieve(['rimac', 'peru', ''], 2)
    ]
  }
  assert [len(found) for found in answer.json()['result']] == [1, 2, 0]
  body = {'queries': ['rimac'], 'return_scores': True}
  (((page, score),),) = index.retrieve(['rimac'], 3)
  assert post(url, '/retrieve', body).json() == {
    'result': [[{'document': _payload(page), 'score': score}]]
  }


def test_access_is_the_references(url):
  urls = [_PAGES[1].url, 'none', 'http://wiki/index.php/Lima']
  assert post(url, '/access', {'urls': urls}).json() == {
    'result': [_payload(_PAGES[1]), None, _payload(_PAGES[0])]
  }


@pytest.mark.parametrize(
  ('route', 'body', 'status'),
  [
    ('/retrieve', {'queries': 'peru'}, 422),
    ('/retrieve', {'queries': [3]}, 422),
    ('/retrieve', {'queries': ['a'] * 5}, 422),
    ('/retrieve', {}, 422),
    ('/retrieve', {'queries': ['a'], 'topk': 'five'}, 422),
    ('/retrieve', {'queries': ['a'], 'topk': 0}, 422),
    ('/retrieve', {'queries': ['a'], 'topk': 6}, 422),
    ('/retrieve', {'queries': ['a'], 'topk': True}, 422),
    ('/retrieve', {'queries': ['a'], 'return_scores': 1}, 422),
    ('/retrieve', ['peru'], 422),
    ('/access', {'urls': [None]}, 422),
    ('/access', 'x' * 5_000_000, 413),
    ('/nothing', {}, 404),
  ],
)
def test_bad_requests_are_refused_with_a_reason(url, route, body, status):
  answer = post(url, route, body)
  assert answer.status_code == status
  if status != 404:
    assert 0 < len(answer.json()['detail']) < 100


def test_a_body_that_is_no_json_is_refused(url):
  for body in (b'', b'{', b'\xff', b'[' * 100_000):
    answer = httpx.post(url + '/retrieve', content=body, timeout=60)
    assert answer.status_code in (400, 422)


def test_health_and_metrics_count_what_came(index):
  with serving(index) as url:
    for body in ({'queries': ['peru']}, {'queries': ['lima']}, {}):
      post(url, '/retrieve', body)
    health = httpx.get(url + '/health').json()
    text = httpx.get(url + '/metrics').text
  assert health == {'status': 'ok', 'waiting': {'/retrieve': 0, '/access': 0}}
  assert '_requests_total{route="/retrieve",status="200"} 2\n' in text
  assert '_requests_total{route="/retrieve",status="422"} 1\n' in text
  assert 'seconds_count{route="/retrieve"} 3\n' in text
  counts = re.findall(r'bucket{route="/retrieve",le="[^"]*"} (\d+)', text)
  assert [int(n) for n in counts] == sorted(int(n) for n in counts)
  assert counts[-1] == '3'


class _Slow:
  """Finds every query as a page, batch by batch once it may."""

  def __init__(self):
    self.go = threading.Event()
    self.batches = []

  def retrieve(self, queries, count):
    self.batches.append(len(queries))
    assert self.go.wait(60)
    if 'broken' in queries:
      raise RuntimeError('at /a/secret/path')
    return [[retrieval.Scored(types.Page(q, q, q), 1.0)] for q in queries]

  def pages(self, urls):
    return [None for _ in urls]


def test_a_full_queue_answers_at_once_and_what_waits_is_one_batch():
  slow = _Slow()
  with (
    serving(slow, max_waiting=3, threads=1) as url,
    concurrent.futures.ThreadPoolExecutor(4) as pool,
  ):

    def ask(query):
      return post(url, '/retrieve', {'queries': [query]})

    asked = [pool.submit(ask, 'a')]
    wait_until(lambda: slow.batches)
    asked += [pool.submit(ask, query) for query in 'bcd']
    wait_until(
      lambda: httpx.get(url + '/health').json()['waiting']['/retrieve'] == 3
    )
    full = ask('e')
    assert full.status_code == 503 and full.headers['retry-after'] == '1'
    slow.go.set()
    for query, answer in zip('abcd', asked, strict=True):
      assert answer.result().json()['result'][0][0]['url'] == query
  assert slow.batches == [1, 3]


def test_a_fault_of_the_index_tells_no_secrets(caplog):
  slow = _Slow()
  slow.go.set()
  with serving(slow) as url:
    answer = post(url, '/retrieve', {'queries': ['broken']})
  assert answer.status_code == 500
  assert answer.json() == {'detail': 'the search failed'}
  assert '/a/secret/path' in caplog.text


def wait_until(holds):
  deadline = time.monotonic() + 60
  while not holds():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_the_client_is_the_index_itself(url, index):
  local = retrieval.RetrieverTools(index, snippet_chars=9)
  with contextlib.closing(
    remote.RemoteTools(url=url, snippet_chars=9)
  ) as tools:
    for query in ('peru', 'rimac 利马', 'none', '', '\ud800'):
      assert tools.search(query, 3) == local.search(query, 3)
    assert tools.search('peru', 0) == []
    for page in (_PAGES[0].url, 'none', ''):
      assert tools.access(page) == local.access(page)


@pytest.mark.parametrize(
  'result',
  [
    *('[]', '{}', '{"result": []}', '{"result": [[3]]}', '{"result": 3}', ''),
    *('{"result": [[{"url": "a"}]]}', '{"result": [3]}', 'null'),
    '{"result": [[{"url": 3, "contents": ""}]]}',
  ],
)
def test_a_server_that_answers_nonsense_is_an_error(result):
  with (
    sockets.serving(lambda *_: sockets.response(result.encode())) as (url, _),
    contextlib.closing(remote.RemoteTools(url=url)) as tools,
  ):
    for call in (lambda: tools.search('a', 3), lambda: tools.access('a')):
      with pytest.raises(web.WebError, match='answered nonsense'):
        call()


def test_a_server_that_is_not_there_is_an_error():
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  with (
    contextlib.closing(
      remote.RemoteTools(url=f'http://127.0.0.1:{port}', retries=1)
    ) as tools,
    pytest.raises(web.WebError, match=r'connection failed \(ConnectError\)'),
  ):
    tools.search('a', 3)
  with pytest.raises(ValueError, match='such as http'):
    remote.RemoteTools(url='localhost:8000')


def crowd(connect, index, clients, requests):
  """Every client asks one after the other; the seconds of each answer.

  `connect()` yields a client's function from a query to the urls found.
  """
  queries = ('peru', 'rimac', 'lima city', 'another', 'none')
  expected = {
    query: [page.url for page, _ in index.retrieve([query], 3)[0]]
    for query in queries
  }
  start = threading.Barrier(clients)

  def client(number):
    seconds = []
    with connect() as ask:
      start.wait(60)
      for turn in range(requests):
        query = queries[(number + turn) % len(queries)]
        begin = time.perf_counter()
        urls = ask(query)
        seconds.append(time.perf_counter() - begin)
        assert urls == expected[query]
    return seconds

  with concurrent.futures.ThreadPoolExecutor(clients) as pool:
    return sorted(
      itertools.chain.from_iterable(pool.map(client, range(clients)))
    )


def test_a_small_crowd_loses_nothing_though_the_queue_is_short(index):
  with (
    serving(index, max_waiting=4, max_batch=4) as url,
    contextlib.closing(remote.RemoteTools(url=url, seconds=300)) as tools,
  ):

    def connect():
      return contextlib.nullcontext(
        lambda query: [hit.url for hit in tools.search(query, 3)]
      )

    assert len(crowd(connect, index, clients=12, requests=3)) == 36


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_clients_lose_nothing(index):
  with serving(index) as url:

    @contextlib.contextmanager
    def connect():
      # Lighter than httpx: the server is what is timed.
      host = url.removeprefix('http://')
      with contextlib.closing(http.client.HTTPConnection(host)) as connection:

        def ask(query):
          body = json.dumps({'queries': [query], 'topk': 3})
          connection.request('POST', '/retrieve', body)
          found = json.loads(connection.getresponse().read())
          return [payload['url'] for payload in found['result'][0]]

        yield ask

    seconds = crowd(connect, index, clients=200, requests=5)
  assert len(seconds) == 1000
  print(
    f'200 clients, 1,000 requests, none lost: p50 {seconds[500] * 1000:.0f} '
    f'ms, p99 {seconds[990] * 1000:.0f} ms'
  )


def test_sigterm_answers_what_is_under_way_and_ends_the_command(tmp_path):
  text_index.build(_PAGES, tmp_path / 'index')
  with subprocess.Popen(
    [
      *(sys.executable, '-m', 'experiments.serve_search', '--port=0'),
      *(
        '--config.tools.kind=text',
        f'--config.tools.text.folder={tmp_path / "index"}',
      ),
    ],
    cwd=helpers.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      line = process.stdout.readline()
      url = line.removeprefix('serving on ').strip()
      assert url.startswith('http://127.0.0.1:'), process.stderr.read()
      answer = post(url, '/retrieve', {'queries': ['rimac']}).json()
      assert answer['result'][0][0] == _payload(_PAGES[2])
      process.send_signal(signal.SIGTERM)
      out, err = process.communicate(timeout=120)
    finally:
      process.kill()
  assert process.returncode == 0, err
  assert out.startswith('stopped') and err == ''
