"""What a run leaves for a person: a curve, a table, rollouts to read.

In: metrics rows, evaluation rows, rollouts. Out: files in the workdir, written
atomically.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np

from wideseek_jax import files
from wideseek_jax.evaluation import metrics

_SMOOTH = 5  # steps in the moving mean of a noisy training curve


def plot_curve(
  rows: Sequence[Mapping[str, Any]],
  before: metrics.Estimate,
  after: metrics.Estimate,
  path: str | pathlib.Path,
) -> None:
  """Draws item F1 of the training rollouts between the two held-out scores.

  Args:
    rows: one a training step, with 'step', 'rollout/item_f1' and
      'rollout/num_subagents'.
    before: held-out item F1 of the policy that training started from.
    after: held-out item F1 of the trained policy.
    path: PNG to write.
  """
  steps = np.array([row['step'] for row in rows]) + 1
  figure, axes = plt.subplots(figsize=(7, 4.2), layout='constrained')
  f1 = np.array([row['rollout/item_f1'] for row in rows])
  axes.plot(steps, f1, color='#9ecae1', lw=1, label='training rollouts')
  if len(f1) >= _SMOOTH:
    kernel = np.ones(_SMOOTH) / _SMOOTH
    axes.plot(
      steps[_SMOOTH - 1 :],
      np.convolve(f1, kernel, mode='valid'),
      color='#3182bd',
      lw=2,
      label=f'their mean over {_SMOOTH} steps',
    )
  held_out = ((0, before), (int(steps[-1]), after))
  for step, value in held_out:
    axes.errorbar(
      step,
      value.mean,
      yerr=[[value.mean - value.low], [value.high - value.mean]],
      fmt='o',
      color='#d94801',
      capsize=4,
      label='held-out tasks, 95 % interval' if step == 0 else None,
    )
  axes.set_xlabel('GRPO step')
  axes.set_ylabel('item F1')
  axes.set_ylim(0, 1)
  axes.grid(alpha=0.3)
  right = axes.twinx()
  subagents = [row['rollout/num_subagents'] for row in rows]
  right.plot(steps, subagents, color='#74c476', ls=':', lw=1.5)
  right.set_ylabel('subagents a rollout (dotted)', color='#31a354')
  right.set_ylim(0, max([*subagents, 1]) * 1.4)
  axes.legend(loc='lower right')
  with files.replacing(path) as partial:
    figure.savefig(partial, dpi=130, format='png')
  plt.close(figure)


def results_table(
  before: Sequence[Mapping[str, Any]],
  after: Sequence[Mapping[str, Any]],
  names: Sequence[str] = ('item_f1', 'row_f1', 'success', 'format_ok'),
) -> str:
  """A Markdown table: each metric before, after, and its paired gain."""
  lines = ['| metric | before | after | gain |', '|---|---|---|---|']
  for name in names:
    first, second = (
      metrics.task_means(before, name),
      metrics.task_means(after, name),
    )
    gain = metrics.paired_gain(first, second)
    lines.append(
      f'| {name} | {metrics.estimate(list(first.values()))} '
      f'| {metrics.estimate(list(second.values()))} | {gain} |'
    )
  tasks = len(metrics.task_means(after, names[0]))
  lines.append('')
  lines.append(
    f'{tasks} held-out tasks, {len(after) // max(tasks, 1)} rollouts each; '
    'mean [95 % bootstrap interval over tasks]; the gain is paired by task.'
  )
  return '\n'.join(lines) + '\n'
