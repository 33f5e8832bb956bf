"""The notebooks: run from top to bottom, and kept with what they showed."""

import os
import pathlib

import pytest

nbformat = pytest.importorskip('nbformat', reason='pip install nbformat')
nbclient = pytest.importorskip('nbclient', reason='pip install nbclient')

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / 'experiments/colabs').glob('*.ipynb'))
BADGE = 'https://colab.research.google.com/assets/colab-badge.svg'


def _code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def _outputs(notebook):
  return [output for cell in _code(notebook) for output in cell.outputs]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_ran(path):
  notebook = nbformat.read(path, 4)
  nbformat.validate(notebook)
  assert BADGE in notebook.cells[0].source
  counts = [cell.execution_count for cell in _code(notebook)]
  assert counts == list(range(1, len(counts) + 1))
  outputs = _outputs(notebook)
  assert all(output.output_type != 'error' for output in outputs)
  assert any('image/png' in output.get('data', {}) for output in outputs)
  # What somebody else would write belongs in the package.
  source = '\n'.join(cell.source for cell in _code(notebook))
  assert source.count('\ndef ') <= 1 and 'class ' not in source
  assert path.stat().st_size < 500_000


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, monkeypatch):
  pytest.importorskip('ipykernel', reason='pip install ipykernel')
  monkeypatch.setenv('WIDESEEK_SMALL', '1')
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
  search = [str(ROOT), os.environ.get('PYTHONPATH', '')]
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join(filter(None, search)))
  notebook = nbformat.read(path, 4)
  for cell in _code(notebook):
    cell.outputs = []
  client = nbclient.NotebookClient(
    notebook,
    timeout=280,
    kernel_name='python3',
    resources={'metadata': {'path': str(ROOT)}},
  )
  client.execute()
  assert any('image/png' in out.get('data', {}) for out in _outputs(notebook))
