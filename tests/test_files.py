import json
import os

import pytest

from wideseek_jax import files


def test_a_missing_folder_is_made(tmp_path):
  files.write_text(tmp_path / 'a' / 'b.txt', 'Zürich')
  assert (tmp_path / 'a' / 'b.txt').read_bytes() == 'Zürich'.encode()


def test_rows_are_one_json_object_a_line(tmp_path):
  files.write_jsonl(tmp_path / 'x.jsonl', [{'city': 'Zürich'}, {'n': 2}])
  lines = (tmp_path / 'x.jsonl').read_text().split('\n')
  assert lines == ['{"city": "Zürich"}', '{"n": 2}', '']


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'x.jsonl'
  files.write_jsonl(path, [{'n': 1}])

  def rows():
    yield {'n': 2}
    raise RuntimeError('half way')

  with pytest.raises(RuntimeError, match='half way'):
    files.write_jsonl(path, rows())
  assert json.loads(path.read_text()) == {'n': 1}
  assert os.listdir(tmp_path) == ['x.jsonl']


def test_the_old_file_stands_until_the_block_ends(tmp_path):
  path = tmp_path / 'x.txt'
  files.write_text(path, 'old')
  with files.replacing(path) as partial:
    partial.write_text('new')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
