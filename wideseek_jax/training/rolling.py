"""The loop's first half: rollouts of a step or a validation, and their scores.

In: the tasks of a step and the engines that play them. Out: scored groups, the
same on every process, each of which made its share. Rollouts are addressed by
(seed, step, task, index), so those that a killed run made are not made again.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.evaluation import runner
from wideseek_jax.tasks import rewards
from wideseek_jax.training import finished, multihost
from wideseek_jax.training import parts as parts_lib


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
class Rolled:
  """The scored rollouts of a step, and what making them took."""

  step: int
  tasks: list[types.Task]
  groups: list[list[types.Rollout]]
  scores: list[list[types.Score]]
  metrics: dict[str, float]


def roll(
  parts: parts_lib.Parts,
  config: parts_lib.LoopConfig,
  hosts: multihost.Hosts,
  step: int,
  weights_step: int,
  made: finished.Finished | None,
  progress: Callable[[int, str], None],
) -> Rolled:
  """Makes and scores what this process has of a step, as far as it is not yet.

  Args: as in `train`, and
    weights_step: how many steps the engine's weights have had.
  """
  start = time.monotonic()
  parts.engine.reset_stats()
  tasks = hosts.share(step_tasks(parts, config, step))
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
  return Rolled(step, tasks, groups, scores, metrics)


def step_tasks(
  parts: parts_lib.Parts, config: parts_lib.LoopConfig, step: int
) -> list[types.Task]:
  return pick_tasks(parts.train_tasks, step, config.tasks_per_step, config.seed)


def gather(
  hosts: multihost.Hosts, mine: Rolled, tasks: Sequence[types.Task]
) -> Rolled:
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
  return Rolled(
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


def validate(
  parts: parts_lib.Parts, config: parts_lib.LoopConfig, hosts: multihost.Hosts
) -> Rolled:
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
  found = gather(hosts, Rolled(0, tasks, groups, scores, {}), parts.valid_tasks)
  metrics = score_means(found.scores, 'valid/')
  metrics['time/valid_s'] = time.monotonic() - start
  return dataclasses.replace(found, metrics=metrics)


def score_means(
  scores: Sequence[Sequence[types.Score]], prefix: str
) -> dict[str, float]:
  """Mean reward and mean of each part, over the rollouts that have it."""
  values = {}
  for score in (score for group in scores for score in group):
    for name, value in {'reward': score.reward, **score.parts}.items():
      values.setdefault(prefix + name, []).append(value)
  return {name: float(np.mean(found)) for name, found in values.items()}
