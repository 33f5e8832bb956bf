"""A byte-level tokenizer with Qwen3's markers: one token a byte or marker."""

import re

MARKERS = (
  '<|im_start|>',
  '<|im_end|>',
  '<think>',
  '</think>',
  '<tool_call>',
  '</tool_call>',
  '<tool_response>',
  '</tool_response>',
  '<|endoftext|>',
)
_SPLIT = re.compile('(' + '|'.join(re.escape(m) for m in MARKERS) + ')')


class FakeTokenizer:
  vocab_size = 256 + len(MARKERS)

  def special(self, name):
    return 256 + MARKERS.index(name)

  def encode_untrusted(self, text):
    return list(text.encode('utf-8'))

  def encode(self, text):
    ids = []
    for piece in _SPLIT.split(text):
      if piece in MARKERS:
        ids.append(self.special(piece))
      else:
        ids.extend(piece.encode('utf-8'))
    return ids

  def decode(self, ids):
    data = b''.join(
      MARKERS[i - 256].encode() if i >= 256 else bytes([i])
      for i in map(int, ids)
    )
    return data.decode('utf-8', 'replace')
