"""Says what runs and how long it will take: a bar on a terminal, else lines.

In: how much of a named stage is done. Out: text on stderr, never on stdout.
"""

import sys
import time
from typing import TextIO

_BAR_WIDTH = 24


def format_seconds(seconds: float) -> str:
  """'42 s', '3 min 05 s' or '2 h 07 min'."""
  whole = round(seconds)
  if whole < 60:
    return f'{whole} s'
  if whole < 3600:
    return f'{whole // 60} min {whole % 60:02d} s'
  return f'{whole // 3600} h {whole % 3600 // 60:02d} min'


def say(text: str) -> None:
  """Writes one line."""
  print(text, file=sys.stderr, flush=True)


class Stage:
  """One named piece of work of known size.

  Args:
    name: what runs.
    total: how many units it has.
    unit: what is counted.
    stream: where to write; stderr by default.
    line_every_s: seconds between two lines where the stream is no terminal.
  """

  def __init__(
    self,
    name: str,
    total: int,
    unit: str = '',
    *,
    stream: TextIO | None = None,
    line_every_s: float = 15.0,
  ):
    self._name, self._total, self._unit = name, total, unit
    self._stream = stream or sys.stderr
    self._bar = self._stream.isatty()
    self._every = 0.1 if self._bar else line_every_s
    self._start = time.monotonic()
    self._last = -float('inf')
    self._done = 0

  def __enter__(self) -> 'Stage':
    self.update(0)
    return self

  def __exit__(self, *exc_info) -> None:
    self._write(final=True)

  def update(self, done: int, note: str = '') -> None:
    """Says that `done` units of the total are done."""
    self._done = done
    now = time.monotonic()
    if now - self._last >= self._every:
      self._last = now
      self._write(note=note)

  def _write(self, note: str = '', final: bool = False) -> None:
    elapsed = time.monotonic() - self._start
    text = f'{self._name}: {self._done}/{self._total} {self._unit}'.rstrip()
    if final:
      text += f', took {format_seconds(elapsed)}'
    elif self._done:
      left = elapsed / self._done * (self._total - self._done)
      text += f', about {format_seconds(left)} left'
    if note:
      text += f' ({note})'
    if self._bar:
      filled = _BAR_WIDTH * self._done // max(self._total, 1)
      bar = '━' * filled + ' ' * (_BAR_WIDTH - filled)
      end = '\n' if final else ''
      self._stream.write(f'\r\x1b[2K{bar} {text}{end}')
    else:
      self._stream.write(text + '\n')
    self._stream.flush()
