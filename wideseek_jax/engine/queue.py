"""Who is served next, and whose pages pay for it.

Host side: sequences, turns and the page pool of one data shard. The engine asks
who reads and who samples; the answers have their pages reserved. Turns are
served in the order in which they were submitted, so the oldest is never held up
by a younger one and every turn ends.
"""

from wideseek_jax.engine import pages, sequences, stats


class Queue:
  """Open sequences and their pages.

  Attributes:
    pool: the pages.
    sequences: all that are open and hold tokens, by handle.
    active: those with a turn to sample, the oldest turn first.
  """

  def __init__(
    self, num_rows: int, num_pages: int, page_size: int, meter: stats.Meter
  ):
    self.pool = pages.PagePool(num_pages, page_size)
    self.sequences: dict[int, sequences.Sequence] = {}
    self.active: dict[int, sequences.Sequence] = {}
    self._num_rows = num_rows
    self._meter = meter

  def has_room(self, count: int) -> bool:
    """Whether a turn with so many new tokens would begin at once."""
    free = self.pool.available * self.pool.page_size
    return len(self.active) < self._num_rows and free > count

  def close(self, handle: int) -> None:
    """Frees a sequence; a turn that it still samples is dropped."""
    state = self.sequences.pop(handle)
    state.table.clear()
    state.turn = None
    self.active.pop(handle, None)

  def serving(self) -> list[sequences.Sequence]:
    """The oldest turns, one a row."""
    return list(self.active.values())[: self._num_rows]

  def readers(
    self, serving: list[sequences.Sequence], num_rows: int, read_len: int
  ) -> sequences.Chosen:
    """Who reads in the next prefill call, and how many tokens.

    Args:
      serving: as from `serving`.
      num_rows: most sequences of the call.
      read_len: most tokens of each.
    """
    chosen, begun = [], set()
    for state in serving:
      if len(chosen) == num_rows:
        break
      if not state.to_read:
        continue
      self._meter.shared_tokens += state.table.match(state.tokens[:-1])
      if not state.to_read:
        continue
      # Who is about to compute the same token waits, and finds it then.
      signature = state.table.signature(state.tokens)
      if signature in begun:
        continue
      count = min(state.to_read, read_len)
      if self._reserve(state, state.table.length + count):
        begun.add(signature)
        chosen.append((state, count))
    return chosen

  def samplers(
    self, serving: list[sequences.Sequence], chunk_len: int, max_context: int
  ) -> sequences.Chosen:
    """Who samples in the next chunk, and at most how many tokens."""
    chosen = []
    for state in serving:
      if state.to_read:
        continue
      left = state.turn.how.max_tokens - len(state.turn.token_ids)
      limit = min(left, max_context - state.count, chunk_len)
      if self._reserve(state, state.table.length + limit):
        chosen.append((state, limit))
    return chosen

  def note_read(self, chosen: sequences.Chosen) -> None:
    """Lets others find the keys that a prefill call computes."""
    for state, count in chosen:
      state.table.advance(count)
      self._meter.recomputed_tokens += state.table.publish(state.tokens)
      self._meter.prefill_tokens += count

  def _reserve(self, state: sequences.Sequence, end: int) -> bool:
    """Finds pages for tokens up to `end`, at the cost of younger turns."""
    while state.table.missing(end) > self.pool.available:
      victim = self._victim(state)
      if victim is None:
        return False
      # What it leaves can be found again, until somebody needs the pages.
      self._meter.recomputed_tokens += victim.table.publish(victim.tokens)
      victim.table.clear()
      self._meter.preemptions += 1
    state.table.reserve(end)
    return True

  def _victim(self, state: sequences.Sequence) -> sequences.Sequence | None:
    order = list(self.active.values())
    younger = order[order.index(state) + 1 :]
    for other in reversed(younger):
      if other.table.pages or other.table.borrowed:
        return other
    # A waiting agent's pages go last, and only to the oldest turn: any other
    # turn can wait for older ones to end.
    if state is order[0]:
      for _, other in sorted(self.sequences.items(), reverse=True):
        if other.turn is None and other.table.pages:
          return other
    return None
