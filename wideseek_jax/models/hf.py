"""The policy as a Hugging Face folder: config.json and safetensors.

Parameters come in and a folder that transformers, vLLM and SGLang can load
leaves, or the other way round. Names and shapes are checked against the config
in both directions; a folder is never half written, and of a sharded model each
process reads the parts of its own devices.
"""

import contextlib
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from wideseek_jax import files as files_lib
from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

_WEIGHTS = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
_OUTPUT = 'lm_head.weight'
# Rows of two matrices that are compared at a time.
_ROWS = 1 << 12

_BLOCK_NAMES = {
  'attn_norm': 'input_layernorm',
  'query': 'self_attn.q_proj',
  'key': 'self_attn.k_proj',
  'value': 'self_attn.v_proj',
  'query_norm': 'self_attn.q_norm',
  'key_norm': 'self_attn.k_norm',
  'out': 'self_attn.o_proj',
  'mlp_norm': 'post_attention_layernorm',
  'gate': 'mlp.gate_proj',
  'up': 'mlp.up_proj',
  'down': 'mlp.down_proj',
}
_TOP_NAMES = {
  'embedding': 'model.embed_tokens.weight',
  'final_norm': 'model.norm.weight',
  'unembedding': _OUTPUT,
}


class _Tensor(NamedTuple):
  """A tensor of a file, and which part of our parameters it is.

  torch's Linear stores [out, in], flat; ours are [*in, *out].

  Attributes:
    name: as the file has it.
    path: of our array.
    layer: which entry of its first axis; None for all of it.
    shape: of that entry.
    num_in: how many axes of it come first with us and last in the file; 0 if
      both have the same shape.
  """

  name: str
  path: tuple[str, ...]
  layer: int | None
  shape: tuple[int, ...]
  num_in: int

  @property
  def linear_shape(self) -> tuple[int, ...]:
    """Its shape in the file."""
    if not self.num_in:
      return self.shape
    inner, outer = self.shape[: self.num_in], self.shape[self.num_in :]
    return math.prod(outer), math.prod(inner)


def save_pretrained(
  folder: str | os.PathLike,
  config: model_config.ModelConfig,
  params: transformer.Params,
  dtype: jnp.dtype = jnp.bfloat16,
  max_file_bytes: int = 4 << 30,
) -> None:
  """Writes config.json and the weights.

  Args:
    folder: made if it is not there.
    config: the model's shape.
    params: as from `transformer.init_params`, any sharding this process sees.
    dtype: storage type, float32 or bfloat16.
    max_file_bytes: more than this is split over several files with an index.

  Raises:
    ValueError: params do not fit config.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  flat = traverse_util.flatten_dict(params)
  shapes = traverse_util.flatten_dict(transformer.param_shapes(config))
  _check_names({'/'.join(k) for k in flat}, {'/'.join(k) for k in shapes})
  for path, expected in shapes.items():
    _check_shape('/'.join(path), flat[path].shape, expected.shape)
  dtype = jnp.dtype(dtype)
  files: list[list[_Tensor]] = [[]]
  size = total = 0
  for tensor in _tensors(config):
    num_bytes = math.prod(tensor.shape) * dtype.itemsize
    if files[-1] and size + num_bytes > max_file_bytes:
      files.append([])
      size = 0
    files[-1].append(tensor)
    size += num_bytes
    total += num_bytes
  where = {}
  for number, tensors in enumerate(files, start=1):
    name = _WEIGHTS
    if len(files) > 1:
      name = f'model-{number:05d}-of-{len(files):05d}.safetensors'
    # One file's tensors at a time are in host memory.
    arrays = {t.name: _to_linear(t, flat[t.path], dtype) for t in tensors}
    where |= dict.fromkeys(arrays, name)
    with files_lib.replacing(folder / name) as partial:
      safetensors.numpy.save_file(arrays, partial, metadata={'format': 'pt'})
      partial.chmod(0o644)  # the library lets only their owner read them
  if len(files) > 1:
    index = {'metadata': {'total_size': total}, 'weight_map': where}
    _write_json(folder / _INDEX, index)
  else:
    (folder / _INDEX).unlink(missing_ok=True)
  # Last: a folder with a config.json is complete.
  _write_json(folder / 'config.json', model_config.to_hf(config, dtype.name))


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  files_lib.write_text(path, json.dumps(value, indent=2) + '\n')


def load_config(folder: str | os.PathLike) -> model_config.ModelConfig:
  """Reads config.json."""
  text = (pathlib.Path(folder) / 'config.json').read_text()
  return model_config.from_hf(json.loads(text))


def load_pretrained(
  folder: str | os.PathLike,
  shardings: Any = None,
  dtype: jnp.dtype = jnp.float32,
) -> tuple[model_config.ModelConfig, transformer.Params]:
  """Reads config.json and the weights, one array's shards at a time.

  Args:
    folder: with model.safetensors or several files and their index.
    shardings: tree of shardings (`sharding.param_shardings`): of every tensor
      only what this process's devices hold is read, and goes straight to
      them. The default device if None.
    dtype: type of the parameters.

  Returns:
    (config, params).

  Raises:
    ValueError: the weights do not fit config.json; names the tensors.
  """
  folder = pathlib.Path(folder)
  config = load_config(folder)
  files = _weight_files(folder)
  tensors = {tensor.name: tensor for tensor in _tensors(config)}
  # A tied model may be stored with its output layer as well.
  extra = {_OUTPUT} if config.tied else set()
  _check_names(set(files) - extra, set(tensors))
  targets = {} if shardings is None else traverse_util.flatten_dict(shardings)
  flat = {}
  with contextlib.ExitStack() as stack:
    opened = {
      name: stack.enter_context(
        safetensors.safe_open(folder / name, framework='np')
      )
      for name in set(files.values())
    }
    stored = {name: opened[files[name]].get_slice(name) for name in files}
    parts: dict[tuple[str, ...], list[_Tensor]] = {}
    for name, tensor in tensors.items():
      _check_shape(name, stored[name].get_shape(), tensor.linear_shape)
      parts.setdefault(tensor.path, []).append(tensor)
    shapes = traverse_util.flatten_dict(transformer.param_shapes(config))
    for path, leaf in shapes.items():

      def read(index, mine=parts[path]):
        if mine[0].layer is None:
          return _from_linear(mine[0], stored[mine[0].name], index, dtype)
        return np.stack(
          [
            _from_linear(tensor, stored[tensor.name], index[1:], dtype)
            for tensor in mine[index[0]]
          ]
        )

      flat[path] = sharding.make_array(leaf.shape, targets.get(path), read)
    if config.tied and _OUTPUT in files:
      _check_tied(stored[_OUTPUT], stored[_TOP_NAMES['embedding']])
  return config, traverse_util.unflatten_dict(flat)


def _tensors(config: model_config.ModelConfig) -> list[_Tensor]:
  """Every tensor of a file, the layers one after the other."""
  shapes = transformer.param_shapes(config)
  stack = shapes.pop('layers')
  found = [
    _Tensor(_TOP_NAMES[name], (name,), None, leaf.shape, 0)
    for name, leaf in shapes.items()
  ]
  for layer in range(config.num_layers):
    for name, leaf in stack.items():
      shape = leaf.shape[1:]
      num_in = 0 if len(shape) == 1 else len(shape) - 1 if name == 'out' else 1
      full = f'model.layers.{layer}.{_BLOCK_NAMES[name]}.weight'
      found.append(_Tensor(full, ('layers', name), layer, shape, num_in))
  return found


def _from_linear(
  tensor: _Tensor, stored: Any, index: tuple[slice, ...], dtype: np.dtype
) -> np.ndarray:
  """Reads a part of a tensor: `index` is one into our shape."""
  if not tensor.num_in:
    return stored[index].astype(dtype)
  groups = []
  for axes in (slice(tensor.num_in), slice(tensor.num_in, None)):
    sizes, slices = tensor.shape[axes], index[axes]
    # Only the group's first axis is cut in the file.
    start, stop, _ = slices[0].indices(sizes[0])
    inner = math.prod(sizes[1:])
    shape = (stop - start, *sizes[1:])
    whole = (slice(None), *slices[1:])
    groups.append((slice(start * inner, stop * inner), shape, whole))
  (columns, in_shape, in_rest), (rows, out_shape, out_rest) = groups
  array = stored[rows, columns].T.reshape(in_shape + out_shape)
  return np.ascontiguousarray(array[in_rest + out_rest]).astype(dtype)


def _to_linear(tensor: _Tensor, array: Any, dtype: np.dtype) -> np.ndarray:
  if tensor.layer is not None:
    array = array[tensor.layer]
  array = np.asarray(jax.device_get(array)).astype(dtype)
  if tensor.num_in:
    array = array.reshape(tensor.linear_shape[::-1]).T
  return np.ascontiguousarray(array)


def _check_names(found: set[str], expected: set[str]) -> None:
  missing, unknown = sorted(expected - found), sorted(found - expected)
  if missing or unknown:
    raise ValueError(f'missing tensors {missing}, unknown tensors {unknown}')


def _check_shape(name: str, found: Any, expected: tuple) -> None:
  if tuple(found) != tuple(expected):
    raise ValueError(f'{name} has shape {tuple(found)}, not {tuple(expected)}')


def _check_tied(output: Any, embedding: Any) -> None:
  shape = output.get_shape()
  rows = shape[0]
  # The library refuses to slice beyond the end.
  chunks = [slice(i, min(i + _ROWS, rows)) for i in range(0, rows, _ROWS)]
  same = shape == embedding.get_shape() and all(
    np.array_equal(output[chunk], embedding[chunk]) for chunk in chunks
  )
  if not same:
    raise ValueError(
      f'{_OUTPUT} differs from the embedding, but config.json ties them'
    )


def _weight_files(folder: pathlib.Path) -> dict[str, str]:
  """Tensor name -> file name."""
  if (folder / _INDEX).exists():
    return json.loads((folder / _INDEX).read_text())['weight_map']
  with safetensors.safe_open(folder / _WEIGHTS, framework='np') as file:
    return dict.fromkeys(file.keys(), _WEIGHTS)
