"""Trains a policy with GRPO.

python -m experiments.train --workdir=runs/tiny --config.grpo.clip_high=0.3
"""

from absl import flags

from experiments import flags as experiment_flags
from experiments import tracing
from wideseek_jax import run
from wideseek_jax.training import multihost

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; holds all it writes.', required=True
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'Go on from the newest checkpoint in the workdir.'
)
_MULTIHOST = flags.DEFINE_bool(
  'multihost', False, 'One of several processes that train together.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'Address:port of process 0; found out on TPU pods.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many there are; found out on TPU pods.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Which one this is; found out on TPU pods.'
)
_HOST_TIMEOUT = flags.DEFINE_float(
  'host_timeout', 300.0, 'Seconds after which a silent process is lost.'
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
  hosts = None
  if _MULTIHOST.value:
    hosts = multihost.initialize(
      _COORDINATOR.value,
      _NUM_PROCESSES.value,
      _PROCESS_ID.value,
      _HOST_TIMEOUT.value,
    )
  trace = tracing.step_by_step(_WORKDIR.value)

  def on_step(step: int, metrics: dict[str, float]) -> None:
    _print_step(step, metrics)
    trace(step)

  run.train(
    experiment_flags.config(),
    _WORKDIR.value,
    resume=_RESUME.value,
    on_step=on_step,
    hosts=hosts,
  )


if __name__ == '__main__':
  experiment_flags.run(main)
