"""An engine whose turns are written by a function: experts and tests.

In comes a function from the conversation so far to the next turn's text; out
comes something that agents cannot tell from a real engine. Demonstrations for
a warm start are the trajectories of an expert behind this engine, so they pass
through exactly the code that the policy's own trajectories pass through.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import prompts

# (messages as (role, text), the turn's key) -> the text of the next turn.
Respond = Callable[[list[tuple[str, str]], tuple[int, ...]], str]


@dataclasses.dataclass(frozen=True)
class _Request:
  sequence: int
  sampling: types.Sampling
  key: tuple[int, ...]


class ScriptedEngine:
  """A `types.Engine` that asks `respond` instead of a model.

  Args:
    tokenizer: text to ids and back.
    respond: gives the text of a turn; the token that ends the turn is added
      here. The last message is what the agent has just read. A text of more
      tokens than are allowed is cut, as a model's would be.
    max_context: tokens of one sequence.
  """

  def __init__(
    self,
    tokenizer: prompts.Tokenizer,
    respond: Respond,
    max_context: int = 32_000,
  ):
    self.max_context = max_context
    self._tokenizer = tokenizer
    self._respond = respond
    self._sequences: dict[int, list[int]] = {}
    self._requests: list[_Request] = []
    self._cut: set[int] = set()
    self._opened = 0

  @property
  def num_open(self) -> int:
    """How many sequences are open now."""
    return len(self._sequences)

  def open(self) -> int:
    self._opened += 1
    self._sequences[self._opened] = []
    return self._opened

  def submit(
    self,
    sequence: int,
    token_ids: np.ndarray,
    sampling: types.Sampling,
    key: tuple[int, ...],
  ) -> None:
    if len(token_ids) == 0:
      raise ValueError('submit needs at least one new token')
    if len(self._sequences[sequence]) + len(token_ids) >= self.max_context:
      raise ValueError(f'sequence {sequence} is longer than {self.max_context}')
    self._sequences[sequence].extend(int(i) for i in token_ids)
    self._requests.append(_Request(sequence, sampling, key))

  def step(self) -> list[tuple[int, types.Generation]]:
    """Answers every turn that is asked for."""
    requests, self._requests = self._requests, []
    return [(request.sequence, self._generate(request)) for request in requests]

  def cut(self, sequence: int) -> None:
    """The turn that is asked for ends without a token."""
    self._cut.add(sequence)

  def close(self, sequence: int) -> None:
    del self._sequences[sequence]
    self._requests = [r for r in self._requests if r.sequence != sequence]

  def _generate(self, request: _Request) -> types.Generation:
    if request.sequence in self._cut:
      self._cut.remove(request.sequence)
      empty = np.zeros(0, np.int32), np.zeros(0, np.float32)
      return types.Generation(*empty, 'cut')
    ids = self._sequences[request.sequence]
    text = self._respond(split_messages(self._tokenizer, ids), request.key)
    sampled = self._tokenizer.encode(text + prompts.END_OF_TURN)
    room = self.max_context - len(ids)
    allowed = min(request.sampling.max_tokens, room)
    reason: types.FinishReason = 'stop'
    if len(sampled) > allowed:
      sampled = sampled[:allowed]
      reason = 'context' if allowed == room else 'length'
    ids.extend(sampled)
    return types.Generation(
      np.array(sampled, np.int32), np.zeros(len(sampled), np.float32), reason
    )


def split_messages(
  tokenizer: prompts.Tokenizer, ids: list[int]
) -> list[tuple[str, str]]:
  """The messages of a sequence that waits for a turn, as (role, text).

  The split goes by the ids of the chat markers, so a text that spells a marker
  splits nothing.

  Raises:
    ValueError: the sequence does not end with an opened assistant's turn.
  """
  start = tokenizer.special('<|im_start|>')
  end = tokenizer.special(prompts.END_OF_TURN)
  messages = []
  begin = None
  for i, token in enumerate(ids):
    if token == start:
      begin = i + 1
    elif token == end and begin is not None:
      role, _, text = tokenizer.decode(ids[begin:i]).partition('\n')
      messages.append((role, text))
      begin = None
  if begin is None or tokenizer.decode(ids[begin:]) != 'assistant\n':
    raise ValueError('the sequence does not wait for an assistant turn')
  return messages
