"""Rollouts: attempts at tasks by a lead agent and its subagents.

In come tasks, an engine, a tokenizer and tools; out go groups of
`types.Rollout`. All rollouts of all tasks share the engine's batch. What a
rollout samples depends only on its address (seed, step, task, index), not on
what else is in flight.
"""

import concurrent.futures
import dataclasses
import zlib
from collections.abc import Callable, Sequence

from wideseek_jax import types
from wideseek_jax.agents import agent, prompts, scheduler
from wideseek_jax.agents.rollout_config import RolloutConfig

__all__ = ['RolloutConfig', 'role_specs', 'rollout_group', 'rollout_groups']


def rollout_group(
  engine: types.Engine,
  tokenizer: prompts.Tokenizer,
  tools: types.Tools,
  task: types.Task,
  *,
  seed: int = 0,
  step: int = 0,
  **config,
) -> list[types.Rollout]:
  """Attempts one task group_size times; see `rollout_groups`."""
  return rollout_groups(
    engine, tokenizer, tools, [task], seed=seed, step=step, **config
  )[0]


def rollout_groups(
  engine: types.Engine,
  tokenizer: prompts.Tokenizer,
  tools: types.Tools,
  tasks: Sequence[types.Task],
  *,
  seed: int = 0,
  step: int = 0,
  progress: Callable[[int, int], None] | None = None,
  **config,
) -> list[list[types.Rollout]]:
  """Attempts every task group_size times (arXiv 2602.04634 §3).

  Args:
    engine: decodes the agents' turns.
    tokenizer: text to ids and back.
    tools: search and access; called from several threads at a time.
    tasks: what to attempt.
    seed: of the run.
    step: of the training; together with the seed it addresses the samples.
    progress: called with (finished rollouts, all rollouts) as they finish.
    **config: the fields of `RolloutConfig`.

  Returns:
    A group of rollouts a task, in the order of the tasks.
  """
  options = RolloutConfig(**config)
  options = dataclasses.replace(
    options, max_context=min(options.max_context, engine.max_context)
  )
  places = [
    (task, index) for task in tasks for index in range(options.group_size)
  ]
  agents = (
    _root_agent(tokenizer, task, index, (seed, step), options)
    for task, index in places
  )
  on_result = None
  if progress is not None:

    def on_result(finished):
      progress(finished, len(places))

  with concurrent.futures.ThreadPoolExecutor(options.tool_threads) as executor:
    results = scheduler.run(
      agents,
      engine,
      tools,
      executor,
      max_open=options.max_open_rollouts,
      overlap_tools=options.overlap_tools,
      on_result=on_result,
    )
  rollouts = [
    types.Rollout(task.task_id, index, trajectories)
    for (task, index), trajectories in zip(places, results, strict=True)
  ]
  size = options.group_size
  return [rollouts[i : i + size] for i in range(0, len(rollouts), size)]


def role_specs(
  config: RolloutConfig, kind: prompts.Kind
) -> dict[types.Role, prompts.RoleSpec]:
  """The roles as the options have them, for a kind of task."""
  limits: dict[types.Role, tuple[int, int]] = {
    'lead': (config.max_lead_turns, config.max_subagents),
    'subagent': (config.max_subagent_turns, config.max_tool_calls),
    'single': (config.max_single_turns, 1),
  }
  return {
    role: prompts.role_spec(
      role,
      style=config.prompt_style,
      kind=kind,
      max_turns=max_turns,
      max_calls=max_calls,
      search_count=config.search_count,
    )
    for role, (max_turns, max_calls) in limits.items()
  }


def _root_agent(
  tokenizer: prompts.Tokenizer,
  task: types.Task,
  index: int,
  seed_and_step: tuple[int, int],
  config: RolloutConfig,
) -> agent.Agent:
  """The lead or single agent of one rollout."""
  specs = role_specs(config, task.kind)
  # The address names the task itself: its samples do not depend on which
  # other tasks are attempted, or in which order.
  task_key = zlib.crc32(task.task_id.encode()) & 0x7FFFFFFF
  address = (*seed_and_step, task_key, index)
  url_sets: list[set[str]] = []

  def create(subtasks, parent_turn):
    # No subagent runs now: what earlier ones found is final, so what a new
    # one may open does not depend on timing.
    known = set().union(*url_sets)
    made = []
    for subtask in subtasks:
      url_sets.append(set(known))
      made.append(
        agent.run_agent(
          specs['subagent'],
          tokenizer,
          task.question,
          config,
          address=address,
          agent=len(url_sets),
          subtask=subtask,
          parent_turn=parent_turn,
          known_urls=url_sets[-1],
        )
      )
    return made

  return agent.run_agent(
    specs['lead' if config.workflow == 'multi' else 'single'],
    tokenizer,
    task.question,
    config,
    address=address,
    create=create,
  )
