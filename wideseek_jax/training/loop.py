"""The training loop: roll out, score, advantage, step; validate, save, log.

In: the parts that `build` made and the loop's own few numbers. Out: a trained
state, checkpoints and one metrics row a step. All randomness is addressed by
(seed, step, …), so a resumed run needs only the state and its step.
"""

import concurrent.futures
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.evaluation import runner
from wideseek_jax.models import lora
from wideseek_jax.rl import advantages as advantages_lib
from wideseek_jax.tasks import counts, rewards
from wideseek_jax.training import (
  batching,
  finished,
  multihost,
  preemption,
  train_state,
  updates,
)


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """The loop's own numbers.

  Attributes:
    num_steps: batches of rollouts to learn from.
    tasks_per_step: groups that one step learns from.
    epochs: passes over them.
    minibatches: updates of a pass; a divisor of tasks_per_step.
    rescore: ratios are to log-probs that the trainer computed before the first
      update, not to those that the engine sampled with; one more forward pass.
    asynchronous: rollouts of a step are made while the update of the step
      before is, so with weights that lack that update.
    trained_roles: whose turns are trained, one of `rewards.TRAINED_ROLES`.
    eval_every: steps between two validations; 0 validates never.
    eval_samples: rollouts a validation task.
    checkpoint_every: steps between two checkpoints; the last step has one.
    rollouts_every: steps between two whose rollouts are kept; 0 keeps none.
    seed: of task order and sampling.
  """

  num_steps: int = 20
  tasks_per_step: int = 4
  epochs: int = 1
  minibatches: int = 1
  rescore: bool = False
  asynchronous: bool = False
  trained_roles: str = 'both'
  eval_every: int = 0
  eval_samples: int = 1
  checkpoint_every: int = 10
  rollouts_every: int = 1
  seed: int = 0

  def __post_init__(self):
    for name in (
      'num_steps',
      'tasks_per_step',
      'epochs',
      'minibatches',
      'checkpoint_every',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'loop.{name} must be at least 1')
    if self.trained_roles not in rewards.TRAINED_ROLES:
      raise ValueError(
        f'loop.trained_roles {self.trained_roles!r} is none of '
        f'{tuple(rewards.TRAINED_ROLES)}'
      )
    if self.tasks_per_step % self.minibatches:
      raise ValueError(
        f'loop.tasks_per_step {self.tasks_per_step} does not divide over '
        f'loop.minibatches {self.minibatches}'
      )


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a run is made of; see `run.build_parts`.

  `engine` samples with what is trained; `frozen_engines` have the roles that
  other weights play, which stay as they are. `to_engine` brings parameters of
  the whole mesh to where `engine` is.
  """

  engine: Any
  tokenizer: Any
  tools: types.Tools
  train_tasks: Sequence[types.Task]
  valid_tasks: Sequence[types.Task]
  step: Callable[..., tuple[Any, dict[str, Any]]]
  rollout: Mapping[str, Any]
  reward: Mapping[str, Any]
  batch: Mapping[str, Any]
  advantage: Mapping[str, Any]
  frozen: lora.Frozen | None = None
  judge: types.Judge | None = None
  frozen_engines: Mapping[types.Role, Any] = dataclasses.field(
    default_factory=dict
  )
  to_engine: Callable[[Any], Any] = lambda params: params

  @property
  def engines(self) -> dict[types.Role, Any]:
    """Who samples the turns of each role."""
    return dict.fromkeys(rewards.ROLES, self.engine) | self.frozen_engines


def pick_tasks(
  tasks: Sequence[types.Task], step: int, count: int, seed: int
) -> list[types.Task]:
  """The tasks of one step: every epoch is a fresh permutation of all.

  A pure function of its arguments: the data position is the step itself.
  """
  picked = []
  for position in range(step * count, (step + 1) * count):
    epoch, index = divmod(position, len(tasks))
    order = np.random.default_rng([seed, epoch]).permutation(len(tasks))
    picked.append(tasks[order[index]])
  return picked


@dataclasses.dataclass(frozen=True)
class _Rolled:
  """The scored rollouts of a step, and what making them took."""

  step: int
  tasks: list[types.Task]
  groups: list[list[types.Rollout]]
  scores: list[list[types.Score]]
  metrics: dict[str, float]


def train(
  state: train_state.TrainState,
  parts: Parts,
  config: LoopConfig,
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
        found = _validate(parts, config, hosts)
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
  learning = None
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    try:
      for step in range(weights_step, config.num_steps):
        mine = _roll(parts, config, hosts, step, weights_step, made, progress)
        if learning is not None:
          finish(learning.result)
        # All processes meet in the same order, also if the update has its own
        # thread.
        rolled = _gather(hosts, mine, _tasks(parts, config, step))
        progress(step, 'update')
        learn = functools.partial(
          _learn, whole, parts, config, hosts, rolled, keep, ref_params
        )
        if config.asynchronous:
          whole = None
          learning = thread.submit(learn)
        else:
          finish(learn)
      if learning is not None:
        finish(learning.result)
    except (types.JudgeUnavailable, preemption.Preempted):
      # A resumed run begins with this step, and finds its rollouts, and in the
      # judge's cache what was judged of them.
      if whole is not None:
        save(whole)
      raise
  return whole


def _roll(
  parts: Parts,
  config: LoopConfig,
  hosts: multihost.Hosts,
  step: int,
  weights_step: int,
  made: finished.Finished | None,
  progress: Callable[[int, str], None],
) -> _Rolled:
  """Makes and scores what this process has of a step, as far as it is not yet.

  Args: as in `train`, and
    weights_step: how many steps the engine's weights have had.
  """
  start = time.monotonic()
  parts.engine.reset_stats()
  tasks = hosts.share(_tasks(parts, config, step))
  size = rollout_lib.RolloutConfig(**parts.rollout).group_size
  places = [(task, index) for task in tasks for index in range(size)]
  known = made.read(step) if made else {}
  missing = [(t, i) for t, i in places if (t.task_id, i) not in known]
  done = len(places) - len(missing)

  def on_rollout(rollout):
    nonlocal done
    done += 1
    known[rollout.task_id, rollout.index] = rollout, weights_step
    if made:
      made.add(step, rollout, weights_step)
    progress(step, f'rollouts {done}/{len(places)}')

  if missing:
    rollout_lib.rollouts(
      parts.engines,
      parts.tokenizer,
      parts.tools,
      missing,
      seed=config.seed,
      step=step,
      on_rollout=on_rollout,
      **parts.rollout,
    )
  found = [known[task.task_id, index] for task, index in places]
  groups = [
    [rollout for rollout, _ in found[i : i + size]]
    for i in range(0, len(found), size)
  ]
  metrics = {
    f'engine/{k}': float(v)
    for k, v in dataclasses.asdict(parts.engine.stats()).items()
  }
  metrics['time/rollout_s'] = time.monotonic() - start
  if config.asynchronous:
    sampled = [sum(t.num_sampled for t in r.trajectories) for r, _ in found]
    stale = [weights < step for _, weights in found]
    metrics['rollout/stale_tokens'] = float(np.average(stale, weights=sampled))
  scores = rewards.score_groups(
    groups, tasks, judge=parts.judge, **parts.reward
  )
  return _Rolled(step, tasks, groups, scores, metrics)


def _tasks(parts: Parts, config: LoopConfig, step: int) -> list[types.Task]:
  return pick_tasks(parts.train_tasks, step, config.tasks_per_step, config.seed)


def _gather(
  hosts: multihost.Hosts, mine: _Rolled, tasks: Sequence[types.Task]
) -> _Rolled:
  """The rollouts of all processes, with the means of their metrics.

  Args:
    hosts: who made them.
    mine: the share of this process.
    tasks: of all shares, in order.
  """
  if hosts.count == 1:
    return mine
  shares = [
    [
      [
        finished.to_json(rollout),
        float(score.reward),
        {name: float(value) for name, value in score.parts.items()},
      ]
      for rollout, score in zip(*both, strict=True)
    ]
    for both in zip(mine.groups, mine.scores, strict=True)
  ]
  rows = [json.loads(row) for row in hosts.gather([*map(_encode, shares)])]
  metrics = [json.loads(row) for row in hosts.gather([_encode(mine.metrics)])]
  return _Rolled(
    mine.step,
    list(tasks),
    [[finished.from_json(one) for one, *_ in row] for row in rows],
    [[types.Score(*score) for _, *score in row] for row in rows],
    {
      name: float(np.mean([one[name] for one in metrics]))
      for name in mine.metrics
    },
  )


def _encode(value: Any) -> bytes:
  return json.dumps(value).encode()


def _validate(
  parts: Parts, config: LoopConfig, hosts: multihost.Hosts
) -> _Rolled:
  """Rolls out and scores the validation tasks, each process its share."""
  start = time.monotonic()
  tasks = hosts.share(parts.valid_tasks)
  groups, scores = runner.evaluate(
    parts.engines,
    parts.tokenizer,
    parts.tools,
    tasks,
    samples=config.eval_samples,
    seed=config.seed,
    rollout=parts.rollout,
    reward=parts.reward,
    judge=parts.judge,
  )
  found = _gather(
    hosts, _Rolled(0, tasks, groups, scores, {}), parts.valid_tasks
  )
  metrics = score_means(found.scores, 'valid/')
  metrics['time/valid_s'] = time.monotonic() - start
  return dataclasses.replace(found, metrics=metrics)


def _learn(
  state: train_state.TrainState,
  parts: Parts,
  config: LoopConfig,
  hosts: multihost.Hosts,
  rolled: _Rolled,
  keep: Callable[..., None],
  ref_params: Any,
) -> tuple[train_state.TrainState, _Rolled, dict[str, float]]:
  """The updates of a step: (state, rolled, the step's metrics)."""
  start = time.monotonic()
  roles = rewards.TRAINED_ROLES[config.trained_roles]
  groups, scores, step = rolled.groups, rolled.scores, rolled.step
  advantages = score_advantages(groups, scores, roles, **parts.advantage)
  if config.rollouts_every and step % config.rollouts_every == 0:
    keep(
      'train',
      step,
      rolled.tasks,
      groups,
      scores,
      advantages=advantages,
      roles=roles,
    )
  batches = updates.make_minibatches(
    groups,
    advantages,
    [
      [
        rewards.trained_mask(rollout, score, roles)
        for rollout, score in zip(group, group_scores, strict=True)
      ]
      for group, group_scores in zip(groups, scores, strict=True)
    ],
    minibatches=config.minibatches,
    seed=config.seed,
    step=step,
    **parts.batch,
  )
  with hosts.meeting():
    state, step_metrics = updates.run_updates(
      parts.step,
      state,
      batches,
      ref_params,
      epochs=config.epochs,
      rescore=config.rescore,
      seed=config.seed,
      step=step,
    )
  stats = batching.batch_stats(updates.join(batches))
  metrics = {f'train/{k}': v for k, v in step_metrics.items()}
  metrics |= agent_means(groups)
  metrics |= score_means(scores, 'rollout/')
  metrics |= {
    f'batch/{k}': float(v) for k, v in dataclasses.asdict(stats).items()
  }
  metrics |= rolled.metrics | {'time/update_s': time.monotonic() - start}
  return state, rolled, metrics


def score_advantages(
  groups: Sequence[Sequence[types.Rollout]],
  scores: Sequence[Sequence[types.Score]],
  roles: Collection[types.Role] = rewards.ROLES,
  **options: Any,
) -> list[np.ndarray]:
  """Advantages of each group: float32 [G]; see `rl.advantages`.

  Args:
    groups: the rollouts.
    scores: theirs.
    roles: that train.
    **options: of `advantages.group_advantages`.
  """
  return [
    advantages_lib.group_advantages(
      [score.reward for score in group_scores],
      [
        sum(map(sum, rewards.trained_turns(rollout, score, roles)))
        for rollout, score in zip(group, group_scores, strict=True)
      ],
      **options,
    )
    for group, group_scores in zip(groups, scores, strict=True)
  ]


def score_means(
  scores: Sequence[Sequence[types.Score]], prefix: str
) -> dict[str, float]:
  """Mean reward and mean of each part, over the rollouts that have it."""
  values = {}
  for score in (score for group in scores for score in group):
    for name, value in {'reward': score.reward, **score.parts}.items():
      values.setdefault(prefix + name, []).append(value)
  return {name: float(np.mean(found)) for name, found in values.items()}


def agent_means(
  groups: Sequence[Sequence[types.Rollout]],
) -> dict[str, float]:
  """Means over agents of `tasks.counts.trajectory_counts`, as 'agent/…'."""
  found = [
    counts.trajectory_counts(t)
    for group in groups
    for rollout in group
    for t in rollout.trajectories
  ]
  return {
    f'agent/{name}': float(np.mean([one[name] for one in found]))
    for name in found[0]
  }
