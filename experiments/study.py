"""Runs a study, cell by cell; started again, it goes on.

python -m experiments.study --study=width --workdir=runs/width --tasks=64
"""

import pathlib
import shutil

import ml_collections
from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import build, files, run, run_benchmark
from wideseek_jax.evaluation import benchmarks, resumable, studies
from wideseek_jax.training import checkpoint

_STUDY = flags.DEFINE_enum(
  'study', None, studies.STUDIES, 'What changes.', required=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the study.', required=True
)
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint',
  '',
  'Folder of the policy that is evaluated, or that training begins with '
  '(default: config.policy).',
)
_TRAINED = flags.DEFINE_string(
  'trained',
  '',
  'A policy that is trained already. --study=roles then trains nothing and '
  'gives it the roles, and --checkpoint the others.',
)
_TASKS = flags.DEFINE_integer('tasks', 128, 'Held-out tasks.', lower_bound=1)
_SAMPLES = flags.DEFINE_integer('samples', 1, 'Rollouts a task.', lower_bound=1)


def _changed(config: ml_collections.ConfigDict, changes: studies.Changes):
  config = config.copy_and_resolve_references()
  config.update_from_flattened_dict(changes)
  return config


def _trained(config, cell: studies.Cell, folder: pathlib.Path) -> str:
  """Trains the cell's policy, unless its evaluation has begun."""
  if cell.train is None or _TRAINED.value:
    return _TRAINED.value or config.policy
  workdir = folder / 'run'
  if not (folder / resumable.SETTINGS).exists():
    resume = checkpoint.latest_step(workdir / 'checkpoints') is not None
    if not resume:
      shutil.rmtree(workdir, ignore_errors=True)
    run.train(_changed(config, cell.train), workdir, resume=resume)
  return str(workdir)


def main() -> None:
  study, workdir = _STUDY.value, pathlib.Path(_WORKDIR.value)
  config = experiment_flags.config()
  config.policy = _CHECKPOINT.value or config.policy
  if _TRAINED.value and study != 'roles':
    raise ValueError('--trained is for --study=roles; else say --checkpoint')
  kinds = ('wide', 'deep') if study in studies.TRAINING else config.data.kinds
  held_out = _changed(
    config, {'data.kinds': kinds, 'data.num_test': _TASKS.value}
  )
  benchmark = benchmarks.facts(build.build_tasks(held_out, 'test'))
  found, problems = {}, []
  for cell in studies.cells(study, config.rollout, config.policy):
    folder = workdir / f'{study}-{cell.name}'
    roles = studies.played(cell, _trained(config, cell, folder), config.policy)
    found[cell.name], skipped = run_benchmark.run(
      _changed(config, cell.changes | roles),
      benchmark,
      folder,
      samples=_SAMPLES.value,
      name=f'{study} {cell.name}',
    )
    problems += skipped
    # What there is, after every cell.
    rows = ({'cell': name, **one} for name, one in found.items())
    files.write_jsonl(workdir / f'{study}.jsonl', rows)
    table = studies.table(study, found)
    files.write_text(workdir / f'{study}.md', table)
    studies.plot(study, found, workdir / f'{study}.png')
  print(table)
  experiment_flags.report_skipped(problems)


if __name__ == '__main__':
  experiment_flags.run(main)
