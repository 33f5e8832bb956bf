"""Folders that are torn or do not fit: errors that name file and tensor."""

import json

import numpy as np
import pytest
import safetensors.numpy

from wideseek_jax import testing
from wideseek_jax.models import hf

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
OUT = 'model.layers.1.self_attn.o_proj.weight'  # [32, 32]


@pytest.fixture(scope='module')
def model():
  return testing.small_model()


@pytest.fixture
def single(tmp_path, model):
  """A folder with one file."""
  hf.save_pretrained(tmp_path, *model, dtype='float32')
  return tmp_path


@pytest.fixture
def several(tmp_path, model):
  """A folder with several files."""
  hf.save_pretrained(tmp_path, *model, dtype='float32', max_file_bytes=40_000)
  return tmp_path


def change(file, edit):
  tensors = safetensors.numpy.load_file(file)
  edit(tensors)
  safetensors.numpy.save_file(tensors, file)


def change_index(folder, edit):
  index = json.loads((folder / INDEX).read_text())
  edit(index['weight_map'])
  (folder / INDEX).write_text(json.dumps(index))


def refused(folder, message):
  with pytest.raises(ValueError, match=message) as error:
    hf.load_pretrained(folder)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('left', [0, 5, 500, -1])
def test_a_torn_file(single, left):
  file = single / SINGLE
  file.write_bytes(file.read_bytes()[:left])
  refused(single, rf'{SINGLE} is torn .* download or export the folder again')


def test_a_torn_file_of_several(several):
  file = several / json.loads((several / INDEX).read_text())['weight_map'][OUT]
  file.write_bytes(file.read_bytes()[:-1])
  refused(several, f'{file.name} is torn')


def test_a_renamed_tensor(single):
  def edit(tensors):
    tensors['model.odd'] = tensors.pop('model.norm.weight')

  change(single / SINGLE, edit)
  refused(single, rf"{SINGLE}: missing .*'model\.norm.*unknown.*'model\.odd'")


def test_a_wrong_shape(single):
  change(
    single / SINGLE, lambda tensors: tensors.update({OUT: np.ones((8, 2))})
  )
  refused(single, rf'{SINGLE}: {OUT} has shape \(8, 2\), not \(32, 32\)')


def test_a_wrong_type(single):
  wrong = np.ones((32, 32), np.int8)
  change(single / SINGLE, lambda tensors: tensors.update({OUT: wrong}))
  refused(single, rf'{SINGLE}: {OUT} is stored as I8; export .*bfloat16')


def test_no_weights(single):
  (single / SINGLE).unlink()
  with pytest.raises(FileNotFoundError, match=rf'neither {SINGLE} nor'):
    hf.load_pretrained(single)


def test_a_file_of_the_index_is_not_there(several):
  where = json.loads((several / INDEX).read_text())['weight_map'][OUT]
  (several / where).unlink()
  names = r'model\.\S+'
  refused(several, rf'{INDEX} has {names} in {where}, which is not there')


def test_a_tensor_is_not_where_the_index_says(several):
  where = json.loads((several / INDEX).read_text())['weight_map'][OUT]
  change(several / where, lambda tensors: tensors.pop(OUT))
  refused(several, rf'{INDEX} has {OUT} in {where}, where it is not')


def test_a_tensor_that_the_index_does_not_list_is_unknown(several):
  where = json.loads((several / INDEX).read_text())['weight_map'][OUT]
  extra = {'model.odd': np.ones(2, np.float32)}
  change(several / where, lambda tensors: tensors.update(extra))
  refused(several, r"unknown tensors \['model\.odd'\]")


def test_a_tensor_in_two_files(several):
  listed = json.loads((several / INDEX).read_text())['weight_map']
  other = next(file for file in listed.values() if file != listed[OUT])
  twice = {OUT: np.ones((32, 32), np.float32)}
  change(several / other, lambda tensors: tensors.update(twice))
  refused(several, rf'{OUT} is in .*{SINGLE[-11:]} and in')


@pytest.mark.parametrize('name', ['index', 'config'])
@pytest.mark.parametrize('text', ['{"weight_map": {', '[]', '\udcff'])
def test_torn_json(several, name, text):
  file = several / {'index': INDEX, 'config': 'config.json'}[name]
  file.write_bytes(text.encode(errors='surrogateescape'))
  refused(several, rf'{file.name} (is torn or no JSON|holds no JSON object)')


@pytest.mark.parametrize(
  'where', ['../away.safetensors', '/etc/passwd', '..', 3]
)
def test_the_index_names_no_file_beside_it(several, where):
  change_index(several, lambda listed: listed.update({OUT: where}))
  refused(several, f'{INDEX}: weight_map must name a file beside it')


def test_an_index_without_its_map(several):
  (several / INDEX).write_text('{"metadata": {}}')
  refused(several, f'{INDEX}: weight_map must name a file beside it')


def test_the_config_lacks_a_field(single):
  fields = json.loads((single / 'config.json').read_text())
  del fields['hidden_size']
  (single / 'config.json').write_text(json.dumps(fields))
  refused(
    single, r"config\.json: the fields \['hidden_size'\] are missing; take"
  )
