"""Trains the shipped policy on real facts and shows what it gained.

  python -m experiments.demo --workdir=runs/demo

Held-out tasks before, GRPO on training tasks, held-out tasks after. Left in the
workdir: report.html, curve.png, results.md, rollouts.txt, before.jsonl,
after.jsonl, and the training run with its checkpoints and the trained policy.
"""

import pathlib
import time

from absl import flags

from experiments import flags as experiment_flags
from experiments.configs import laptop
from wideseek_jax import files, progress, run
from wideseek_jax.agents import format as format_lib
from wideseek_jax.evaluation import (
  metrics,
  report,
  report_page,
  rollout_records,
)
from wideseek_jax.training import metrics_log
from wideseek_jax.training import workdir as workdir_lib

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run (default: runs/demo-<date>-<time>).'
)
_TINY = flags.DEFINE_bool(
  'tiny', False, 'Two steps on a few tasks: shows that it runs, not a gain.'
)


def main() -> None:
  start = time.monotonic()
  config = experiment_flags.config()
  if _TINY.value:
    laptop.take_few(config)
  name = _WORKDIR.value or time.strftime('runs/demo-%Y%m%d-%H%M%S')
  workdir = pathlib.Path(name)
  workdir_lib.prepare(workdir, resume=False)
  print(
    f'Three stages: {config.data.num_test} held-out tasks before, '
    f'{config.loop.num_steps} GRPO steps of {config.loop.tasks_per_step} x '
    f'{config.rollout.group_size} rollouts, the same tasks after. '
    f'All of it goes to {workdir}/.',
    flush=True,
  )
  before = run.evaluate(config, name='1/3 held-out tasks, before')
  _write(workdir, 'before', before)
  first = metrics.task_means(before.rows, 'item_f1')
  print(f'item F1 before: {metrics.estimate(list(first.values()))}', flush=True)

  policy = run.train(config, workdir / 'run', name='2/3 training')

  after = run.evaluate(config, policy=policy, name='3/3 held-out tasks, after')
  _write(workdir, 'after', after)
  second = metrics.task_means(after.rows, 'item_f1')
  report.plot_curve(
    metrics_log.read_metrics(workdir / 'run'),
    metrics.estimate(list(first.values())),
    metrics.estimate(list(second.values())),
    workdir / 'curve.png',
  )
  table = report.results_table(before.rows, after.rows)
  files.write_text(workdir / 'results.md', table)
  files.write_text(
    workdir / 'rollouts.txt', '\n\n'.join(_examples(before, after))
  )
  report_page.write(workdir, workdir / 'report.html')
  print(f'item F1 after:  {metrics.estimate(list(second.values()))}\n\n{table}')
  took = progress.format_seconds(time.monotonic() - start)
  print(f'Done in {took}. See {workdir}/report.html, curve.png, results.md.')


def _write(workdir: pathlib.Path, name: str, found: run.Evaluation) -> None:
  files.write_jsonl(workdir / f'{name}.jsonl', found.rows)
  files.write_jsonl(
    workdir / f'rollouts/{name}.jsonl',
    rollout_records.of_groups(found.tasks, found.groups, found.scores),
  )


def _examples(before: run.Evaluation, after: run.Evaluation) -> list[str]:
  """The first tasks' rollouts, before beside after."""
  texts = []
  for index, task in enumerate(before.tasks[:8]):
    texts.append(f'{"=" * 80}\n{task.question}')
    for name, found in (('before', before), ('after', after)):
      rollout, score = found.groups[index][0], found.scores[index][0]
      texts.append(f'--- {name}\n{format_lib.format_rollout(rollout, score)}')
  return texts


if __name__ == '__main__':
  experiment_flags.run(main)
