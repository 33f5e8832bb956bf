"""A whole evaluation of a policy on a benchmark, into a folder.

In: a config, a benchmark and a workdir. Out: what `evaluation.resumable` writes
there, and beside it `summary.json` and `summary.md`; for WideSearch also
`responses/` as the official scorer reads them.
"""

import json
import os
import pathlib
import re
from typing import Any

from wideseek_jax import build, files, progress
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.agents import rollout_config
from wideseek_jax.evaluation import benchmarks, resumable, runner, summaries
from wideseek_jax.evaluation.widesearch import released
from wideseek_jax.tasks import rewards


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
    (what `summary.json` holds: benchmark, samples, scores, costs, headline;
    what was skipped).

  Raises:
    OSError, ValueError: one line on what does not fit and what to do.
      types.JudgeUnavailable is one of them: started again, it goes on.
  """
  workdir = pathlib.Path(workdir)
  if not benchmark.tasks:
    raise ValueError(
      f'there is no task to evaluate: {"; ".join(benchmark.problems[:3])}'
    )
  rollout = dict(config.rollout)
  del rollout['group_size']
  rollout_config.RolloutConfig(**rollout)  # Refused before all else.
  for policy in filter(None, build.policy_names(config)):
    build.policy_folder(policy)
  resumable.claim(
    workdir,
    {
      'benchmark': benchmark.name,
      'policy': config.policy,
      'subagent_policy': config.subagent_policy,
      'seed': config.seed,
      **rollout,
    },
  )
  with build.open_judge(config) as judge:

    def roll(places, on_rollout):
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

    if judge is None and benchmark.name != 'facts':
      progress.say('no judge: what only it can tell counts as wrong')
    found = resumable.evaluate(
      benchmark,
      workdir,
      roll,
      samples=samples,
      reward=dict(config.reward),
      judge=judge,
      name=name,
    )
  if benchmark.name == 'widesearch':
    model = pathlib.Path(config.policy).name
    _write_responses(workdir / 'responses', model, found.attempts)
  scores = summaries.scores(found.rows, benchmark.metrics, samples)
  summary = {
    'benchmark': benchmark.name,
    'samples': samples,
    'metrics': list(benchmark.metrics),
    'scores': scores,
    'costs': summaries.costs(found.rows),
  }
  files.write_text(workdir / 'summary.json', json.dumps(summary, indent=2))
  table = summaries.table(scores, samples)
  cost = summaries.cost_line(summary['costs'])
  files.write_text(workdir / 'summary.md', f'{table}\n{cost}')
  return summary, found.problems


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
