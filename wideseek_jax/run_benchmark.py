"""A whole evaluation of a policy on a benchmark, into a folder.

In: a config, a benchmark and a workdir. Out: what `evaluation.resumable` writes
there, and beside it `summary.json` and `summary.md`; for WideSearch also
`responses/` as the official scorer reads them.
"""

import collections
import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from wideseek_jax import build, files, progress, types
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.agents import rollout_config
from wideseek_jax.evaluation import benchmarks, resumable, runner, summaries
from wideseek_jax.evaluation.widesearch import released
from wideseek_jax.tasks import rewards

# Options of a rollout that change when it is made, not what it is.
_WITHOUT_EFFECT = ('max_open_rollouts', 'tool_threads', 'overlap_tools')


def run(
  config: build.Config,
  benchmark: benchmarks.Benchmark,
  workdir: str | os.PathLike,
  *,
  samples: int = 1,
  name: str = 'evaluation',
) -> tuple[dict[str, Any], list[str]]:
  """Evaluates config.policy, or goes on with it.

  Args:
    config: see `config.default_config`; its rollout.group_size does not matter.
    benchmark: what is asked.
    workdir: the evaluation's folder.
    samples: rollouts a task; more than last time adds some.
    name: what the progress line calls it.

  Returns:
    (what `summary.json` holds: benchmark, samples, scores, costs, and how
    many official scores ended how; what was skipped).

  Raises:
    OSError, ValueError: one line on what does not fit and what to do.
      types.JudgeUnavailable is one of them: started again, it goes on.
  """
  rollout = dict(config.rollout)
  del rollout['group_size']
  rollout_config.RolloutConfig(**rollout)  # Refused before all else.
  for policy in filter(None, build.policy_names(config)):
    build.policy_folder(policy)
  settings = {
    'benchmark': benchmark.name,
    'policy': config.policy,
    'subagent_policy': config.subagent_policy,
    'seed': config.seed,
    **{n: value for n, value in rollout.items() if n not in _WITHOUT_EFFECT},
  }

  def roll(judge, places, on_rollout):
    policy, tokenizer = build.build_policy(config)
    engine = build.build_engine(config, policy)
    engines = dict.fromkeys(rewards.ROLES, engine)
    engines |= build.build_frozen_engines(config, tokenizer)
    progress.say(f'engine: {engine.plan}')
    # So many keep its rows busy, and the first are done early.
    most = rollout['max_open_rollouts'] or engine.plan.num_rows
    rollout_lib.rollouts(
      engines,
      tokenizer,
      build.build_tools(config, judge),
      places,
      seed=config.seed,
      step=runner.EVAL_STEP,
      on_rollout=on_rollout,
      **(rollout | {'max_open_rollouts': most}),
    )

  return _run(config, benchmark, workdir, settings, roll, samples, name)


def score_responses(
  config: build.Config,
  benchmark: benchmarks.Benchmark,
  path: files.Path,
  workdir: str | os.PathLike,
  *,
  samples: int = 1,
) -> tuple[dict[str, Any], list[str]]:
  """Scores answers of any system, as `run` scores those of a policy.

  Args:
    config: its judge is asked.
    benchmark: what the answers are to. Tasks with fewer than `samples` answers
      are skipped.
    path: see `released.read_trials`.
    workdir: the folder of the scores.
    samples: answers a task, the first if there are more.

  Returns:
    As `run`.

  Raises:
    OSError, ValueError: as `run`.
  """
  trials, problems = released.read_trials(
    path, [task.task_id for task in benchmark.tasks]
  )
  kept = []
  for task in benchmark.tasks:
    count = len(trials.get(task.task_id, ()))
    if count < samples:
      problems.append(f'{path}: {count} of {samples} to {task.task_id!r}')
    else:
      kept.append(task)
  benchmark = dataclasses.replace(
    benchmark, tasks=tuple(kept), problems=(*benchmark.problems, *problems)
  )

  def roll(judge, places, on_rollout):
    for task, index in places:
      on_rollout(_answered(task, index, trials[task.task_id][index].response))

  settings = {'benchmark': benchmark.name, 'responses': os.fspath(path)}
  return _run(config, benchmark, workdir, settings, roll, samples, 'scores')


def _run(
  config: build.Config,
  benchmark: benchmarks.Benchmark,
  workdir: str | os.PathLike,
  settings: dict[str, Any],
  roll: Callable[..., None],
  samples: int,
  name: str,
) -> tuple[dict[str, Any], list[str]]:
  workdir = pathlib.Path(workdir)
  if not benchmark.tasks:
    raise ValueError(
      f'there is no task to evaluate: {"; ".join(benchmark.problems[:3])}'
    )
  # Another judge would give other scores.
  model = config.judge.base_url and config.judge.model
  settings = settings | {'judge': config.judge_policy or model}
  resumable.claim(workdir, settings)
  with build.open_judge(config) as judge:
    if judge is None and benchmark.name != 'facts':
      progress.say('no judge: what only it can tell counts as wrong')
    found = resumable.evaluate(
      benchmark,
      workdir,
      functools.partial(roll, judge),
      samples=samples,
      reward=dict(config.reward),
      judge=judge,
      name=name,
    )
  if benchmark.name.startswith('widesearch') and 'policy' in settings:
    model = pathlib.Path(config.policy).name
    _write_responses(workdir / 'responses', model, found.attempts)
  scores = summaries.scores(found.rows, benchmark.metrics, samples)
  summary = {
    'benchmark': benchmark.name,
    'samples': samples,
    'scores': scores,
    'costs': summaries.costs(found.rows),
    'statuses': collections.Counter(
      row['status'] for row in found.rows if 'status' in row
    ),
  }
  files.write_text(workdir / 'summary.json', json.dumps(summary, indent=2))
  table = summaries.table(scores, samples)
  lines = [
    summaries.cost_line(summary['costs']),
    *(f'{count} {name}\n' for name, count in summary['statuses'].items()),
  ]
  files.write_text(workdir / 'summary.md', '\n'.join([table, *lines]))
  return summary, found.problems


def _answered(task: types.Task, index: int, answer: str) -> types.Rollout:
  """A rollout of which nothing but its answer is known."""
  agent = types.Trajectory(
    agent=0,
    role='single',
    subtask='',
    parent_turn=-1,
    token_ids=np.zeros(0, np.int32),
    sample_mask=np.zeros(0, bool),
    behavior_logprobs=np.zeros(0, np.float32),
    turns=(),
    answer=answer,
  )
  return types.Rollout(task.task_id, index, (agent,))


def _write_responses(
  folder: pathlib.Path, model: str, attempts: list[benchmarks.Attempt]
) -> None:
  """A file an attempt, as the official scorer looks for them."""
  model = re.sub(r'[^\w.-]', '_', model)
  for a in attempts:
    name = released.response_file(model, a.task_id, a.sample)
    response = released.Response(
      a.task_id, a.answer, messages=None, trial_idx=a.sample
    )
    released.write_responses(folder / name, [response])
