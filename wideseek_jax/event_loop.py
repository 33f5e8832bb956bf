"""An event loop in a thread of its own, for callers that have none.

In come coroutines from any thread, out go their results.
"""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class LoopThread:
  """Runs coroutines; `close` it after use.

  Args:
    name: of the thread.
  """

  def __init__(self, name: str):
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(
      target=self._loop.run_forever, name=name, daemon=True
    )
    self._thread.start()

  @property
  def closed(self) -> bool:
    return self._loop.is_closed()

  def run(self, coroutine: Coroutine) -> Any:
    """The coroutine's result, or what it raises."""
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

  def close(self, last: Coroutine) -> None:
    """Runs `last`, which must end all others, and ends the thread."""
    if self.closed:
      last.close()
      return
    self.run(last)
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._thread.join()
    self._loop.close()


async def cancel_others() -> None:
  """Ends every other task of this loop."""
  others = asyncio.all_tasks() - {asyncio.current_task()}
  for task in others:
    task.cancel()
  await asyncio.gather(*others, return_exceptions=True)
