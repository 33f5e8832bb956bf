"""The least time that chips need, from their published rates.

In: a model's shape, tokens, bytes. Out: floating-point operations and seconds.
Operations are counted here, by arithmetic: XLA's cost analysis counts the body
of a loop once, and nothing of what kernels do.
"""

import dataclasses

import jax

from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer


@dataclasses.dataclass(frozen=True)
class Chip:
  """What a chip is sold as.

  Attributes:
    flops: bfloat16 operations a second.
    hbm_bytes: memory that programs may use: what the compiler allows, less
      than what is sold.
    hbm_rate: bytes/s of that memory.
    link_rate: bytes/s that a link to a neighbour sends (and receives besides).
  """

  flops: float
  hbm_bytes: int
  hbm_rate: float
  link_rate: float


# docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}, "key specifications". Links:
# what is published of a chip counts both directions, so v5e has 400 GB/s over 4
# links, v5p 1,200 over 6, v6e 800 over 4; of v4 only the rate of all-reduces of
# a pod is, 1.1 PB/s for 4,096 chips of 6 links.
CHIPS = {
  'v4': Chip(275e12, int(30.75 * 2**30), 1200e9, 45e9),
  'v5e': Chip(197e12, int(15.75 * 2**30), 819e9, 50e9),
  'v5p': Chip(459e12, int(95.74 * 2**30), 2765e9, 100e9),
  'v6e': Chip(918e12, int(31.25 * 2**30), 1600e9, 100e9),
}

# Products of two matrices for a block of queries and a block of keys, backward
# and forward. Splash computes scores twice, for queries and for keys.
_BACKWARD = {'blocks': 5 / 2, 'splash': 7 / 2}


@dataclasses.dataclass(frozen=True)
class Work:
  """What a chip does at least.

  Attributes:
    flops: operations of matrix products.
    hbm_bytes: to and from its memory.
    sent_bytes: to other chips.
  """

  flops: float
  hbm_bytes: float
  sent_bytes: float

  def seconds(self, chip: Chip, links: int) -> tuple[float, float, float]:
    """Seconds for operations, memory and links, if each did nothing else."""
    return (
      self.flops / chip.flops,
      self.hbm_bytes / chip.hbm_rate,
      self.sent_bytes / (links * chip.link_rate) if self.sent_bytes else 0.0,
    )


def parse_topology(name: str) -> tuple[Chip, int]:
  """The chip of 'v5e:4x4', and how many links one of them uses at most.

  A grid of n chips in a row gives a chip two neighbours in it, one if n is 2.

  Raises:
    ValueError: no such chip, or no grid.
  """
  kind, _, grid = name.partition(':')
  sizes = grid.split('x')
  if kind not in CHIPS or not all(size.isdigit() for size in sizes):
    raise ValueError(
      f'topology {name!r} is not one of {", ".join(CHIPS)} with a grid of '
      'chips, such as v5e:4x4 (sold as v5e-16), v6e:4x4 (v6e-16) or '
      'v5p:2x2x2 (v5p-16: v4 and v5p are sold by cores, two a chip)'
    )
  return CHIPS[kind], sum(min(int(size) - 1, 2) for size in sizes)


def matrix_params(config: model_config.ModelConfig) -> tuple[int, int]:
  """Parameters that multiply a token: (of all layers, of the output)."""
  shapes = transformer.param_shapes(config)
  layers = sum(
    array.size
    for name, array in shapes['layers'].items()
    if not name.endswith('norm')
  )
  return layers, config.vocab_size * config.embed_dim


def attention_flops(config: model_config.ModelConfig, keys: float) -> float:
  """Operations of a token that looks at so many keys, in all layers."""
  return 4 * config.num_layers * config.num_heads * config.head_dim * keys


def forward_flops(
  config: model_config.ModelConfig, tokens: float, keys: float, outputs: float
) -> float:
  """Operations of a forward pass.

  Args:
    config: the model's shape.
    tokens: that are read.
    keys: that a token looks at, on average.
    outputs: tokens whose logits are computed.
  """
  layers, output = matrix_params(config)
  attention = attention_flops(config, keys)
  return tokens * (2 * layers + attention) + outputs * 2 * output


def train_flops(
  config: model_config.ModelConfig,
  tokens: float,
  keys: float,
  *,
  attention: str,
  remat: str,
) -> float:
  """Operations of a forward and a backward pass, with all that is done again.

  Args:
    config: the model's shape.
    tokens: that are trained on.
    keys: that a token looks at, on average; those it is computed for.
    attention: 'blocks' or 'splash'.
    remat: see `transformer.REMAT`.
  """
  layers, output = matrix_params(config)
  # Logits are always computed again, layers if asked to, and attention with
  # them; its own backward pass computes scores again.
  layer_passes = 3 + (remat == 'block')
  attention_passes = 1 + _BACKWARD[attention] + (remat != 'none')
  return tokens * (
    2 * layers * layer_passes
    + 2 * output * 4
    + attention_flops(config, keys) * attention_passes
  )


def compiled_flops(compiled: jax.stages.Compiled) -> float:
  """What the compiler counts for a device: loops once, kernels not at all."""
  return compiled.cost_analysis()['flops']
