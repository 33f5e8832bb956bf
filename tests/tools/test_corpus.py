import json

import pytest

from wideseek_jax import types
from wideseek_jax.tools import corpus

_PAGES = (
  types.Page('facts/0', 'Ünïcode (lake)', 'lake: Ünïcode\ndepth m: 3'),
  types.Page('facts/1', 'Empty', ''),
)


def test_saved_corpus_loads_equal_and_has_the_documented_form(tmp_path):
  path = tmp_path / 'deep' / 'corpus.jsonl'
  corpus.save_jsonl(corpus.Corpus(_PAGES), path)
  assert corpus.load_jsonl(path) == corpus.Corpus(_PAGES)
  lines = path.read_text(encoding='utf-8').splitlines()
  assert json.loads(lines[0]) == {
    'id': '0',
    'url': 'facts/0',
    'title': 'Ünïcode (lake)',
    'contents': 'lake: Ünïcode\ndepth m: 3',
  }
  assert [path] == list(path.parent.iterdir())  # No partial file is left.


def test_page_is_found_by_exact_url_only():
  pages = corpus.Corpus(_PAGES)
  assert pages.by_url['facts/1'] is _PAGES[1]
  assert 'facts/1 ' not in pages.by_url


def test_two_pages_with_one_url_are_refused():
  with pytest.raises(ValueError, match="two pages have the url 'facts/0'"):
    corpus.Corpus((_PAGES[0], _PAGES[1], _PAGES[0]))


_GOOD = '{"id": "0", "url": "u", "title": "t", "contents": "c", "more": 1}'


@pytest.mark.parametrize(
  ('line', 'what'),
  [
    ('{"url": "v"', 'not JSON'),
    ('', 'not JSON'),
    ('["v"]', 'not an object'),
    ('{"url": "v", "title": "t"}', "'contents' is missing"),
    ('{"url": 3, "title": "t", "contents": "c"}', "'url' is missing or no"),
    (_GOOD, "has the url 'u' too"),
  ],
)
def test_bad_line_is_named(tmp_path, line, what):
  path = tmp_path / 'corpus.jsonl'
  path.write_text(f'{_GOOD}\n{line}\n', encoding='utf-8')
  with pytest.raises(ValueError, match=f'corpus.jsonl:2: .*{what}'):
    corpus.load_jsonl(path)


def test_empty_file_is_refused(tmp_path):
  path = tmp_path / 'corpus.jsonl'
  path.write_text('')
  with pytest.raises(ValueError, match='no pages'):
    corpus.load_jsonl(path)
  with pytest.raises(FileNotFoundError):
    corpus.load_jsonl(tmp_path / 'none.jsonl')
