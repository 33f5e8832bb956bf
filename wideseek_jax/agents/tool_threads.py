"""Threads for tool calls, of which one that stalls can be left behind.

In come functions; out go futures. A `ThreadPoolExecutor` waits for every
thread when it ends, so one stalled tool would hang the run; these threads are
daemons, and a call that is given up frees its place at once.
"""

import collections
import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any

Future = concurrent.futures.Future


class ToolThreads:
  """Runs functions, so many at a time, in the order of submission.

  Args:
    size: threads that work at the same time, not counting those given up.
    clock: what `started` tells.
  """

  def __init__(self, size: int, clock: Callable[[], float] = time.monotonic):
    self._size = size
    self._clock = clock
    self._lock = threading.Lock()
    self._waiting: collections.deque[tuple[Future, Callable[[], Any]]] = (
      collections.deque()
    )
    self._started: dict[Future, float] = {}

  def submit(self, function: Callable[[], Any]) -> Future:
    """Runs the function as soon as there is room."""
    future = Future()
    with self._lock:
      self._waiting.append((future, function))
      self._fill()
    return future

  def started(self, future: Future) -> float | None:
    """When a call that runs now began; None if it waits or has ended."""
    with self._lock:
      return self._started.get(future)

  def give_up(self, future: Future) -> None:
    """Forgets a call: it never starts, or nobody waits for its end."""
    future.cancel()
    with self._lock:
      self._started.pop(future, None)
      self._fill()

  def _fill(self) -> None:
    """Starts what there is room for; the caller holds the lock."""
    while self._waiting and len(self._started) < self._size:
      future, function = self._waiting.popleft()
      if future.set_running_or_notify_cancel():
        self._started[future] = self._clock()
        threading.Thread(
          target=self._work, args=(future, function), daemon=True
        ).start()

  def _work(self, future: Future, function: Callable[[], Any]) -> None:
    result = error = None
    try:
      result = function()
    except BaseException as raised:
      error = raised
    with self._lock:
      self._started.pop(future, None)
      self._fill()
    if error is not None:
      future.set_exception(error)
    else:
      future.set_result(result)
