"""Rollouts: attempts at tasks by a lead agent and its subagents.

In come tasks, an engine, a tokenizer and tools; out go groups of
`types.Rollout`. All rollouts of all tasks share the engine's batch. What a
rollout samples depends only on its address (seed, step, task, index), not on
what else is in flight.
"""

import dataclasses
import itertools
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wideseek_jax import types
from wideseek_jax.agents import agent, limits, prompts, requests, scheduler
from wideseek_jax.agents.rollout_config import RolloutConfig

__all__ = [
  'RolloutConfig',
  'role_specs',
  'rollout_group',
  'rollout_groups',
  'rollouts',
]


# One for all, or one a role ('lead', 'subagent'; 'single').
Engines = types.Engine | Mapping[types.Role, types.Engine]
Specs = Mapping[types.Role, prompts.RoleSpec]


def rollout_group(
  engine: Engines,
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
  engine: Engines,
  tokenizer: prompts.Tokenizer,
  tools: types.Tools,
  tasks: Sequence[types.Task],
  *,
  seed: int = 0,
  step: int = 0,
  progress: Callable[[int, int], None] | None = None,
  clock: limits.Clock = time.monotonic,
  **config,
) -> list[list[types.Rollout]]:
  """Attempts every task group_size times (arXiv 2602.04634 §3).

  Args:
    engine: decodes the agents' turns; a mapping gives each role its own, with
      weights of its own.
    tokenizer: text to ids and back.
    tools: search and access; called from several threads at a time.
    tasks: what to attempt.
    seed: of the run.
    step: of the training; together with the seed it addresses the samples.
    progress: called with (finished rollouts, all rollouts) as they finish.
    clock: what limits in seconds are measured with.
    **config: the fields of `RolloutConfig`.

  Returns:
    A group of rollouts a task, in the order of the tasks.
  """
  size = RolloutConfig(**config).group_size
  places = [(task, index) for task in tasks for index in range(size)]
  ended = itertools.count(1)
  found = rollouts(
    engine,
    tokenizer,
    tools,
    places,
    seed=seed,
    step=step,
    on_rollout=progress and (lambda _: progress(next(ended), len(places))),
    clock=clock,
    **config,
  )
  return [found[i : i + size] for i in range(0, len(found), size)]


def rollouts(
  engine: Engines,
  tokenizer: prompts.Tokenizer,
  tools: types.Tools,
  places: Sequence[tuple[types.Task, int]],
  *,
  seed: int = 0,
  step: int = 0,
  on_rollout: Callable[[types.Rollout], None] | None = None,
  clock: limits.Clock = time.monotonic,
  **config,
) -> list[types.Rollout]:
  """Makes single rollouts, such as those that an interrupted run still lacks.

  Args:
    places: (task, index) of each, those of a task side by side; equal places
      get equal rollouts, in whatever company.
    on_rollout: called with each rollout as it ends.
    **config: as in `rollout_groups`, which tells about the others, too; the
      group_size does not matter.

  Returns:
    The rollouts, in the order of the places.
  """
  options = RolloutConfig(**config)
  roles = ('lead', 'subagent') if options.workflow == 'multi' else ('single',)
  if isinstance(engine, Mapping):
    missing = [role for role in roles if role not in engine]
    if missing:
      raise ValueError(f'no engine for the roles {missing}: name one for each')
    engines = {role: engine[role] for role in roles}
  else:
    engines = dict.fromkeys(roles, engine)
  most = min(one.max_context for one in engines.values())
  options = dataclasses.replace(
    options, max_context=min(options.max_context, most)
  )
  # All of them now: a missing template should not end a run in its middle.
  specs = {
    key: role_specs(options, *key)
    for key in {(task.kind, task.language) for task, _ in places}
  }
  made: dict[int, types.Rollout] = {}

  def on_result(place: int, trajectories: tuple[types.Trajectory, ...]) -> None:
    task, index = places[place]
    made[place] = types.Rollout(task.task_id, index, trajectories)
    if on_rollout is not None:
      on_rollout(made[place])

  scheduler.run(
    _root_agents(tokenizer, places, specs, (seed, step), options, clock),
    engines,
    tools,
    scheduler.Options(
      max_open=options.max_open_rollouts,
      tool_threads=options.tool_threads,
      tool_seconds=options.tool_seconds,
      overlap_tools=options.overlap_tools,
      clock=clock,
    ),
    on_result=on_result,
  )
  return [made[place] for place in range(len(places))]


def role_specs(
  config: RolloutConfig, kind: prompts.Kind, language: str = 'en'
) -> Specs:
  """The roles as the options have them, for a kind of task in a language."""
  turns_and_calls: dict[types.Role, tuple[int, int]] = {
    'lead': (config.max_lead_turns, config.max_tool_calls),
    'subagent': (config.max_subagent_turns, config.max_tool_calls),
    'single': (config.max_single_turns, 1),
  }
  return {
    role: prompts.role_spec(
      role,
      style=config.prompt_style,
      kind=kind,
      language=language,
      folder=config.prompts,
      max_turns=max_turns,
      max_calls=max_calls,
      max_subagents=config.max_subagents,
      search_count=config.search_count,
      lead_searches=config.lead_searches,
    )
    for role, (max_turns, max_calls) in turns_and_calls.items()
  }


def _root_agents(
  tokenizer: prompts.Tokenizer,
  places: Sequence[tuple[types.Task, int]],
  specs: Mapping[tuple[prompts.Kind, str], Specs],
  seed_and_step: tuple[int, int],
  config: RolloutConfig,
  clock: limits.Clock,
) -> Iterator[requests.Agent]:
  """The lead or single agents of all rollouts, group by group."""
  by_task = itertools.groupby(places, key=lambda place: place[0].task_id)
  for task_id, group in by_task:
    group = list(group)
    tail = None
    if config.tail_fraction < 1:
      wanted = math.ceil(config.tail_fraction * len(group))
      tail = limits.Tail(wanted, config.tail_turns)
    # The address names the task itself: its samples do not depend on which
    # other tasks are attempted, or in which order.
    task_key = zlib.crc32(task_id.encode()) & 0x7FFFFFFF
    for task, index in group:
      root = _root_agent(
        specs[task.kind, task.language],
        tokenizer=tokenizer,
        question=task.question,
        config=config,
        address=(*seed_and_step, task_key, index),
        clock=clock,
        tail=tail,
      )
      yield root if tail is None else _counted(root, tail)


def _counted(root: requests.Agent, tail: limits.Tail) -> requests.Agent:
  """The agent, which counts among its group's when it has ended."""
  result = yield from root
  tail.done += 1
  return result


def _root_agent(specs: Specs, **shared: Any) -> requests.Agent:
  """The lead or single agent of one rollout.

  Args:
    specs: of all roles.
    **shared: arguments of `run_agent` that all agents of the rollout share.
  """
  lead_urls: set[str] = set()
  numbers = itertools.count(1)

  def create(subtasks, parent_turn):
    known = frozenset(lead_urls)
    return [
      subagent(next(numbers), subtask, parent_turn, set(known))
      for subtask in subtasks
    ]

  def subagent(number, subtask, parent_turn, own_urls):
    # What its siblings find meanwhile is not for it: timing would decide what
    # it may open. The lead and later subagents see all that was found.
    result = yield from agent.run_agent(
      specs['subagent'],
      agent=number,
      subtask=subtask,
      parent_turn=parent_turn,
      known_urls=own_urls,
      **shared,
    )
    lead_urls.update(own_urls)
    return result

  role = 'lead' if shared['config'].workflow == 'multi' else 'single'
  return agent.run_agent(
    specs[role], known_urls=lead_urls, create=create, **shared
  )
