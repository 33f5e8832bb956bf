"""Scores answers in a thread, so that an engine never waits for a judge.

In come attempts as rollouts end; out goes each with its numbers, to whoever was
named for it. All that wait are scored at once: a judge gets their prompts
together.
"""

import collections
import concurrent.futures
from collections.abc import Callable

from wideseek_jax import types
from wideseek_jax.evaluation import benchmarks

# Scores are lost with the batch that they are made in, if the run is killed.
_MOST_AT_ONCE = 64


class Scorer:
  """A context in which attempts are scored; its end waits for all of them.

  Args:
    benchmark: knows the score.
    judge: is asked for it.
    on_scored: called in the thread with (attempt, its counts and numbers).
  """

  def __init__(
    self,
    benchmark: benchmarks.Benchmark,
    judge: types.Judge | None,
    on_scored: Callable[[benchmarks.Attempt, benchmarks.Row], None],
  ):
    self._benchmark, self._judge = benchmark, judge
    self._on_scored = on_scored
    self._waiting = collections.deque()
    self._jobs = collections.deque()
    self._thread = concurrent.futures.ThreadPoolExecutor(1)

  def __enter__(self) -> 'Scorer':
    return self

  def __exit__(self, kind, *_) -> None:
    self._thread.shutdown(cancel_futures=kind is not None)
    if kind is None:
      for job in self._jobs:
        job.result()

  def put(self, attempt: benchmarks.Attempt) -> None:
    """Has an attempt scored.

    Raises:
      Exception: whatever scoring an earlier one has raised.
    """
    while self._jobs and self._jobs[0].done():
      self._jobs.popleft().result()
    self._waiting.append(attempt)
    # Most of these will find that one before them took all that waited.
    self._jobs.append(self._thread.submit(self._drain))

  def _drain(self):
    most = min(len(self._waiting), _MOST_AT_ONCE)
    batch = [self._waiting.popleft() for _ in range(most)]
    if not batch:
      return
    found = self._benchmark.score(batch, self._judge)
    for attempt, (numbers, asked) in zip(batch, found, strict=True):
      counts = dict(attempt.parts) | numbers | {'judge_calls': asked}
      self._on_scored(attempt, counts)
