"""Scores a file of answers to WideSearch tasks, without a judge.

python -m experiments.score_tables --cases=cases.jsonl --out=scores.jsonl
"""

import dataclasses

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import files
from wideseek_jax.evaluation.widesearch import cases

_CASES = flags.DEFINE_string(
  'cases',
  None,
  'JSON lines with id, evaluation, gold_csv, response, judge_replies.',
  required=True,
)
_OUT = flags.DEFINE_string(
  'out', None, 'JSON lines to write: id, the seven numbers.', required=True
)
_STRICT = flags.DEFINE_bool(
  'strict', False, 'Correct the official faults; see widesearch/scoring.py.'
)


def main() -> None:
  strict = _STRICT.value
  found, problems = cases.read_cases(_CASES.value, strict=strict)
  if not found and not problems:
    raise ValueError(f'{_CASES.value}: there is no case in this file')
  rows = [
    {'id': case.id, **dataclasses.asdict(cases.score_case(case, strict=strict))}
    for case in found
  ]
  files.write_jsonl(_OUT.value, rows)
  print(f'{len(rows)} cases scored: {_OUT.value}')
  experiment_flags.report_skipped(problems)


if __name__ == '__main__':
  experiment_flags.run(main, config_file=None)
