"""Open sequences, dealt out over the data shards of the mesh.

Every data shard has pages and rows of its own and so a queue of its own; a
sequence is served by one of them from its first tokens on. Handles come in,
sequences and queues leave.
"""

import numpy as np

from wideseek_jax.engine import memory, queue, sequences, stats


class Shards:
  """Which sequences are open, and who serves each.

  Attributes:
    queues: one for each data shard, in the order of their rows in a call.
    next_handle: of the next sequence.
  """

  def __init__(self, plan: memory.Plan, max_context: int, meter: stats.Meter):
    """Makes empty queues.

    Args:
      plan: rows and pages, to be dealt out.
      max_context: most tokens of a sequence.
      meter: counts what the queues do.
    """
    self.next_handle = 0
    self._plan = plan
    self._max_context = max_context
    self._meter = meter
    self.clear()

  def clear(self) -> None:
    """Closes every sequence: their keys are of former weights."""
    plan, count = self._plan, self._plan.num_shards
    self.queues = tuple(
      queue.Queue(
        plan.num_rows // count,
        plan.num_pages // count,
        plan.page_size,
        self._meter,
      )
      for _ in range(count)
    )
    # None until the first tokens say where the sequence is best off.
    self._homes: dict[int, queue.Queue | None] = {}
    self._first_handle = self.next_handle

  @property
  def held_pages(self) -> int:
    """Pages that sequences hold."""
    available = sum(one.pool.available for one in self.queues)
    return self._plan.num_pages - available

  def open(self) -> int:
    """Notes an empty sequence; returns its handle, never used again."""
    handle = self.next_handle
    self.next_handle += 1
    self._homes[handle] = None
    return handle

  def home(self, handle: int) -> queue.Queue | None:
    """Who serves the sequence; None before its first tokens.

    Raises:
      ValueError: no such sequence.
    """
    if handle in self._homes:
      return self._homes[handle]
    if 0 <= handle < self._first_handle:
      raise ValueError(f'sequence {handle} was closed by set_params')
    if 0 <= handle < self.next_handle:
      raise ValueError(f'sequence {handle} is closed')
    raise ValueError(f'there is no sequence {handle}')

  def place(self, handle: int, token_ids: np.ndarray) -> queue.Queue:
    """Gives an empty sequence to the queue that knows most of its tokens.

    Only queues with room count; equal ones go by load, then by their order.
    """

    def rank(one: queue.Queue) -> tuple[int, int]:
      known = one.pool.known(token_ids) if one.has_room(len(token_ids)) else 0
      return -known, len(one.sequences)

    home = min(self.queues, key=rank)
    home.sequences[handle] = sequences.Sequence(
      handle, home.pool, self._max_context
    )
    self._homes[handle] = home
    return home

  def close(self, handle: int) -> None:
    """Frees what the sequence holds.

    Raises:
      ValueError: no such sequence.
    """
    home = self.home(handle)
    if home is not None:
      home.close(handle)
    del self._homes[handle]
