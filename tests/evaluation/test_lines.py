import pytest

from wideseek_jax.evaluation import lines


@pytest.mark.parametrize(
  ('text', 'kept', 'number'),
  [
    ('', '', None),
    ('{"a": 1}\n', '{"a": 1}\n', None),
    ('{"a": 1}', '', 1),
    ('{"a": 1}\n\n{"a": "é', '{"a": 1}\n\n', 3),
  ],
)
def test_a_torn_end_is_cut(text, kept, number, tmp_path):
  path = tmp_path / 'f.jsonl'
  path.write_text(text, encoding='utf-8')
  found = lines.cut_torn_end(path)
  assert path.read_text() == kept
  assert (found is None) == (number is None)
  if number:
    assert found.startswith(f'{path}:{number}: ')
  assert lines.cut_torn_end(path) is None


def test_no_file_has_no_torn_end(tmp_path):
  assert lines.cut_torn_end(tmp_path / 'none') is None
  assert not (tmp_path / 'none').exists()
