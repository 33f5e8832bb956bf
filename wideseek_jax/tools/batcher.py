"""Gathers what many threads ask into batches for one function.

In come lists of items from any thread, out go futures of their results. While
one batch is being worked on, the next one gathers: nobody waits for company.
What waits is bounded, and a caller beyond that is told at once.
"""

import collections
import concurrent.futures
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

Future = concurrent.futures.Future


class FullError(Exception):
  """There is no room to wait."""


class Batcher:
  """Runs a function on batches of items, in the order of submission.

  Args:
    function: list of items -> their results, in the same order.
    max_batch: items of a batch, unless one caller brings more.
    max_waiting: items that may wait.
    threads: batches that are worked on at the same time.
  """

  def __init__(
    self,
    function: Callable[[list], Sequence[Any]],
    *,
    max_batch: int,
    max_waiting: int,
    threads: int = 1,
  ):
    self._function = function
    self._max_batch, self._max_waiting = max_batch, max_waiting
    self._changed = threading.Condition()
    self._groups: collections.deque[tuple[list, Future]] = collections.deque()
    self._waiting = 0
    self._closed = False
    self._threads = [
      threading.Thread(target=self._work, daemon=True) for _ in range(threads)
    ]
    for thread in self._threads:
      thread.start()

  @property
  def waiting(self) -> int:
    """How many items wait."""
    return self._waiting

  def submit(self, items: Sequence[Any]) -> Future:
    """Asks for the results of some items.

    Returns:
      a future of the list of results, in the order of the items. It raises
      what the function raises on these items alone.

    Raises:
      FullError: there is no room, or this batcher is closed.
    """
    future = Future()
    with self._changed:
      if self._closed or self._waiting + len(items) > self._max_waiting:
        raise FullError(f'{self._waiting} items wait already')
      self._groups.append((list(items), future))
      self._waiting += len(items)
      self._changed.notify()
    return future

  def close(self) -> None:
    """Works off what waits and ends."""
    with self._changed:
      self._closed = True
      self._changed.notify_all()
    for thread in self._threads:
      thread.join()

  def _work(self) -> None:
    while True:
      with self._changed:
        self._changed.wait_for(lambda: self._groups or self._closed)
        if not self._groups:
          return
        groups = self._take()
      self._run([g for g in groups if g[1].set_running_or_notify_cancel()])

  def _take(self) -> list[tuple[list, Future]]:
    groups, size = [], 0
    while self._groups:
      more = len(self._groups[0][0])
      if groups and size + more > self._max_batch:
        break
      groups.append(self._groups.popleft())
      size += more
    self._waiting -= size
    return groups

  def _run(self, groups: list[tuple[list, Future]]) -> None:
    items = [item for mine, _ in groups for item in mine]
    try:
      results = self._function(items) if items else []
      if len(results) != len(items):
        raise ValueError(f'{len(results)} results for {len(items)} items')
    except Exception as error:
      if len(groups) == 1:
        groups[0][1].set_exception(error)
        return
      # One caller's items may be to blame; its neighbours are not.
      for group in groups:
        self._run([group])
      return
    rest = iter(results)
    for mine, future in groups:
      future.set_result(list(itertools.islice(rest, len(mine))))
