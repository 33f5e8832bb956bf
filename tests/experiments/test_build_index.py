import json

import pytest

from tests.experiments import helpers
from tests.models import bert_folder
from wideseek_jax.tools import text_index


def write(path, count):
  with path.open('w') as file:
    for i in range(count):
      page = {'id': str(i), 'url': f'u{i}', 'title': f'w{i}'}
      file.write(json.dumps(page | {'contents': f'w{i} w{i % 5}'}) + '\n')


def test_a_corpus_becomes_an_index(tmp_path):
  write(tmp_path / 'pages.jsonl', 20)
  found = helpers.run(
    'build_index',
    f'--corpus={tmp_path / "pages.jsonl"}',
    f'--out={tmp_path / "index"}',
    timeout=200,
  )
  assert found.returncode == 0, found.stderr
  assert '20 pages' in found.stdout
  index = text_index.TextIndex(str(tmp_path / 'index'))
  assert len(index) == 20
  assert index.retrieve(['w7'], 1)[0][0].page.url == 'u7'


@pytest.mark.slow
def test_vectors_are_planned_indexed_and_searched(tmp_path):
  pytest.importorskip('qdrant_client', reason='needs wideseek_jax[dense]')
  bert_folder.write(tmp_path / 'model')
  write(tmp_path / 'pages.jsonl', 20)
  options = [
    f'--config.tools.encoder.folder={tmp_path / "model"}',
    '--config.tools.encoder.max_tokens=16',
    f'--config.tools.dense.url={tmp_path / "qdrant"}',
  ]
  build = ['--dense', f'--corpus={tmp_path / "pages.jsonl"}', *options]
  found = helpers.run(
    'build_index', *build, '--plan', '--plan_passages=1000000', timeout=300
  )
  assert found.stdout.startswith('1,000,000 passages, vectors of 8 numbers')
  # Again, with nothing left to do.
  for _ in range(2):
    found = helpers.run('build_index', *build, timeout=300)
    assert 'holds 20 passages' in found.stdout, found.stderr
  found = helpers.run(
    'try_tools', 'w7', '--config.tools.kind=dense', *options, timeout=300
  )
  assert found.stdout.splitlines()[-1] == '# the tools work', found.stderr
