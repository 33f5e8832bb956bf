"""A judge in this process: an engine with weights of its own.

In come an engine, its tokenizer and prompts; out go replies at temperature 0.
It is the same `types.Judge` as one behind an endpoint, with the same cache.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Sequence

import numpy as np

from wideseek_jax import cache as cache_lib
from wideseek_jax import types
from wideseek_jax.agents import prompts as chat
from wideseek_jax.judge import completions

# Qwen3's template for an answer without a thought.
_NO_THOUGHT = '<think>\n\n</think>\n\n'


@dataclasses.dataclass(frozen=True)
class LocalJudge:
  """A `types.Judge` over an engine that nobody else uses.

  All prompts of a call share the engine's batch; calls from several threads
  come one after the other, and find what those before them have asked. A prompt
  that leaves no room in a sequence gets the empty reply, which is not kept.

  Attributes:
    engine: holds the judge's weights.
    tokenizer: that of the weights.
    max_tokens: most tokens of a reply.
    model: tells these weights from all others whose replies the cache holds.
    cache: keeps the replies; None for none.
  """

  engine: types.Engine
  tokenizer: chat.Tokenizer
  max_tokens: int = 2048
  model: str = ''
  cache: cache_lib.TextCache | None = None
  _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

  def __call__(self, prompts: Sequence[str]) -> list[str]:
    """Answers all prompts; see `types.Judge`."""
    waiting: dict[int, str] = {}
    with self._lock:
      kept = {prompt: self._kept(prompt) for prompt in prompts}
      replies = {prompt: reply or '' for prompt, reply in kept.items()}
      try:
        for prompt in (p for p, reply in kept.items() if reply is None):
          token_ids = self._token_ids(prompt)
          if len(token_ids) < self.engine.max_context:
            sequence = self.engine.open()
            waiting[sequence] = prompt
            self.engine.submit(sequence, token_ids, self._sampling(), (0,))
        while waiting:
          for sequence, generation in self.engine.step():
            prompt = waiting.pop(sequence)
            self.engine.close(sequence)
            replies[prompt] = self._text(generation)
            if self.cache:
              self.cache.put(self._key(prompt), replies[prompt])
      finally:
        for sequence in waiting:
          self.engine.close(sequence)
    return [replies[prompt] for prompt in prompts]

  def _kept(self, prompt: str) -> str | None:
    return self.cache and self.cache.get(self._key(prompt))

  def _key(self, prompt: str) -> str:
    body = completions.request(prompt, self.model, self.max_tokens)
    return hashlib.sha256(body).hexdigest()

  def _sampling(self) -> types.Sampling:
    return types.Sampling(
      temperature=0.0,
      max_tokens=self.max_tokens,
      stop_ids=chat.stop_ids(self.tokenizer),
    )

  def _token_ids(self, prompt: str) -> np.ndarray:
    encode = self.tokenizer.encode
    return np.array(
      encode('<|im_start|>user\n')
      + self.tokenizer.encode_untrusted(prompt)
      + encode(f'{chat.END_OF_TURN}\n<|im_start|>assistant\n{_NO_THOUGHT}'),
      np.int32,
    )

  def _text(self, generation: types.Generation) -> str:
    token_ids = generation.token_ids
    if generation.finish_reason == 'stop':
      token_ids = token_ids[:-1]
    return self.tokenizer.decode(token_ids)
