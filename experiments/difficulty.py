"""Measures what tasks are hard: single agent against many, by table size.

python -m experiments.difficulty --tasks=runs/data/test.jsonl --out=runs/hard
"""

import json
import pathlib

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import files, run
from wideseek_jax.evaluation import metrics
from wideseek_jax.tasks import datasets

_TASKS = flags.DEFINE_string('tasks', None, 'File of tasks.', required=True)
_OUT = flags.DEFINE_string('out', None, 'Folder to write into.', required=True)
_PER_SIZE = flags.DEFINE_integer(
  'per_size', 16, 'Tasks of each size.', lower_bound=1
)
_BOUNDS = flags.DEFINE_list(
  'bounds', ['3', '5', '8', '12'], 'Rows at which a size begins.'
)
_SAMPLES = flags.DEFINE_integer('samples', 1, 'Rollouts a task.', lower_bound=1)
_MAX_COLUMNS = flags.DEFINE_integer(
  'max_columns', 3, 'Wider tables are left out.', lower_bound=1
)


def main() -> None:
  bounds = sorted(map(int, _BOUNDS.value))
  sizes = {}
  for task in datasets.load_tasks(_TASKS.value):
    if task.kind == 'wide' and len(task.table.columns) <= _MAX_COLUMNS.value:
      rows = len(task.table.rows)
      size = max((b for b in bounds if b <= rows), default=None)
      if size is not None:
        sizes.setdefault(size, []).append(task)
  chosen = [t for size in sorted(sizes) for t in sizes[size][: _PER_SIZE.value]]
  if not chosen:
    raise ValueError(f'{_TASKS.value}: no wide task of these sizes')
  out = pathlib.Path(_OUT.value)
  datasets.save_tasks(out / 'tasks.jsonl', chosen)
  config = experiment_flags.config()
  config.data.test_file = str(out / 'tasks.jsonl')
  config.data.num_test = len(chosen)
  means = {}
  for workflow in ('single', 'multi'):
    config.rollout.workflow = workflow
    found = run.evaluate(
      config, 'test', samples=_SAMPLES.value, name=f'{workflow} agent'
    )
    files.write_jsonl(out / f'{workflow}.jsonl', found.rows)
    means[workflow] = metrics.task_means(found.rows, 'item_f1')
  table = []
  for size in sorted(sizes):
    ids = [task.task_id for task in sizes[size][: _PER_SIZE.value]]
    single, multi = ({i: m[i] for i in ids} for m in means.values())
    row = {
      'rows from': size,
      'tasks': len(ids),
      'single': str(metrics.estimate(list(single.values()))),
      'multi': str(metrics.estimate(list(multi.values()))),
      'gain': str(metrics.paired_gain(single, multi)),
    }
    print(*(f'{name} {value}' for name, value in row.items()), sep='  ')
    table.append(row)
  files.write_text(out / 'difficulty.json', json.dumps(table, indent=2) + '\n')


if __name__ == '__main__':
  experiment_flags.run(main)
