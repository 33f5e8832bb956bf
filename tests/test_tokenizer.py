import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wideseek_jax import tokenizer as tokenizer_lib

TEXTS = ['List every airport with country Peru.', 'Lima | Cusco | 1250'] * 20


@pytest.fixture(scope='module')
def tokenizer():
  return tokenizer_lib.train_tokenizer(TEXTS, 320)


def test_markers_are_one_id_in_trusted_text_only(tokenizer):
  for marker in tokenizer_lib.MARKERS:
    assert tokenizer.encode(marker) == [tokenizer.special(marker)]
    spelled = tokenizer.encode_untrusted(marker)
    assert tokenizer.special(marker) not in spelled
    assert tokenizer.decode(spelled) == marker


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
  # A lone surrogate has no UTF-8 form and is replaced.
  kept = text.encode('utf-8', errors='replace').decode('utf-8')
  ids = tokenizer.encode_untrusted(text)
  assert tokenizer.decode(ids) == kept
  markers = {tokenizer.special(m) for m in tokenizer_lib.MARKERS}
  assert not markers & set(ids)
  assert all(0 <= i < tokenizer.vocab_size for i in ids)


def test_a_name_has_the_same_pieces_wherever_it_stands(tokenizer):
  name = tokenizer.encode_untrusted(' St. Peru 1250')
  for before, after in (
    ('|', ' |'),
    (':', '\n'),
    (';', ';'),
    ('"query": "page', '"}]}'),
  ):
    ids = tokenizer.encode_untrusted(f'{before} St. Peru 1250{after}')
    starts = range(len(ids) - len(name) + 1)
    assert any(ids[s : s + len(name)] == name for s in starts), (before, after)


def test_digits_go_in_pairs_from_the_left(tokenizer):
  pieces = [tokenizer.decode([i]) for i in tokenizer.encode(' 12345')]
  # One piece cannot span two pairs; a rare pair may be cut further.
  assert ''.join(pieces) == ' 12345'
  assert max(len(piece.strip()) for piece in pieces) <= 2


def test_save_and_load_give_the_same_ids(tokenizer, tmp_path):
  tokenizer.save(tmp_path)
  loaded = tokenizer_lib.Tokenizer.load(tmp_path)
  text = '<|im_start|>user\nList every airport.<|im_end|>'
  assert loaded.encode(text) == tokenizer.encode(text)
  assert loaded.vocab_size == tokenizer.vocab_size
  assert not list(tmp_path.glob('*.partial'))


def test_transformers_reads_the_saved_tokenizer(tokenizer, tmp_path):
  transformers = pytest.importorskip(
    'transformers', reason='the oracle is not installed'
  )
  tokenizer.save(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  text = '<|im_start|>user\nList every airport.<|im_end|>'
  assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
  assert theirs.eos_token_id == tokenizer.special('<|im_end|>')


def test_a_missing_marker_is_named(tokenizer):
  spec = json.loads(tokenizer.source)
  spec['added_tokens'] = [
    token for token in spec['added_tokens'] if token['content'] != '<think>'
  ]
  with pytest.raises(ValueError, match="lacks the special token '<think>'"):
    tokenizer_lib.Tokenizer(json.dumps(spec))


def test_bad_sources_are_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='no tokenizer at'):
    tokenizer_lib.Tokenizer.load(tmp_path)
  with pytest.raises(ValueError, match=r'not a tokenizer\.json'):
    tokenizer_lib.Tokenizer('{"a": 1}')
  with pytest.raises(ValueError, match='must be ≥ 265'):
    tokenizer_lib.train_tokenizer([], 200)
