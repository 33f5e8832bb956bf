"""Keeps a judge's replies on disk, by the content of what was asked.

In come keys that are digests of whole requests; out go replies given before, to
this process or any other. A reply is written whole or not at all, whatever
killed the writer.
"""

import contextlib
import os
import pathlib
import sqlite3
from collections.abc import Iterator

from wideseek_jax import types


class ReplyCache:
  """Replies by key in one SQLite file; for one thread at a time.

  Args:
    path: the file, made if missing; processes of one machine may share it.

  Raises:
    types.JudgeUnavailable: as every method does, if the file cannot be used.
  """

  def __init__(self, path: str | os.PathLike):
    self._path = pathlib.Path(path)
    with self._explained():
      self._path.parent.mkdir(parents=True, exist_ok=True)
      # No transactions of Python's own: each statement is one.
      self._database = sqlite3.connect(
        self._path, timeout=60, isolation_level=None, check_same_thread=False
      )
    try:
      with self._explained():
        # Readers and a writer at the same time, and no wait for the disk.
        self._database.execute('PRAGMA journal_mode=WAL')
        self._database.execute('PRAGMA synchronous=NORMAL')
        self._database.execute(
          'CREATE TABLE IF NOT EXISTS replies '
          '(key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID'
        )
    except types.JudgeUnavailable:
      self._database.close()
      raise

  def get(self, key: str) -> str | None:
    """The reply of a key, None if there is none."""
    with self._explained():
      row = self._database.execute(
        'SELECT reply FROM replies WHERE key = ?', (key,)
      ).fetchone()
    return row and row[0]

  def put(self, key: str, reply: str) -> None:
    """Keeps a reply; the first one of a key stays."""
    with self._explained():
      self._database.execute(
        'INSERT OR IGNORE INTO replies VALUES (?, ?)', (key, reply)
      )

  def close(self) -> None:
    """Closes the file."""
    self._database.close()

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    try:
      yield
    except (sqlite3.Error, OSError) as error:
      raise types.JudgeUnavailable(
        f"the judge's cache {self._path} cannot be used ({error}); make room, "
        f'remove the file or name another one with config.judge.cache'
      ) from error
