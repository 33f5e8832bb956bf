"""Scores a policy on held-out tasks.

python -m experiments.evaluate --workdir=runs/eval
"""

import pathlib

from absl import flags

from experiments import flags as experiment_flags
from experiments import tracing
from wideseek_jax import files, run
from wideseek_jax.agents import format as format_lib
from wideseek_jax.evaluation import copying, metrics

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder for results.jsonl and rollouts.txt.', required=True
)
_SPLIT = flags.DEFINE_enum(
  'split', 'test', ['train', 'validation', 'test'], 'Which tasks.'
)
_SAMPLES = flags.DEFINE_integer('samples', 1, 'Rollouts a task.', lower_bound=1)


def main() -> None:
  workdir = pathlib.Path(_WORKDIR.value)
  if (workdir / 'results.jsonl').exists():
    raise FileExistsError(
      f'{workdir} holds results already; name another --workdir'
    )
  with tracing.whole(workdir):
    found = run.evaluate(
      experiment_flags.config(), _SPLIT.value, samples=_SAMPLES.value
    )
  workdir.mkdir(parents=True, exist_ok=True)
  files.write_jsonl(workdir / 'results.jsonl', found.rows)
  files.write_text(
    workdir / 'rollouts.txt',
    '\n\n'.join(format_lib.format_rollout(g[0]) for g in found.groups),
  )
  for name in ('item_f1', 'row_f1', 'success', 'exact_match', 'format_ok'):
    means = metrics.task_means(found.rows, name)
    if means:
      print(f'{name:12} {metrics.estimate(list(means.values()))}')
  share, cells = copying.copy_accuracy(found.groups, found.tasks)
  print(f'copied cells {share:.4f} exact of {cells} that subagents reported')
  print(f'{len(found.tasks)} tasks, {len(found.rows)} rollouts: {workdir}')


if __name__ == '__main__':
  experiment_flags.run(main)
