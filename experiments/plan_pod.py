"""Plans a training run on TPU chips that are not there: memory and days.

  python -m experiments.plan_pod --topology=v5e:4x4 \\
    --config=experiments/configs/qwen3_4b_pod.py:v5e-16

Needs libtpu (pip install 'wideseek_jax[tpu]') but no TPU. The GRPO step and
both calls of the engine are compiled for the chips (some minutes each), and a
config that does not fit them is refused with the arithmetic. Times are the
roofline's: what the chips' published rates allow at best, if operations, memory
and links overlap and nobody waits for tools, judge or the last rollouts. With
--nocompile it takes a minute, and counts neither what programs need while they
run nor what chips send each other.
"""

import dataclasses
import importlib.util
import os
import pathlib

from absl import flags

# Before jax starts: the CPU compiles, and nobody looks for a TPU's host.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TPU_SKIP_MDS_QUERY'] = '1'

from jax.experimental import topologies

from experiments import flags as experiment_flags
from experiments import pod, roofline, workload
from wideseek_jax import build
from wideseek_jax.models import config as model_config
from wideseek_jax.models import hf

_TOPOLOGY = flags.DEFINE_string('topology', 'v5e:4x4', 'Chips and their grid.')
_TRAIN = flags.DEFINE_bool(
  'train', True, 'Plan updates, too; without, the engine has all memory.'
)
_COMPILE = flags.DEFINE_bool('compile', True, 'Compile; else only arithmetic.')
_ASSUMED = [
  flags.DEFINE_integer(field.name, field.default, 'Of the mean rollout.')
  for field in dataclasses.fields(workload.Workload)
  if field.default is not dataclasses.MISSING
]


def shape_of(policy: str) -> model_config.ModelConfig:
  """The shape of a policy's folder, or of the Qwen3 that it is named after."""
  name = pathlib.Path(policy).name.lower().removeprefix('qwen3-')
  if name in model_config.QWEN3 and not pathlib.Path(policy).exists():
    return model_config.QWEN3[name]
  return hf.load_config(build.policy_folder(policy))


def table(
  plan: pod.Plan, chip: roofline.Chip, links: int, num_steps: int
) -> str:
  """What a plan says, in lines."""
  held = dataclasses.asdict(plan.held) | {
    'at most': plan.held.most,
    'of': chip.hbm_bytes,
  }
  lines = [
    'GB a chip ' + ''.join(f'{name:>9}' for name in held),
    ' ' * 10 + ''.join(f'{size / 1e9:9.2f}' for size in held.values()),
    f'engine: {plan.engine}; {plan.rows:,.0f} rows sample at a time',
    '',
    'a call     TFLOP a chip   (compiler)     GB HBM    GB sent'
    '     FLOP s      HBM s     link s',
  ]
  sent = [
    f'{name} sends '
    + ', '.join(f'{size / 1e9:.3f} by {kind}' for kind, size in p.sent.items())
    for name, p in plan.phases.items()
  ]
  step = 0.0
  rates = ['', 'a step          calls     tokens   at best s   tokens/s']
  for name, phase in plan.phases.items():
    work = phase.work
    seconds = work.seconds(chip, links)
    figures = (work.hbm_bytes / 1e9, work.sent_bytes / 1e9, *seconds)
    counts = (work.flops / 1e12, phase.compiled_flops / 1e12)
    lines.append(
      f'{name:10} {counts[0]:12.4f} {counts[1]:12.4f} '
      + ' '.join(f'{figure:10.5f}' for figure in figures)
    )
    took = phase.calls * max(seconds)
    step += took
    rates.append(
      f'{name:10} {phase.calls:10,.0f} {phase.tokens:10.3g} '
      f'{took:11.1f} {phase.tokens / took:10,.0f}'
    )
  days = num_steps * step / 86400
  return '\n'.join(
    [
      *lines,
      *sent,
      *rates,
      f'a step {step:,.0f} s, {num_steps} steps {days:.2f} days at best; at '
      f'40 % of that speed {days / 0.4:.2f} days',
    ]
  )


def main() -> None:
  config = experiment_flags.config()
  chip, links = roofline.parse_topology(_TOPOLOGY.value)
  if importlib.util.find_spec('libtpu') is None:
    raise ValueError("libtpu is missing: pip install 'wideseek_jax[tpu]'")
  tokens = workload.Workload(
    rollouts=config.loop.tasks_per_step * config.rollout.group_size,
    group=config.rollout.group_size,
    **{flag.name: flag.value for flag in _ASSUMED},
  )
  chips = topologies.get_topology_desc(_TOPOLOGY.value, 'tpu').devices
  sizes = dict(config.mesh)
  print(f'{config.policy} on {_TOPOLOGY.value}, {len(chips)} chips, {sizes}')
  print(f'assumed: {tokens}')
  print(
    f'so a rollout has {tokens.tokens:,} tokens, {tokens.sampled:,} sampled, '
    f'{tokens.shared:,.0f} of them known from others',
    flush=True,
  )
  plan = pod.plan(
    config,
    shape_of(config.policy),
    chips,
    chip.hbm_bytes,
    tokens,
    train=_TRAIN.value,
    compiled=_COMPILE.value,
  )
  print(table(plan, chip, links, config.loop.num_steps))


if __name__ == '__main__':
  experiment_flags.run(main)
