"""A profiler's trace of one training step or of one evaluation, by flag.

In: --trace_step. Out: WORKDIR/trace, which TensorBoard (with its profile
plugin) and ui.perfetto.dev read.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable

import jax
from absl import flags

_TRACE_STEP = flags.DEFINE_integer(
  'trace_step',
  None,
  'Writes a jax.profiler trace of this step (of all, where there are no steps) '
  'to WORKDIR/trace. Compilation hides all else in the first step of a run.',
  lower_bound=0,
)


def whole(workdir: str | os.PathLike) -> contextlib.AbstractContextManager:
  """Traces what runs inside, if --trace_step was given."""
  if _TRACE_STEP.value is None:
    return contextlib.nullcontext()
  return jax.profiler.trace(str(pathlib.Path(workdir) / 'trace'))


def step_by_step(workdir: str | os.PathLike) -> Callable[[int], None]:
  """A function to be called with the number of each step as it ends.

  The trace begins when the step before the chosen one has ended, or now.
  """
  running = contextlib.ExitStack()

  def ended(step: int) -> None:
    running.close()
    if step + 1 == _TRACE_STEP.value:
      running.enter_context(whole(workdir))

  ended(-1)
  return ended
