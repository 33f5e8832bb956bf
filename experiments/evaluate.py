"""Scores a policy on a benchmark; started again, it goes on.

python -m experiments.evaluate --workdir=runs/eval --samples=4
python -m experiments.evaluate --workdir=runs/ws --benchmark=widesearch \
  --data=test.jsonl --checkpoint=WideSeek-R1-4B --samples=4 --width=10
"""

import dataclasses
import pathlib

from absl import flags

from experiments import flags as experiment_flags
from experiments import tracing
from wideseek_jax import build, run_benchmark
from wideseek_jax.evaluation import benchmarks, qa, studies

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the evaluation.', required=True
)
_BENCHMARK = flags.DEFINE_enum(
  'benchmark', 'facts', ['facts', 'widesearch', 'qa'], 'What is asked.'
)
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint', '', "A policy's or a run's folder (default: config.policy)."
)
_DATA = flags.DEFINE_string(
  'data', '', 'test.jsonl; for qa also the folder that holds the sets.'
)
_GOLD = flags.DEFINE_string(
  'gold', None, 'Folder of <instance_id>.csv; else the gold is in the data.'
)
_STRICT = flags.DEFINE_bool(
  'strict', False, 'Correct the official faults; see widesearch/scoring.py.'
)
_SPLIT = flags.DEFINE_enum(
  'split', 'test', ['train', 'validation', 'test'], 'Which facts.'
)
_TASKS = flags.DEFINE_integer(
  'tasks', None, 'The first tasks only (default: all).', lower_bound=1
)
_SAMPLES = flags.DEFINE_integer('samples', 1, 'Rollouts a task.', lower_bound=1)
_WIDTH = flags.DEFINE_integer(
  'width', None, 'Subagents of a fan-out; 0: a single agent.', lower_bound=0
)
_DEPTH = flags.DEFINE_integer(
  'depth', None, 'Turns of the lead or single agent.', lower_bound=1
)


def _benchmark(config) -> benchmarks.Benchmark:
  if _BENCHMARK.value == 'facts':
    if _TASKS.value:
      config.data[f'num_{_SPLIT.value}'] = _TASKS.value
    return benchmarks.facts(build.build_tasks(config, _SPLIT.value))
  if not _DATA.value:
    raise ValueError(f'--benchmark={_BENCHMARK.value} needs --data=test.jsonl')
  if _BENCHMARK.value == 'qa':
    found = benchmarks.questions(qa.released_files(_DATA.value))
  else:
    found = benchmarks.widesearch(
      _DATA.value, _GOLD.value, strict=_STRICT.value
    )
  return dataclasses.replace(found, tasks=found.tasks[: _TASKS.value])


def main() -> None:
  workdir = pathlib.Path(_WORKDIR.value)
  config = experiment_flags.config()
  if _CHECKPOINT.value:
    config.policy = _CHECKPOINT.value
  config.update_from_flattened_dict(
    studies.limits(config.rollout, width=_WIDTH.value, depth=_DEPTH.value)
  )
  with tracing.whole(workdir):
    _, problems = run_benchmark.run(
      config, _benchmark(config), workdir, samples=_SAMPLES.value
    )
  print((workdir / 'summary.md').read_text(encoding='utf-8'))
  experiment_flags.report_skipped(problems)


if __name__ == '__main__':
  experiment_flags.run(main)
