import concurrent.futures
import threading

import pytest

from tests.agents import helpers
from wideseek_jax.agents import tool_threads


def test_results_and_errors_come_back():
  threads = tool_threads.ToolThreads(2)

  def broken():
    raise KeyError('x')

  good, bad = threads.submit(lambda: 5), threads.submit(broken)
  assert good.result(timeout=20) == 5
  with pytest.raises(KeyError):
    bad.result(timeout=20)
  assert threads.started(good) is None


def test_no_more_run_at_a_time_than_allowed():
  threads = tool_threads.ToolThreads(3)
  lock = threading.Lock()
  running, most = set(), []

  def work(number):
    with lock:
      running.add(number)
      most.append(len(running))
    threading.Event().wait(0.001)
    with lock:
      running.remove(number)
    return number

  futures = [threads.submit(lambda n=n: work(n)) for n in range(40)]
  assert [f.result(timeout=20) for f in futures] == list(range(40))
  assert max(most) <= 3


def test_a_call_that_is_given_up_frees_its_place():
  clock = helpers.Clock()
  clock.now = 7.0
  threads = tool_threads.ToolThreads(1, clock)
  release, begun = threading.Event(), threading.Event()

  def stalls():
    begun.set()
    release.wait(60)

  stalled = threads.submit(stalls)
  waiting, never = threads.submit(lambda: 'ran'), threads.submit(lambda: 'no')
  assert begun.wait(20) and not waiting.done()
  assert threads.started(stalled) == 7.0 and threads.started(waiting) is None
  threads.give_up(never)
  threads.give_up(stalled)
  assert waiting.result(timeout=20) == 'ran'
  with pytest.raises(concurrent.futures.CancelledError):
    never.result(timeout=20)
  # Its end, when it comes, disturbs nobody.
  release.set()
  stalled.result(timeout=20)
  assert threads.submit(lambda: 1).result(timeout=20) == 1
