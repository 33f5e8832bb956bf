import contextlib
import sys

import pytest

import wideseek_jax as ws
from wideseek_jax import backends, build, types
from wideseek_jax.tools import text_index


def config_of(kind):
  config = ws.default_config('tiny')
  config.tools.kind = kind
  return config


def test_an_index_on_disk_is_a_back_end(tmp_path):
  page = types.Page('wiki/Lima', 'Lima', 'Lima\ncity of Peru')
  text_index.build([page], tmp_path / 'index')
  config = config_of('text')
  config.tools.text.folder = str(tmp_path / 'index')
  tools = build.build_tools(config)
  assert [hit.url for hit in tools.search('peru', 3)] == [page.url]
  assert tools.access(page.url) == page
  assert build.build_retriever(config).pages([page.url]) == [page]


def test_a_server_is_a_back_end():
  with contextlib.closing(build.build_tools(config_of('server'))) as tools:
    assert tools.search('peru', 0) == []


def test_the_web_is_a_back_end(monkeypatch):
  pytest.importorskip('trafilatura', reason='needs wideseek_jax[online]')
  monkeypatch.setenv('SERPER_API_KEY', 'a')
  config = config_of('online')
  config.tools.online.cache = ''
  with contextlib.closing(build.build_tools(config)) as tools:
    assert tools.search('peru', 0) == []
  config.tools.online.allowed = ('10.0.0.1/8',)
  with pytest.raises(ValueError, match='has host bits set'):
    build.build_tools(config)


@pytest.mark.parametrize(
  ('kind', 'what'),
  [
    ('text', 'no index in'),
    ('hybrid', 'no index in'),
    ('dense', 'no encoder at'),
    ('what', "kind='what' has no index"),
  ],
)
def test_what_is_missing_is_said_in_a_line(kind, what):
  with pytest.raises((ValueError, OSError), match=what):
    build.build_tools(config_of(kind))


def test_what_has_no_index_cannot_be_served():
  with pytest.raises(ValueError, match="kind='online' has no index"):
    build.build_retriever(config_of('online'))


def test_a_missing_package_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'qdrant_client', None)
  monkeypatch.delitem(sys.modules, 'wideseek_jax.tools.dense', raising=False)
  with pytest.raises(ValueError, match=r'pip install "wideseek_jax\[dense\]"'):
    backends.module('tools.dense')
