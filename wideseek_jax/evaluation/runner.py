"""Runs a policy on tasks and scores every rollout.

In: an engine, tools and tasks. Out: the rollouts with their scores, and rows of
plain numbers, one a rollout, ready for a jsonl.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wideseek_jax import types
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.tasks import rewards

# Evaluation draws from a stream that no training step uses.
EVAL_STEP = 1_000_000_007

Row = dict[str, Any]


def evaluate(
  engine: rollout_lib.Engines,
  tokenizer: Any,
  tools: types.Tools,
  tasks: Sequence[types.Task],
  *,
  samples: int,
  seed: int,
  rollout: Mapping[str, Any],
  reward: Mapping[str, Any],
  judge: types.Judge | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> tuple[list[list[types.Rollout]], list[list[types.Score]]]:
  """Makes `samples` rollouts of every task and scores them.

  Args:
    engine: holds the policy; a mapping gives each role its own.
    tokenizer: the policy's.
    tools: what the agents may ask.
    tasks: what they are asked.
    samples: rollouts a task.
    seed: equal seeds give equal rollouts.
    rollout: arguments of `rollout_groups`; its group_size is replaced.
    reward: arguments of `rewards.score`.
    judge: decides what rules cannot.
    progress: called with (rollouts finished, rollouts in all).

  Returns:
    groups of rollouts and of their scores, in the order of `tasks`.
  """
  groups = rollout_lib.rollout_groups(
    engine,
    tokenizer,
    tools,
    tasks,
    seed=seed,
    step=EVAL_STEP,
    progress=progress,
    **{**rollout, 'group_size': samples},
  )
  return groups, rewards.score_groups(groups, tasks, judge=judge, **reward)


def result_rows(
  tasks: Sequence[types.Task],
  groups: Sequence[Sequence[types.Rollout]],
  scores: Sequence[Sequence[types.Score]],
) -> list[Row]:
  """One row a rollout: task_id, sample, reward and every part of the score."""
  return [
    {
      'task_id': task.task_id,
      'sample': rollout.index,
      'reward': score.reward,
      **score.parts,
    }
    for task, group, group_scores in zip(tasks, groups, scores, strict=True)
    for rollout, score in zip(group, group_scores, strict=True)
  ]
