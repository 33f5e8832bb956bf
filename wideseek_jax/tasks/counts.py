"""What happened in a rollout, counted.

In comes a rollout; out go numbers by name. They are read off the trajectories
themselves, of all turns, whichever of them train.
"""

from collections.abc import Sequence

from wideseek_jax import types


def trajectory_counts(trajectory: types.Trajectory) -> dict[str, float]:
  """Counts of one agent.

  Returns:
    `turns`; `num_search` and `num_access`, calls that ran; `num_subagents`,
    those that it created; `tool_errors`, calls that ran and failed;
    `refused_calls`, those not allowed to run; `malformed_calls`, turns whose
    call could not be read, and `repairs`, those of them that were answered
    with the error; `longest_turn`, `sampled_tokens` and `tokens` in tokens;
    `failed`, and for each of `types.FAILURES` whether the agent failed by it.
  """
  turns = trajectory.turns
  names = [name for turn in turns for name in turn.tool_names]
  counts = {
    'turns': len(turns),
    'num_search': names.count('search'),
    'num_access': names.count('access'),
    'num_subagents': names.count('create_sub_agents'),
    'tool_errors': sum(turn.failed_calls for turn in turns),
    'refused_calls': sum(turn.refused_calls for turn in turns),
    'malformed_calls': sum(turn.malformed for turn in turns),
    'repairs': sum(turn.malformed and bool(turn.tool_text) for turn in turns),
    'longest_turn': max((t.stop - t.start for t in turns), default=0),
    'sampled_tokens': trajectory.num_sampled,
    'tokens': len(trajectory.token_ids),
    'failed': bool(trajectory.failures),
  } | {name: name in trajectory.failures for name in types.FAILURES}
  return {name: float(value) for name, value in counts.items()}


def rollout_counts(rollout: types.Rollout) -> dict[str, float]:
  """Counts of a rollout: those of its agents, added up.

  Returns:
    As `trajectory_counts`, with the longest turn of any agent; `lead_turns`,
    `subagent_turns` and the same of `_tokens`, which are sampled ones, instead
    of `turns`; and `failed_subagents` beside `failed`, which has the lead.
  """
  agents = [trajectory_counts(t) for t in rollout.trajectories]
  counts = {name: sum(one[name] for one in agents) for name in agents[0]}
  del counts['turns']
  lead, subagents = agents[0], agents[1:]
  return counts | {
    'longest_turn': max(one['longest_turn'] for one in agents),
    'lead_turns': lead['turns'],
    'subagent_turns': _total(subagents, 'turns'),
    'lead_tokens': lead['sampled_tokens'],
    'subagent_tokens': _total(subagents, 'sampled_tokens'),
    'failed_subagents': _total(subagents, 'failed'),
  }


def _total(agents: Sequence[dict[str, float]], name: str) -> float:
  return float(sum(one[name] for one in agents))
