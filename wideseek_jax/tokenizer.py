"""Text to token ids and back, with Qwen3's chat markers kept apart.

In: a Hugging Face `tokenizer.json`, the released Qwen3's or one trained here.
Out: lists of ids for the agents' floor and text for parsing and display.

Two ways to encode exist on purpose. `encode` is for text that this package
writes: the markers (`<|im_end|>`, `<tool_call>` …) become their single ids.
`encode_untrusted` is for questions, pages and reports: the same characters are
spelled out byte by byte, so that no content can open or close a chat turn.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from wideseek_jax import files

MARKERS = (
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<tool_call>',
  '</tool_call>',
  '<tool_response>',
  '</tool_response>',
  '<think>',
  '</think>',
)

# What a trained tokenizer never merges across. Every name or value that stands
# after a space gets the same pieces wherever it stands, because punctuation is
# a piece of its own; only the punctuation of JSON and of table rules may form
# runs. Numbers are cut in pairs of digits: single digits repeat so often that
# "the token after the last one copied" would be ambiguous.
_SPLIT = (
  r' ?[\p{L}\p{M}]+'
  r'| ?\p{N}{1,2}'
  r'| ?["{}\[\]:,]+'
  r'|\|---|```'
  r'| ?[^\s\p{L}\p{M}\p{N}]'
  r'|\n+|\s'
)


class Tokenizer:
  """A byte-level BPE with Qwen3's markers.

  Args:
    source: the text of a `tokenizer.json`.

  Raises:
    ValueError: a marker is missing, or the text is not a tokenizer's.
  """

  def __init__(self, source: str):
    try:
      spec = json.loads(source)
      self._marked = tokenizers.Tokenizer.from_str(source)
    except Exception as error:
      raise ValueError(f'not a tokenizer.json: {error}') from error
    # The same merges without the markers: what untrusted text is read with.
    self._plain = tokenizers.Tokenizer.from_str(
      json.dumps(spec | {'added_tokens': [], 'post_processor': None})
    )
    self._source = source
    self._ids = {}
    for marker in MARKERS:
      marker_id = self._marked.token_to_id(marker)
      if marker_id is None:
        raise ValueError(
          f'the tokenizer lacks the special token {marker!r}; use the '
          f'tokenizer.json of a Qwen3 model or one made by warm_start'
        )
      self._ids[marker] = marker_id

  @classmethod
  def load(cls, folder: str | os.PathLike) -> 'Tokenizer':
    """Reads `tokenizer.json` from a model folder.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it lacks a marker or is no tokenizer.
    """
    path = pathlib.Path(folder) / 'tokenizer.json'
    if not path.is_file():
      raise FileNotFoundError(
        f'no tokenizer at {path}; name a Hugging Face model folder that '
        f'holds tokenizer.json'
      )
    return cls(path.read_text(encoding='utf-8'))

  def save(self, folder: str | os.PathLike) -> None:
    """Writes tokenizer.json and what transformers needs beside it."""
    folder = pathlib.Path(folder)
    settings = {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'eos_token': '<|im_end|>',
      'pad_token': '<|endoftext|>',
      'clean_up_tokenization_spaces': False,
    }
    texts = {
      'tokenizer.json': self._source,
      'tokenizer_config.json': json.dumps(settings, indent=2) + '\n',
    }
    for name, text in texts.items():
      files.write_text(folder / name, text)

  @property
  def source(self) -> str:
    """The text of the `tokenizer.json`."""
    return self._source

  @property
  def vocab(self) -> dict[str, int]:
    """Ids by token, markers included."""
    return self._marked.get_vocab(with_added_tokens=True)

  @property
  def vocab_size(self) -> int:
    """One more than the largest id."""
    return self._marked.get_vocab_size(with_added_tokens=True)

  def special(self, marker: str) -> int:
    """The id of one of `MARKERS`."""
    return self._ids[marker]

  def encode(self, text: str) -> list[int]:
    """Ids of text that this package wrote: markers become their ids."""
    return self._marked.encode(text, add_special_tokens=False).ids

  def encode_untrusted(self, text: str) -> list[int]:
    """Ids of anybody's text: markers in it are spelled out."""
    # A lone surrogate, legal in JSON, has no UTF-8 form.
    text = text.encode('utf-8', errors='replace').decode('utf-8')
    return self._plain.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    """The text of ids, markers visible; broken UTF-8 becomes U+FFFD."""
    return self._marked.decode(list(ids), skip_special_tokens=False)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
  """Trains a byte-level BPE on texts; the markers take the last ids.

  Args:
    texts: what to learn merges from.
    vocab_size: ids in all, bytes and markers included; at least 265.
  """
  smallest = 256 + len(MARKERS)
  if vocab_size < smallest:
    raise ValueError(f'vocab_size is {vocab_size}; it must be ≥ {smallest}')
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(_SPLIT), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size - len(MARKERS),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(texts, trainer)
  tokenizer.add_special_tokens(
    [tokenizers.AddedToken(m, special=True, normalized=False) for m in MARKERS]
  )
  return Tokenizer(tokenizer.to_str())
