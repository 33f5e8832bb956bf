"""The training loop: roll out, score, advantage, step; validate, save, log.

In: the parts that `build` made and the loop's own few numbers. Out: a trained
state, checkpoints and one metrics row a step. All randomness is addressed by
(seed, step, …), so a resumed run needs only the state and its step.
"""

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

from wideseek_jax import types
from wideseek_jax.models import lora
from wideseek_jax.training import (
  finished,
  learning,
  multihost,
  preemption,
  rolling,
  train_state,
)
from wideseek_jax.training import parts as parts_lib


def train(
  state: train_state.TrainState,
  parts: parts_lib.Parts,
  config: parts_lib.LoopConfig,
  *,
  log: Callable[[int, dict[str, float]], None],
  save: Callable[[train_state.TrainState], None],
  keep: Callable[..., None] = lambda name, step, *scored, **options: None,
  validated: Callable[[train_state.TrainState, dict[str, float]], None] = (
    lambda state, metrics: None
  ),
  progress: Callable[[int, str], None] = lambda step, note: None,
  ref_params: Any = None,
  made: finished.Finished | None = None,
  hosts: multihost.Hosts | None = None,
  notice: preemption.Notice | None = None,
) -> train_state.TrainState:
  """Trains from the state's step up to `config.num_steps`.

  Args:
    state: where to start; its step tells which tasks come next.
    parts: engine, tools, tasks and the compiled step.
    config: the loop's numbers.
    log: takes (step, metrics) once a step.
    save: writes a checkpoint of the state, unless it was the last one saved.
    keep: takes ('train' or 'valid', step, tasks, groups, scores) of the
      rollouts to be kept, and of training ones their advantages.
    validated: told (state, its validation metrics), 'valid/reward' among them.
    progress: told (steps done, a short note) all along.
    ref_params: what a KL term is taken to, if the step has one.
    made: where rollouts are written down as they end, and found again.
    hosts: who shares the rollouts; all make every update together.
    notice: of the machine's end; updates are not interrupted by it.

  Returns:
    the trained state.

  Raises:
    types.JudgeUnavailable: there is no judge any more; the state is saved.
    preemption.Preempted: as above.
  """
  hosts = hosts or multihost.Hosts()
  notice = notice or preemption.Notice()
  weights_step = int(state.step)
  # The newest state that a run can be taken up from; None while it is changed.
  whole: train_state.TrainState | None = state

  def use(state):
    params = parts.to_engine(lora.merge(parts.frozen, state.params))
    parts.engine.set_params(params)

  def finish(learn):
    """Makes an update, or waits for it, and does all that follows."""
    nonlocal whole, weights_step
    with notice.deferred():
      whole = None
      state, rolled, metrics = learn()
      use(state)
      weights_step = done = rolled.step + 1
      validate = config.eval_every and done % config.eval_every == 0
      if not validate:
        conclude(state, metrics)
    if validate:
      progress(rolled.step, 'validation')
      try:
        found = rolling.validate(parts, config, hosts)
      except types.JudgeUnavailable:
        # The step itself is whole; only its validation is lost.
        log(rolled.step, metrics)
        whole = state
        raise
      if config.rollouts_every:
        keep('valid', done, parts.valid_tasks, found.groups, found.scores)
      with notice.deferred():
        validated(state, found.metrics)
        conclude(state, metrics | found.metrics)
    progress(done, f'reward {metrics["rollout/reward"]:.3f}')

  def conclude(state, metrics):
    nonlocal whole
    done = int(state.step)
    log(done - 1, metrics)
    whole = state
    if done % config.checkpoint_every == 0 or done == config.num_steps:
      save(state)

  use(state)
  pending = None
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    try:
      for step in range(weights_step, config.num_steps):
        mine = rolling.roll(
          parts, config, hosts, step, weights_step, made, progress
        )
        if pending is not None:
          finish(pending.result)
        # All processes meet in the same order, also if the update has its own
        # thread.
        rolled = rolling.gather(
          hosts, mine, rolling.step_tasks(parts, config, step)
        )
        progress(step, 'update')
        learn = functools.partial(
          learning.learn, whole, parts, config, hosts, rolled, keep, ref_params
        )
        if config.asynchronous:
          whole = None
          pending = thread.submit(learn)
        else:
          finish(learn)
      if pending is not None:
        finish(pending.result)
    except (types.JudgeUnavailable, preemption.Preempted):
      # A resumed run begins with this step, and finds its rollouts, and in the
      # judge's cache what was judged of them.
      if whole is not None:
        save(whole)
      raise
  return whole
