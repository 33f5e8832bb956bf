"""The policy as a Hugging Face folder: config.json and safetensors.

Parameters come in and a folder that transformers, vLLM and SGLang can load
leaves, or the other way round. Names and shapes are checked against the config
in both directions; a folder is never half written.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from wideseek_jax import files as files_lib
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

_WEIGHTS = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
_OUTPUT = 'lm_head.weight'

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
  dtype = jnp.dtype(dtype)
  files: list[list[tuple[str, ...]]] = [[]]
  size = 0
  for path, expected in shapes.items():
    _check_shape('/'.join(path), flat[path].shape, expected.shape)
    num_bytes = math.prod(expected.shape) * dtype.itemsize
    if files[-1] and size + num_bytes > max_file_bytes:
      files.append([])
      size = 0
    files[-1].append(path)
    size += num_bytes
  where = {}
  for number, paths in enumerate(files, start=1):
    name = _WEIGHTS
    if len(files) > 1:
      name = f'model-{number:05d}-of-{len(files):05d}.safetensors'
    # One file's tensors at a time are in host memory.
    tensors = {
      _hf_name(path): _to_linear(path, flat[path], dtype) for path in paths
    }
    where |= dict.fromkeys(tensors, name)
    with files_lib.replacing(folder / name) as partial:
      safetensors.numpy.save_file(tensors, partial, metadata={'format': 'pt'})
      partial.chmod(0o644)  # the library lets only their owner read them
  if len(files) > 1:
    total = sum(math.prod(s.shape) for s in shapes.values()) * dtype.itemsize
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
  """Reads config.json and the weights, one tensor at a time.

  Args:
    folder: with model.safetensors or several files and their index.
    shardings: tree of shardings (`sharding.param_shardings`), each tensor goes
      straight to it; the default device if None.
    dtype: type of the parameters.

  Returns:
    (config, params).

  Raises:
    ValueError: the weights do not fit config.json; names the tensors.
  """
  folder = pathlib.Path(folder)
  config = load_config(folder)
  shapes = traverse_util.flatten_dict(transformer.param_shapes(config))
  paths = {_hf_name(path): path for path in shapes}
  targets = (
    traverse_util.flatten_dict(shardings) if shardings is not None else {}
  )
  files = _weight_files(folder)
  # A tied model may be stored with its output layer as well.
  extra = {_OUTPUT} if config.tied else set()
  _check_names(set(files) - extra, set(paths))
  flat = {}
  for name, tensor in _tensors(folder, files, set(paths)):
    path = paths[name]
    expected = shapes[path].shape
    _check_shape(name, tensor.shape, _linear_shape(path, expected))
    if len(expected) > 1 and path[0] == 'layers':
      tensor = tensor.T
    array = np.ascontiguousarray(tensor.reshape(expected)).astype(dtype)
    flat[path] = jax.device_put(array, targets.get(path))
  if config.tied and _OUTPUT in files:
    [(_, tensor)] = _tensors(folder, files, {_OUTPUT})
    if not np.array_equal(tensor.astype(dtype), flat[('embedding',)]):
      raise ValueError(
        f'{_OUTPUT} differs from the embedding, but config.json ties them'
      )
  return config, traverse_util.unflatten_dict(flat)


def _hf_name(path: tuple[str, ...]) -> str:
  if len(path) == 1:
    return _TOP_NAMES[path[0]]
  _, layer, name = path
  return f'model.layers.{layer}.{_BLOCK_NAMES[name]}.weight'


def _linear_shape(
  path: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
  """Shape of a tensor of ours as torch's Linear stores it: [out, in]."""
  if len(shape) == 1 or path[0] != 'layers':
    return tuple(shape)
  if path[-1] == 'out':
    return (shape[-1], math.prod(shape[:-1]))
  return (math.prod(shape[1:]), shape[0])


def _to_linear(
  path: tuple[str, ...], array: jax.Array, dtype: np.dtype
) -> np.ndarray:
  tensor = np.asarray(jax.device_get(array)).astype(dtype)
  if tensor.ndim > 1 and path[0] == 'layers':
    tensor = tensor.reshape(_linear_shape(path, tensor.shape)[::-1]).T
  return np.ascontiguousarray(tensor)


def _check_names(found: set[str], expected: set[str]) -> None:
  missing, unknown = sorted(expected - found), sorted(found - expected)
  if missing or unknown:
    raise ValueError(f'missing tensors {missing}, unknown tensors {unknown}')


def _check_shape(name: str, found: tuple, expected: tuple) -> None:
  if tuple(found) != tuple(expected):
    raise ValueError(f'{name} has shape {tuple(found)}, not {tuple(expected)}')


def _weight_files(folder: pathlib.Path) -> dict[str, str]:
  """Tensor name -> file name."""
  if (folder / _INDEX).exists():
    return json.loads((folder / _INDEX).read_text())['weight_map']
  with safetensors.safe_open(folder / _WEIGHTS, framework='np') as file:
    return dict.fromkeys(file.keys(), _WEIGHTS)


def _tensors(
  folder: pathlib.Path, files: dict[str, str], wanted: set[str]
) -> Iterator[tuple[str, np.ndarray]]:
  for file_name in sorted({files[name] for name in wanted}):
    with safetensors.safe_open(folder / file_name, framework='np') as file:
      for name in sorted(wanted):
        if files[name] == file_name:
          yield name, file.get_tensor(name)
