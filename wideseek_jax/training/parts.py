"""What the training loop is made of: its own few numbers, and its parts.

In: the options and what `build` made of the others. Out: two frozen structs
that `loop`, `rolling` and `learning` take.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wideseek_jax import types
from wideseek_jax.models import lora
from wideseek_jax.tasks import rewards


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """The loop's own numbers.

  Attributes:
    num_steps: batches of rollouts to learn from.
    tasks_per_step: groups that one step learns from.
    epochs: passes over them.
    minibatches: updates of a pass; a divisor of tasks_per_step.
    rescore: ratios are to log-probs that the trainer computed before the first
      update, not to those that the engine sampled with; one more forward pass.
    asynchronous: rollouts of a step are made while the update of the step
      before is, so with weights that lack that update.
    trained_roles: whose turns are trained, one of `rewards.TRAINED_ROLES`.
    eval_every: steps between two validations; 0 validates never.
    eval_samples: rollouts a validation task.
    checkpoint_every: steps between two checkpoints; the last step has one.
    rollouts_every: steps between two whose rollouts are kept; 0 keeps none.
    seed: of task order and sampling.
  """

  num_steps: int = 20
  tasks_per_step: int = 4
  epochs: int = 1
  minibatches: int = 1
  rescore: bool = False
  asynchronous: bool = False
  trained_roles: str = 'both'
  eval_every: int = 0
  eval_samples: int = 1
  checkpoint_every: int = 10
  rollouts_every: int = 1
  seed: int = 0

  def __post_init__(self):
    for name in (
      'num_steps',
      'tasks_per_step',
      'epochs',
      'minibatches',
      'checkpoint_every',
    ):
      if getattr(self, name) < 1:
        raise ValueError(f'loop.{name} must be at least 1')
    if self.trained_roles not in rewards.TRAINED_ROLES:
      raise ValueError(
        f'loop.trained_roles {self.trained_roles!r} is none of '
        f'{tuple(rewards.TRAINED_ROLES)}'
      )
    if self.tasks_per_step % self.minibatches:
      raise ValueError(
        f'loop.tasks_per_step {self.tasks_per_step} does not divide over '
        f'loop.minibatches {self.minibatches}'
      )


@dataclasses.dataclass(frozen=True)
class Parts:
  """What a run is made of; see `run.build_parts`.

  `engine` samples with what is trained; `frozen_engines` have the roles that
  other weights play, which stay as they are. `to_engine` brings parameters of
  the whole mesh to where `engine` is.
  """

  engine: Any
  tokenizer: Any
  tools: types.Tools
  train_tasks: Sequence[types.Task]
  valid_tasks: Sequence[types.Task]
  step: Callable[..., tuple[Any, dict[str, Any]]]
  rollout: Mapping[str, Any]
  reward: Mapping[str, Any]
  batch: Mapping[str, Any]
  advantage: Mapping[str, Any]
  frozen: lora.Frozen | None = None
  judge: types.Judge | None = None
  frozen_engines: Mapping[types.Role, Any] = dataclasses.field(
    default_factory=dict
  )
  to_engine: Callable[[Any], Any] = lambda params: params

  @property
  def engines(self) -> dict[types.Role, Any]:
    """Who samples the turns of each role."""
    return dict.fromkeys(rewards.ROLES, self.engine) | self.frozen_engines
