"""Scores answers of any system to WideSearch; started again, it goes on.

python -m experiments.score_responses --data=test.jsonl \
  --responses=runs/ws/responses --workdir=runs/scores --samples=4
"""

import pathlib

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import run_benchmark
from wideseek_jax.evaluation import benchmarks

_DATA = flags.DEFINE_string('data', None, 'test.jsonl.', required=True)
_RESPONSES = flags.DEFINE_string(
  'responses',
  None,
  'Folder of *_response.jsonl, or a file of responses.',
  required=True,
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the scores.', required=True
)
_GOLD = flags.DEFINE_string(
  'gold', None, 'Folder of <instance_id>.csv; else the gold is in the data.'
)
_STRICT = flags.DEFINE_bool(
  'strict', False, 'Correct the official faults; see widesearch/scoring.py.'
)
_SAMPLES = flags.DEFINE_integer('samples', 1, 'Answers a task.', lower_bound=1)


def main() -> None:
  _, problems = run_benchmark.score_responses(
    experiment_flags.config(),
    benchmarks.widesearch(_DATA.value, _GOLD.value, strict=_STRICT.value),
    _RESPONSES.value,
    _WORKDIR.value,
    samples=_SAMPLES.value,
  )
  summary = pathlib.Path(_WORKDIR.value) / 'summary.md'
  print(summary.read_text(encoding='utf-8'))
  experiment_flags.report_skipped(problems)


if __name__ == '__main__':
  experiment_flags.run(main)
