"""What a training run carries from step to step, and the rule that changes it.

In: parameters and an optimiser's settings. Out: a `TrainState` whose every
array lies where the mesh wants it from the first moment: nothing of the size of
the model is ever whole on one device.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import lora as lora_lib
from wideseek_jax.models import transformer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """A pytree of device arrays (or of what describes them).

  Attributes:
    params: what is trained, float32: all parameters of the model, or adapters.
    opt_state: the optimiser's moments, sharded like the parameters.
    step: int32 [], steps so far, those that made no update included.
  """

  params: Any
  opt_state: Any
  step: jax.Array


def make_schedule(
  *,
  learning_rate: float,
  warmup_steps: int = 0,
  decay: Literal['constant', 'linear', 'cosine'] = 'constant',
  total_steps: int = 0,
) -> optax.Schedule:
  """Learning rate of each update: a linear rise, then the decay to 0.

  Args:
    learning_rate: the highest.
    warmup_steps: update n has (n + 1) / warmup_steps of it, so none is lost on
      a rate of 0.
    decay: 'constant' stays; the others reach 0 at total_steps.
    total_steps: updates of the run; read unless decay is 'constant'.

  Raises:
    ValueError: unknown decay, or total_steps not beyond the warm-up.
  """
  if decay not in ('constant', 'linear', 'cosine'):
    raise ValueError(f'decay {decay!r} is not constant, linear or cosine')
  if decay != 'constant' and total_steps <= warmup_steps:
    raise ValueError(
      f'{decay} decay needs total_steps > warmup_steps, got {total_steps} and '
      f'{warmup_steps}'
    )

  def schedule(count):
    rate = learning_rate * jnp.minimum(1.0, (count + 1) / max(warmup_steps, 1))
    if decay == 'constant':
      return rate
    done = (count - warmup_steps) / (total_steps - warmup_steps)
    done = jnp.clip(done, 0.0, 1.0)
    if decay == 'linear':
      return rate * (1 - done)
    return rate * 0.5 * (1 + jnp.cos(jnp.pi * done))

  return schedule


def make_optimizer(
  *,
  learning_rate: float,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-5,
  weight_decay: float = 0.01,
  clip_norm: float = 1.0,
  warmup_steps: int = 0,
  decay: Literal['constant', 'linear', 'cosine'] = 'constant',
  total_steps: int = 0,
) -> optax.GradientTransformation:
  """AdamW behind a clip of the global gradient norm.

  Matrices decay, norm scales do not. The other defaults are those of the
  published runs (arXiv 2602.04634, released configuration).

  Args:
    learning_rate: see `make_schedule`, as are the last three.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    weight_decay: times the learning rate.
    clip_norm: longest gradient; inf never clips.
    warmup_steps: see above.
    decay: see above.
    total_steps: see above.
  """
  schedule = make_schedule(
    learning_rate=learning_rate,
    warmup_steps=warmup_steps,
    decay=decay,
    total_steps=total_steps,
  )
  return optax.chain(
    optax.clip_by_global_norm(clip_norm),
    optax.adamw(
      schedule,
      b1=b1,
      b2=b2,
      eps=eps,
      weight_decay=weight_decay,
      mask=_decays,
    ),
  )


def _decays(params: Any) -> Any:
  """Whether a parameter is a matrix: the layers' norms are [L, D] as well."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not path[-1].key.endswith('norm'), params
  )


def abstract_train_state(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  lora: lora_lib.Lora | None = None,
) -> TrainState:
  """A `TrainState` of jax.ShapeDtypeStruct with their shardings, no data.

  It is what a checkpoint is restored into and what the steps promise to return.

  Args:
    config: the model's shape.
    optimizer: from `make_optimizer`.
    mesh: where the state will live.
    lora: the adapters that are trained; None if it is all parameters.
  """
  if lora is None:
    shapes = transformer.param_shapes(config)
    axes = transformer.logical_axes(config)
  else:
    shapes = lora_lib.adapter_shapes(config, lora)
    axes = lora_lib.adapter_axes(config, lora)
  table = sharding.TRAIN_TABLE
  shardings = sharding.param_shardings(mesh, shapes, axes, table)
  replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def place(leaf, leaf_sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf_sharding)

  opt_state = optax.tree_map_params(
    optimizer,
    place,
    jax.eval_shape(optimizer.init, shapes),
    shardings,
    transform_non_params=lambda leaf: place(leaf, replicated),
  )
  return TrainState(
    params=jax.tree.map(place, shapes, shardings),
    opt_state=opt_state,
    step=place(jax.ShapeDtypeStruct((), jnp.int32), replicated),
  )


def state_shardings(abstract_state: TrainState) -> TrainState:
  """The sharding of every array of an abstract state."""
  return jax.tree.map(lambda leaf: leaf.sharding, abstract_state)


def init_train_state(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  params: Any,
  lora: lora_lib.Lora | None = None,
) -> TrainState:
  """The state before the first update.

  Args:
    config: the model's shape.
    optimizer: from `make_optimizer`.
    mesh: where the state will live.
    params: what is trained, on any device or in NumPy. They are copied: steps
      donate their state, and the caller's arrays must outlive that.
    lora: see `abstract_train_state`.

  Raises:
    ValueError: params are not those of config and lora.
  """
  abstract = abstract_train_state(config, optimizer, mesh, lora)
  given = jax.tree.map(lambda leaf: tuple(leaf.shape), params)
  expected = jax.tree.map(lambda leaf: tuple(leaf.shape), abstract.params)
  if given != expected:
    raise ValueError(f'params are not those of {config} with {lora}')
  shardings = state_shardings(abstract)

  def init(params):
    params = jax.tree.map(
      lambda p: jnp.array(p, jnp.float32, copy=True), params
    )
    return TrainState(
      params=params,
      opt_state=optimizer.init(params),
      step=jnp.zeros((), jnp.int32),
    )

  params = jax.device_put(params, shardings.params)
  return jax.jit(init, out_shardings=shardings)(params)
