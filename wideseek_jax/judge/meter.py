"""Counts what a judge costs and says when its budget is spent."""

import dataclasses

from wideseek_jax import types


@dataclasses.dataclass(frozen=True)
class JudgeStats:
  """What a client did so far.

  Attributes:
    calls: requests that were sent, repeated ones included.
    retries: how many of them were repetitions.
    cached: replies that came from the cache.
    refused: prompts that the endpoint would not take.
    tokens: read and written by the judge, as it says; estimated from the
      length of the texts where it does not.
  """

  calls: int = 0
  retries: int = 0
  cached: int = 0
  refused: int = 0
  tokens: int = 0


class Meter:
  """Adds up; for one thread.

  Args:
    max_calls: the budget in requests; 0 for no limit.
    max_total_tokens: the budget in tokens; 0 for no limit.

  Attributes:
    stats: what was counted so far.
  """

  def __init__(self, max_calls: int, max_total_tokens: int):
    self._limits = {'calls': max_calls, 'tokens': max_total_tokens}
    self.stats = JudgeStats()

  def add(self, **more: int) -> None:
    """Adds to the fields of `stats`."""
    self.stats = dataclasses.replace(
      self.stats,
      **{name: getattr(self.stats, name) + n for name, n in more.items()},
    )

  def check(self) -> None:
    """Refuses a further request if the budget is spent.

    Raises:
      types.JudgeUnavailable: it is.
    """
    for name, most in self._limits.items():
      if most and getattr(self.stats, name) >= most:
        raise types.JudgeUnavailable(
          f"the judge's budget of {most} {name} is spent; raise "
          f'config.judge.max_{"total_tokens" if name == "tokens" else name}'
        )
