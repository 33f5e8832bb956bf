import threading

import pytest

from wideseek_jax.tools import batcher


class _Gate:
  """Doubles numbers, each batch once it is let through."""

  def __init__(self):
    self.batches = []
    self.entered = threading.Semaphore(0)
    self.go = threading.Semaphore(0)

  def __call__(self, items):
    self.batches.append(items)
    self.entered.release()
    assert self.go.acquire(timeout=60)
    if 13 in items:
      raise ValueError('thirteen')
    return [2 * item for item in items]


@pytest.fixture
def gate():
  return _Gate()


def test_what_comes_during_a_batch_is_the_next_one(gate):
  work = batcher.Batcher(gate, max_batch=4, max_waiting=10)
  first = work.submit([1])
  assert gate.entered.acquire(timeout=60)
  rest = [
    work.submit([2, 3]),
    work.submit([]),
    work.submit([4]),
    work.submit([5, 6]),
  ]
  assert work.waiting == 5
  for _ in range(3):
    gate.go.release()
  assert first.result(60) == [2]
  assert [f.result(60) for f in rest] == [[4, 6], [], [8], [10, 12]]
  # 2 + 0 + 1 items fit into a batch of 4, two more do not.
  assert gate.batches == [[1], [2, 3, 4], [5, 6]]
  work.close()


def test_a_full_queue_says_so_and_loses_nothing(gate):
  work = batcher.Batcher(gate, max_batch=1, max_waiting=2)
  done = [work.submit([1])]
  assert gate.entered.acquire(timeout=60)
  done += [work.submit([2]), work.submit([3])]
  with pytest.raises(batcher.FullError, match='2 items wait'):
    work.submit([4])
  for _ in range(3):
    gate.go.release()
  # Closing works off what waits, and takes no more.
  work.close()
  assert [f.result(0) for f in done] == [[2], [4], [6]]
  with pytest.raises(batcher.FullError):
    work.submit([5])


def test_one_callers_fault_is_not_its_neighbours(gate):
  work = batcher.Batcher(gate, max_batch=9, max_waiting=9)
  first = work.submit([0])
  assert gate.entered.acquire(timeout=60)
  good, bad, other = work.submit([1]), work.submit([13]), work.submit([2])
  for _ in range(5):
    gate.go.release()
  assert first.result(60) == [0]
  assert good.result(60) == [2] and other.result(60) == [4]
  with pytest.raises(ValueError, match='thirteen'):
    bad.result(60)
  work.close()


def test_a_function_that_loses_results_is_told():
  work = batcher.Batcher(lambda items: [], max_batch=9, max_waiting=9)
  with pytest.raises(ValueError, match='0 results for 2 items'):
    work.submit([1, 2]).result(60)
  work.close()


def test_what_is_cancelled_before_its_turn_is_not_run(gate):
  work = batcher.Batcher(gate, max_batch=1, max_waiting=9)
  work.submit([1])
  assert gate.entered.acquire(timeout=60)
  assert work.submit([2]).cancel()
  last = work.submit([3])
  for _ in range(2):
    gate.go.release()
  assert last.result(60) == [6] and gate.batches == [[1], [3]]
  work.close()
