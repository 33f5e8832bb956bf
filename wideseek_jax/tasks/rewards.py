"""The reward of a rollout, and which of its turns are trained with it.

In come a `types.Rollout` and its `types.Task`; out goes a `types.Score` with
every part of the reward, and masks of the tokens that train. One outcome
reward serves all agents of a rollout (arXiv 2602.04634 §3.3). Rules decide what
is right; where they cannot, a judge may (`score_groups`).

An error in the data or in a judge is raised. It never looks like a rollout
that answered badly.
"""

from collections.abc import Collection, Sequence

import numpy as np

from wideseek_jax import types
from wideseek_jax.judge import rules
from wideseek_jax.tasks import counts as counts_lib
from wideseek_jax.tasks import judged as judged_lib
from wideseek_jax.tasks import metrics, tables

ROLES: tuple[types.Role, ...] = ('lead', 'subagent', 'single')
# What may be trained, by name: a single agent is a lead without subagents.
TRAINED_ROLES: dict[str, tuple[types.Role, ...]] = {
  'both': ROLES,
  'lead': ('lead', 'single'),
  'subagent': ('subagent',),
  'none': (),
}

# Failures that depend on how fast the machine is.
_STOPPED = {types.TIME_LIMIT_FAILED, types.TAIL_CUT_FAILED}


def score(
  rollout: types.Rollout,
  task: types.Task,
  *,
  judged: judged_lib.Judged | None = None,
  format_reward: float = 0.1,
  tool_reward: float = 0.05,
  length_penalty: float = 0.1,
  length_soft: int = 3000,
  length_hard: int = 5000,
) -> types.Score:
  """Scores a rollout.

  The reward is 0 unless the lead ended by itself with an answer of the right
  form; then it is the sum of `answer` (item F1 of a table, exact match of a
  boxed answer), `format`, `tool` (some agent opened a page) and `length` (≤ 0,
  linear in the longest turn of any agent between the two lengths).

  Args:
    rollout: the attempt.
    task: what was attempted.
    judged: the answer with a judge's verdicts; without it rules alone decide.
    format_reward: what an answer of the right form earns.
    tool_reward: what at least one opened page earns.
    length_penalty: what the longest turn can cost.
    length_soft: tokens of a turn that are free.
    length_hard: tokens of a turn from which the full penalty is due.

  Returns:
    types.Score. Its parts hold the four summands (0 when the reward is 0),
    `format_ok` and `lead_ok` that decide on them, the metrics of the answer
    (`item_f1`, `row_f1`, `success` … of a table, `exact_match` of a boxed
    answer; 0 without an answer), and counts of agents, turns and calls; of a
    judged answer also `judge_asked` and `judge_undecided`.

  Raises:
    ValueError: the rollout attempts another task, the lengths are not in
      order, or the gold table is broken.
  """
  if rollout.task_id != task.task_id:
    raise ValueError(
      f'rollout of task {rollout.task_id!r} scored with task {task.task_id!r}'
    )
  if length_soft >= length_hard:
    raise ValueError(
      f'length_soft {length_soft} must be below length_hard {length_hard}'
    )
  lead_ok = not rollout.lead.failures
  if task.kind == 'wide':
    format_ok, answer, parts = _score_table(rollout.lead, task, judged)
  else:
    format_ok, answer, parts = _score_boxed(rollout.lead, task, judged)
  counts = counts_lib.rollout_counts(rollout)
  summands = dict.fromkeys(('answer', 'format', 'tool', 'length'), 0.0)
  if format_ok and lead_ok:
    over = (counts['longest_turn'] - length_soft) / (length_hard - length_soft)
    summands['answer'] = answer
    summands['format'] = format_reward
    summands['tool'] = tool_reward if counts['num_access'] else 0.0
    summands['length'] = 0.0 - length_penalty * min(max(over, 0.0), 1.0)
  if judged is not None:
    parts['judge_asked'] = float(judged.asked)
    parts['judge_undecided'] = float(judged.undecided)
  flags = {'format_ok': float(format_ok), 'lead_ok': float(lead_ok)}
  return types.Score(sum(summands.values()), summands | flags | parts | counts)


def score_groups(
  groups: Sequence[Sequence[types.Rollout]],
  tasks: Sequence[types.Task],
  *,
  judge: types.Judge | None = None,
  **options,
) -> list[list[types.Score]]:
  """Scores groups of rollouts, each with the task at its place.

  Args:
    groups: the attempts.
    tasks: one a group.
    judge: decides what rules cannot, all rollouts together.
    **options: those of `score`.

  Raises:
    ValueError: as `score` does.
    types.JudgeUnavailable: as the judge does.
  """
  pairs = [
    (rollout, task)
    for task, group in zip(tasks, groups, strict=True)
    for rollout in group
  ]
  judged = [None] * len(pairs)
  if judge is not None:
    judged = judged_lib.ask(judge, [_judge(*pair) for pair in pairs])
  scores = iter(
    score(rollout, task, judged=found, **options)
    for (rollout, task), found in zip(pairs, judged, strict=True)
  )
  return [[next(scores) for _ in group] for group in groups]


def trained_turns(
  rollout: types.Rollout,
  score: types.Score,
  roles: Collection[types.Role] = ROLES,
) -> tuple[tuple[bool, ...], ...]:
  """Which turns train with the rollout's reward, per trajectory and turn.

  - Good form, lead ended by itself: all turns of agents that did not fail.
  - Good form, lead failed (it wrote a table and went on): the lead's turns.
  - Bad form: the lead's last turn if it ended by itself; and the runaway turns
    if there are any, else all turns of the agents that failed.

  An agent that the clock stopped did not fail by anything that it did: in the
  second and third case its turns train only if they ran away.

  Args:
    rollout: the attempt.
    score: its score.
    roles: agents of other roles do not train.
  """
  lead = rollout.lead
  failed = [bool(set(t.failures) - _STOPPED) for t in rollout.trajectories]
  runaway = [
    types.TURN_REPEAT_FAILED in t.failures for t in rollout.trajectories
  ]
  chosen = []
  for place, t in enumerate(rollout.trajectories):
    is_lead = t is lead
    if score.parts['format_ok'] and not lead.failures:
      mask = _all(t, not t.failures)
    elif score.parts['format_ok']:
      mask = _all(t, is_lead and failed[place])
    elif is_lead and not lead.failures:
      mask = _last(t, True)
    elif any(runaway):
      mask = _last(t, runaway[place])
    else:
      mask = _all(t, failed[place])
    chosen.append(mask if t.role in roles else _all(t, False))
  return tuple(chosen)


def trained_mask(
  rollout: types.Rollout,
  score: types.Score,
  roles: Collection[types.Role] = ROLES,
) -> list[np.ndarray]:
  """The sampled tokens of `trained_turns`: bool [T] per trajectory."""
  masks = []
  for trajectory, turns in zip(
    rollout.trajectories, trained_turns(rollout, score, roles), strict=True
  ):
    mask = np.zeros(len(trajectory.token_ids), bool)
    for turn, trained in zip(trajectory.turns, turns, strict=True):
      mask[turn.start : turn.stop] = trained
    masks.append(mask & trajectory.sample_mask)
  return masks


def _judge(rollout: types.Rollout, task: types.Task) -> judged_lib.Asking:
  lead = rollout.lead
  if task.kind == 'wide':
    table, _ = tables.parse_markdown_table(_final_text(lead))
    columns_only = bool(lead.failures)
    return judged_lib.judge_table(table, task, columns_only=columns_only)
  boxed = None if lead.failures else tables.extract_boxed(lead.answer)
  return judged_lib.judge_boxed(boxed, task)


def _score_table(
  lead: types.Trajectory,
  task: types.Task,
  judged: judged_lib.Judged | None,
) -> tuple[bool, float, dict[str, float]]:
  if judged is None:
    table, _ = tables.parse_markdown_table(_final_text(lead))
  else:
    table = judged.table
  # Scored first: a broken gold table raises whatever the answer is.
  parts = metrics.table_metrics(
    None if lead.failures else table, task.table, task.unique_columns
  )
  format_ok = (
    table is not None
    and metrics.align_columns(table, task.table.columns) is not None
  )
  return format_ok, parts['item_f1'], parts


def _score_boxed(
  lead: types.Trajectory,
  task: types.Task,
  judged: judged_lib.Judged | None,
) -> tuple[bool, float, dict[str, float]]:
  boxed = tables.extract_boxed(_final_text(lead))
  format_ok = bool(boxed)
  if judged is not None:
    boxed = judged.boxed
  right = (
    format_ok and not lead.failures and rules.same_as_any(boxed, task.answers)
  )
  return format_ok, float(right), {'exact_match': float(right)}


def _final_text(lead: types.Trajectory) -> str:
  """The answer; of a lead that failed, the text of its last turn."""
  if lead.failures:
    return lead.turns[-1].text if lead.turns else ''
  return lead.answer


def _all(trajectory: types.Trajectory, trained: bool) -> tuple[bool, ...]:
  return (trained,) * len(trajectory.turns)


def _last(trajectory: types.Trajectory, trained: bool) -> tuple[bool, ...]:
  return tuple(
    trained and turn is trajectory.turns[-1] for turn in trajectory.turns
  )
