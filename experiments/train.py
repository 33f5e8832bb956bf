"""Trains a policy with GRPO.

python -m experiments.train --workdir=runs/tiny --config.grpo.clip_high=0.3
"""

from absl import flags

from experiments import flags as experiment_flags
from experiments import tracing
from wideseek_jax import run

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; holds all it writes.', required=True
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'Go on from the newest checkpoint in the workdir.'
)


def _print_step(step: int, metrics: dict[str, float]) -> None:
  print(
    f'step {step + 1}: reward {metrics["rollout/reward"]:.3f}, '
    f'item F1 {metrics.get("rollout/item_f1", 0.0):.3f}, '
    f'{metrics["rollout/num_subagents"]:.1f} subagents, '
    f'{metrics["time/rollout_s"]:.1f} s rollout, '
    f'{metrics["time/update_s"]:.1f} s update',
    flush=True,
  )


def main() -> None:
  trace = tracing.step_by_step(_WORKDIR.value)

  def on_step(step: int, metrics: dict[str, float]) -> None:
    _print_step(step, metrics)
    trace(step)

  run.train(
    experiment_flags.config(),
    _WORKDIR.value,
    resume=_RESUME.value,
    on_step=on_step,
  )


if __name__ == '__main__':
  experiment_flags.run(main)
