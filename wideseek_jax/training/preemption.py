"""SIGTERM, as machines on loan send it before they are taken away.

In: the signal. Out: `Preempted`, raised in the main thread where that loses
nothing; and the end of the process, come what may, before its time is over.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from wideseek_jax import progress

# EX_TEMPFAIL of sysexits.h: nothing is wrong, start it again to go on.
EXIT_CODE = 75
# Clouds give 30 s.
GRACE_SECONDS = 25.0


class Preempted(SystemExit):
  """The process is asked to end; unless caught it ends with EXIT_CODE."""


class Notice:
  """Turns SIGTERM into `Preempted` while its `with` block runs.

  Outside of the main thread, where signals cannot be caught, it does nothing.
  """

  def __init__(self, grace_seconds: float = GRACE_SECONDS):
    """Waits so long for the process to end by itself, then ends it."""
    self._grace = grace_seconds
    self._came = self._deferred = False
    # The main thread may be inside of a long update.
    self._timer = threading.Timer(grace_seconds, self._end)
    self._timer.daemon = True

  def __enter__(self) -> 'Notice':
    self._catches = threading.current_thread() is threading.main_thread()
    if self._catches:
      self._before: Any = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._timer.cancel()
    if self._catches:
      signal.signal(signal.SIGTERM, self._before)

  @contextlib.contextmanager
  def deferred(self) -> Iterator[None]:
    """A block that is not interrupted: `Preempted` is raised after it."""
    self._deferred = True
    try:
      yield
    finally:
      self._deferred = False
    if self._came:
      raise Preempted(EXIT_CODE)

  def _note(self, *_: object) -> None:
    if self._came:
      return
    self._came = True
    progress.say('SIGTERM: saving what is done')
    self._timer.start()
    if not self._deferred:
      raise Preempted(EXIT_CODE)

  def _end(self) -> None:
    progress.say(
      f'not done within {self._grace:g} s: the newest checkpoint and all '
      f'finished rollouts are kept; --resume goes on from there'
    )
    os._exit(EXIT_CODE)
