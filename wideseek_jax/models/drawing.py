"""Fresh parameters, drawn where they will lie.

Shapes and standard deviations come in, arrays on devices leave.
"""

import zlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from wideseek_jax import sharding


def draw(shapes: Any, stds: Any, key: jax.Array, shardings: Any = None) -> Any:
  """Draws a tree of float32 arrays, each device's share where it will lie.

  Every entry of a first axis, a layer's matrix or the vector of a token, has a
  generator of its own: a process draws what its devices hold and no more, and
  equal keys give equal parameters on every mesh.

  Args:
    shapes: nested dict of jax.ShapeDtypeStructs.
    stds: the same tree with standard deviations; None for an array of ones.
    key: a JAX random key; not a traced one, the draw is the host's.
    shardings: tree of shardings (`sharding.param_shardings`); the default
      device if None.
  """
  seed = np.asarray(jax.random.key_data(key)).tolist()
  stds = traverse_util.flatten_dict(stds)
  where = {} if shardings is None else traverse_util.flatten_dict(shardings)

  def array(path: tuple[str, ...], shape: tuple[int, ...]) -> jax.Array:
    std = stds[path]
    name = zlib.crc32('.'.join(path).encode())

    # NumPy's generator: XLA takes seconds to compile a draw for every shape.
    def part(index: tuple[slice, ...]) -> np.ndarray:
      if std is None:
        return np.ones(shape, np.float32)[index]
      first, *rest = index
      return np.float32(std) * np.stack(
        [
          np.random.default_rng([*seed, name, i]).standard_normal(
            shape[1:], np.float32
          )[tuple(rest)]
          for i in range(*first.indices(shape[0]))
        ]
      )

    return sharding.make_array(shape, where.get(path), part)

  flat = traverse_util.flatten_dict(shapes)
  return traverse_util.unflatten_dict(
    {path: array(path, leaf.shape) for path, leaf in flat.items()}
  )
