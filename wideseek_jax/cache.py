"""Keeps texts on disk, by the content of what was asked.

In come keys that are digests of whole requests; out go texts that were put
before, by this process or any other. A text is written whole or not at all,
whatever killed the writer. Only what is worth being read again belongs here:
never a failure.
"""

import contextlib
import os
import pathlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator


class TextCache:
  """Texts by key in one SQLite file; safe for many threads and processes.

  Args:
    path: the file, made if missing; processes of one machine may share it.
    option: the config option that names the file, for error messages.
    error: what is raised if the file cannot be used, by every method.
    max_age: seconds after which a text is forgotten; 0 for never.
    patience: seconds until another process's write must have ended.
    clock: seconds since the epoch.
  """

  def __init__(
    self,
    path: str | os.PathLike,
    option: str,
    error: type[OSError] = OSError,
    max_age: float = 0.0,
    patience: float = 60.0,
    clock: Callable[[], float] = time.time,
  ):
    self._path = pathlib.Path(path)
    self._option, self._error = option, error
    self._max_age, self._clock = max_age, clock
    self._lock = threading.Lock()
    with self._explained():
      self._path.parent.mkdir(parents=True, exist_ok=True)
      # No transactions of Python's own: each statement is one.
      self._database = sqlite3.connect(
        self._path,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
      )
    try:
      with self._explained():
        self._prepare()
    except BaseException:
      self._database.close()
      raise

  def _prepare(self) -> None:
    run = self._database.execute
    # Readers and a writer at the same time, and no wait for the disk.
    run('PRAGMA journal_mode=WAL')
    run('PRAGMA synchronous=NORMAL')
    # Processes that start together must not both add the column.
    run('BEGIN IMMEDIATE')
    run(
      'CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, '
      'reply TEXT NOT NULL, time REAL NOT NULL DEFAULT 0) WITHOUT ROWID'
    )
    if len(run('PRAGMA table_info(replies)').fetchall()) == 2:
      # Older files know no time.
      run('ALTER TABLE replies ADD COLUMN time REAL NOT NULL DEFAULT 0')
    run('DELETE FROM replies WHERE time < ?', (self._oldest(),))
    run('COMMIT')

  def get(self, key: str) -> str | None:
    """The text of a key, None if there is none or it is too old."""
    with self._explained():
      row = self._database.execute(
        'SELECT reply FROM replies WHERE key = ? AND time >= ?',
        (key, self._oldest()),
      ).fetchone()
    return row and row[0]

  def put(self, key: str, text: str) -> None:
    """Keeps a text; the first one of a key stays until it is too old."""
    with self._explained():
      self._database.execute(
        'INSERT INTO replies (key, reply, time) VALUES (?, ?, ?) '
        'ON CONFLICT (key) DO UPDATE SET reply = excluded.reply, '
        'time = excluded.time WHERE time < ?',
        (key, text, self._clock(), self._oldest()),
      )

  def close(self) -> None:
    """Closes the file."""
    with self._lock:
      self._database.close()

  def _oldest(self) -> float:
    return self._clock() - self._max_age if self._max_age else 0.0

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    try:
      with self._lock:
        yield
    except (sqlite3.Error, OSError) as error:
      raise self._error(
        f'the cache {self._path} cannot be used ({error}); make room, remove '
        f'the file or name another one with {self._option}'
      ) from error
