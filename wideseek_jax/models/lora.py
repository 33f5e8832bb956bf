"""Low-rank adapters: a small tree that is trained in place of the parameters.

The parameters of a policy come in and stay as they are; adapters leave, which
the steps train, and the tree of both that `transformer.apply` reads. The engine
and Hugging Face folders get the plain parameters that the two amount to.
Source: LoRA, arXiv 2106.09685 §4.1.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from wideseek_jax.models import config as model_config
from wideseek_jax.models import drawing, layers, transformer

# {matrix: {'a': [L, *in, R], 'b': [L, R, *out]}}
Adapters = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Lora:
  """Which adapters there are.

  Attributes:
    rank: R, their inner size.
    alpha: their product is scaled by alpha / rank.
    targets: the matrices that have one, of `transformer.NUM_IN`.
    base_dtype: type in which the frozen parameters are held.
  """

  rank: int
  alpha: float = 32.0
  targets: tuple[str, ...] = tuple(transformer.NUM_IN)
  base_dtype: str = 'float32'

  def __post_init__(self):
    if self.rank < 1:
      raise ValueError(f'lora.rank={self.rank} is below 1')
    if not self.targets or set(self.targets) - set(transformer.NUM_IN):
      raise ValueError(
        f'lora.targets {self.targets} must be some of '
        f'{tuple(transformer.NUM_IN)}'
      )
    if self.base_dtype not in ('float32', 'bfloat16'):
      raise ValueError(
        f'lora.base_dtype {self.base_dtype!r} is not float32 or bfloat16'
      )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Frozen:
  """What adapters are added to.

  Attributes:
    params: the policy's parameters, which no step changes.
    lora: which adapters there are.
  """

  params: transformer.Params
  lora: Lora = dataclasses.field(metadata={'static': True})


def _declared(
  config: model_config.ModelConfig, lora: Lora
) -> dict[str, dict[str, tuple]]:
  """(shape, logical axes, standard deviation of the draw) of every array."""
  shapes = transformer.param_shapes(config)['layers']
  axes = transformer.logical_axes(config)['layers']
  found = {}
  for name in lora.targets:
    cut = 1 + transformer.NUM_IN[name]
    shape, names = shapes[name].shape, axes[name]
    found[name] = {
      'a': (
        (*shape[:cut], lora.rank),
        (*names[:cut], 'rank'),
        1 / math.sqrt(math.prod(shape[1:cut])),
      ),
      # Zeros: training starts from the policy as it is.
      'b': (
        (shape[0], lora.rank, *shape[cut:]),
        (names[0], 'rank', *names[cut:]),
        0.0,
      ),
    }
  return found


def _map(declared, what):
  return {
    name: {factor: what(*one) for factor, one in pair.items()}
    for name, pair in declared.items()
  }


def adapter_shapes(config: model_config.ModelConfig, lora: Lora) -> Adapters:
  """The adapters' tree with a float32 jax.ShapeDtypeStruct for every array."""
  return _map(
    _declared(config, lora),
    lambda shape, axes, std: jax.ShapeDtypeStruct(shape, jnp.float32),
  )


def adapter_axes(config: model_config.ModelConfig, lora: Lora) -> Adapters:
  """The adapters' tree with a tuple of logical axis names for every array."""
  return _map(_declared(config, lora), lambda shape, axes, std: axes)


def init_adapters(
  config: model_config.ModelConfig,
  lora: Lora,
  key: jax.Array,
  shardings: Any = None,
) -> Adapters:
  """Draws adapters that change nothing yet: A is random, B zero.

  Args:
    config: the model's shape.
    lora: which adapters there are.
    key: see `drawing.draw`.
    shardings: see `drawing.draw`.
  """
  stds = _map(_declared(config, lora), lambda shape, axes, std: std)
  return drawing.draw(adapter_shapes(config, lora), stds, key, shardings)


def join(frozen: Frozen | None, trained: Any) -> transformer.Params:
  """The tree that `transformer.apply` reads.

  Args:
    frozen: what the adapters are added to; None if all is trained.
    trained: adapters, or with None all parameters.
  """
  if frozen is None:
    return trained
  scale = frozen.lora.alpha / frozen.lora.rank
  stack = frozen.params['layers']
  adapted = {
    name: layers.Adapted(stack[name], scale=scale, **pair)
    for name, pair in trained.items()
  }
  return frozen.params | {'layers': stack | adapted}


def merge(frozen: Frozen | None, trained: Any) -> transformer.Params:
  """The plain parameters that `join` amounts to, each laid out like its base.

  Matrices with an adapter become float32, whatever the base; all other arrays
  are the base's own.
  """
  return jax.tree.map(
    lambda x: _summer(x.base.sharding)(x) if _is_adapted(x) else x,
    join(frozen, trained),
    is_leaf=_is_adapted,
  )


def _is_adapted(x: Any) -> bool:
  return isinstance(x, layers.Adapted)


@functools.cache
def _summer(target: jax.sharding.Sharding) -> Any:
  """Sums a stack a layer at a time: no other array of its size is made."""

  def layer_sum(adapted):
    change = jnp.tensordot(adapted.a, adapted.b, 1, precision='highest')
    return adapted.base.astype(jnp.float32) + adapted.scale * change

  return jax.jit(
    functools.partial(jax.lax.map, layer_sum), out_shardings=target
  )
