"""The training loop: roll out, score, advantage, step; validate, save, log.

In: the parts that `build` made and the loop's own few numbers. Out: a trained
state, checkpoints and one metrics row a step. All randomness is addressed by
(seed, step, …), so a resumed run needs only the state and its step.
"""

import dataclasses
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
from wideseek_jax.training import batching, train_state, updates


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
    trained_roles: whose turns are trained, one of `rewards.TRAINED_ROLES`.
    eval_every: steps between two validations; 0 validates never.
    eval_samples: rollouts a validation task.
    checkpoint_every: steps between two checkpoints; the last step has one.
    seed: of task order and sampling.
  """

  num_steps: int = 20
  tasks_per_step: int = 4
  epochs: int = 1
  minibatches: int = 1
  rescore: bool = False
  trained_roles: str = 'both'
  eval_every: int = 0
  eval_samples: int = 1
  checkpoint_every: int = 10
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
  other weights play, which stay as they are.
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


def train(
  state: train_state.TrainState,
  parts: Parts,
  config: LoopConfig,
  *,
  log: Callable[[int, dict[str, float]], None],
  save: Callable[[train_state.TrainState], None],
  validated: Callable[[train_state.TrainState, dict[str, float]], None] = (
    lambda state, metrics: None
  ),
  progress: Callable[[int, str], None] = lambda step, note: None,
  ref_params: Any = None,
) -> train_state.TrainState:
  """Trains from the state's step up to `config.num_steps`.

  Args:
    state: where to start; its step tells which tasks come next.
    parts: engine, tools, tasks and the compiled step.
    config: the loop's numbers.
    log: takes (step, metrics) once a step.
    save: writes a checkpoint of the state, unless it was the last one saved.
    validated: told (state, its validation metrics), 'valid/reward' among them.
    progress: told (steps done, a short note) all along.
    ref_params: what a KL term is taken to, if the step has one.

  Returns:
    the trained state.

  Raises:
    types.JudgeUnavailable: there is no judge any more; the state is saved.
  """
  roles = rewards.TRAINED_ROLES[config.trained_roles]
  parts.engine.set_params(lora.merge(parts.frozen, state.params))
  for step in range(int(state.step), config.num_steps):
    start = time.monotonic()
    parts.engine.reset_stats()
    tasks = pick_tasks(
      parts.train_tasks, step, config.tasks_per_step, config.seed
    )
    try:
      groups = rollout_lib.rollout_groups(
        parts.engines,
        parts.tokenizer,
        parts.tools,
        tasks,
        seed=config.seed,
        step=step,
        progress=lambda done, total, step=step: progress(
          step, f'rollouts {done}/{total}'
        ),
        **parts.rollout,
      )
      rolled = time.monotonic()
      engine_stats = parts.engine.stats()
      scores = rewards.score_groups(
        groups, tasks, judge=parts.judge, **parts.reward
      )
    except types.JudgeUnavailable:
      # A resumed run begins with this step, and finds in the judge's cache
      # what was judged of it.
      save(state)
      raise
    batches = updates.make_minibatches(
      groups,
      score_advantages(groups, scores, roles, **parts.advantage),
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
    batch = updates.join(batches)
    progress(step, 'update')
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
    parts.engine.set_params(lora.merge(parts.frozen, state.params))
    metrics = {f'train/{k}': v for k, v in step_metrics.items()}
    metrics |= agent_means(groups)
    metrics |= score_means(scores, 'rollout/')
    metrics |= {
      f'batch/{k}': float(v)
      for k, v in dataclasses.asdict(batching.batch_stats(batch)).items()
    }
    end = time.monotonic()
    metrics |= {
      'time/rollout_s': rolled - start,
      'time/update_s': end - rolled,
    }
    metrics |= {
      f'engine/{k}': float(v)
      for k, v in dataclasses.asdict(engine_stats).items()
    }
    done = step + 1
    if config.eval_every and done % config.eval_every == 0:
      progress(step, 'validation')
      start = time.monotonic()
      try:
        _, valid_scores = runner.evaluate(
          parts.engines,
          parts.tokenizer,
          parts.tools,
          parts.valid_tasks,
          samples=config.eval_samples,
          seed=config.seed,
          rollout=parts.rollout,
          reward=parts.reward,
          judge=parts.judge,
        )
      except types.JudgeUnavailable:
        # The step itself is whole; only its validation is lost.
        log(step, metrics)
        save(state)
        raise
      valid = score_means(valid_scores, 'valid/')
      metrics |= valid | {'time/valid_s': time.monotonic() - start}
      validated(state, valid)
    log(step, metrics)
    if done % config.checkpoint_every == 0 or done == config.num_steps:
      save(state)
    progress(done, f'reward {metrics["rollout/reward"]:.3f}')
  return state


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
