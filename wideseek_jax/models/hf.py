"""The policy as a Hugging Face folder: config.json and safetensors.

Parameters come in and a folder that transformers, vLLM and SGLang can load
leaves, or the other way round. Names and shapes are checked against the config
in both directions; a folder is never half written, and of a sharded model each
process reads the parts of its own devices.
"""

import math
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import lora as lora_lib
from wideseek_jax.models import tensor_files, transformer

_CONFIG = 'config.json'
_OUTPUT = 'lm_head.weight'
# Old Llama folders have these, which follow from the configuration.
_DERIVED = '.rotary_emb.inv_freq'

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
    dtype: storage type: float32, bfloat16 or float16.
    max_file_bytes: more than this is split over several files with an index.

  Raises:
    ValueError: params do not fit config, or no such storage type.
  """
  dtype = jnp.dtype(dtype)
  if dtype.name not in tensor_files.DTYPES:
    raise ValueError(
      f'dtype {dtype.name} is none of {tuple(tensor_files.DTYPES)}'
    )
  flat = traverse_util.flatten_dict(params)
  shapes = traverse_util.flatten_dict(transformer.param_shapes(config))
  tensor_files.check_names(
    'params', {'/'.join(k) for k in flat}, {'/'.join(k) for k in shapes}
  )
  for path, expected in shapes.items():
    if flat[path].shape != expected.shape:
      raise ValueError(
        f'{"/".join(path)} has shape {flat[path].shape}, not {expected.shape}'
      )
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  tensors = {tensor.name: tensor for tensor in _tensors(config)}
  tensor_files.write(
    folder,
    {n: math.prod(t.shape) * dtype.itemsize for n, t in tensors.items()},
    lambda name: _to_linear(tensors[name], flat[tensors[name].path], dtype),
    max_file_bytes,
  )
  # Last: a folder with a config.json is complete.
  fields = model_config.to_hf(config, dtype.name)
  tensor_files.write_json(folder / _CONFIG, fields)


def load_config(folder: str | os.PathLike) -> model_config.ModelConfig:
  """Reads config.json.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is torn, lacks a field or is of a model that this package
      does not have; names the field.
  """
  path = pathlib.Path(folder) / _CONFIG
  fields = tensor_files.read_json(path)
  try:
    return model_config.from_hf(fields)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


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
    FileNotFoundError: there is no config.json, or there are no weights.
    ValueError: a file is torn, or the weights do not fit config.json; names
      file and tensors.
  """
  folder, dtype = pathlib.Path(folder), jnp.dtype(dtype)
  config = load_config(folder)
  tensors = {tensor.name: tensor for tensor in _tensors(config)}
  targets = {} if shardings is None else traverse_util.flatten_dict(shardings)
  flat = {}
  with tensor_files.opened(folder) as stored:
    extra = {name for name in stored if name.endswith(_DERIVED)}
    if config.tied:
      extra.add(_OUTPUT)  # it may be stored as well
    places = {one.file for one in stored.values()}
    tensor_files.check_names(
      places.pop() if len(places) == 1 else folder,
      set(stored) - extra,
      set(tensors),
    )
    parts: dict[tuple[str, ...], list[_Tensor]] = {}
    for name, tensor in tensors.items():
      tensor_files.check_tensor(stored[name], tensor.linear_shape)
      parts.setdefault(tensor.path, []).append(tensor)
    if config.tied and _OUTPUT in stored:
      embedding = stored[_TOP_NAMES['embedding']]
      tensor_files.check_tensor(stored[_OUTPUT], embedding.part.get_shape())
      if not tensor_files.equal(stored[_OUTPUT], embedding):
        raise ValueError(
          f'{stored[_OUTPUT].file}: {_OUTPUT} differs from the embedding, but '
          'config.json ties them; set tie_word_embeddings to false there'
        )
    shapes = traverse_util.flatten_dict(transformer.param_shapes(config))
    for path, leaf in shapes.items():

      def read(index, mine=parts[path]):
        if mine[0].layer is None:
          return _from_linear(mine[0], stored[mine[0].name].part, index, dtype)
        return np.stack(
          [
            _from_linear(tensor, stored[tensor.name].part, index[1:], dtype)
            for tensor in mine[index[0]]
          ]
        )

      flat[path] = sharding.make_array(leaf.shape, targets.get(path), read)
  return config, traverse_util.unflatten_dict(flat)


def save_adapters(
  folder: str | os.PathLike,
  adapters: lora_lib.Adapters,
  lora: lora_lib.Lora,
  base: str = '',
) -> None:
  """Writes adapters alone, as the peft library reads them.

  Args:
    folder: made if it is not there.
    adapters: as from `lora.init_adapters`; stored in float32.
    lora: which there are.
    base: name or folder of the model that they are for.
  """
  arrays = {}
  for name, pair in adapters.items():
    for factor, stack in pair.items():
      num_in = transformer.NUM_IN[name] if factor == 'a' else 1
      for layer, array in enumerate(stack):
        full = (
          f'base_model.model.model.layers.{layer}.{_BLOCK_NAMES[name]}'
          f'.lora_{factor.upper()}.weight'
        )
        tensor = _Tensor(full, (name, factor), None, array.shape, num_in)
        arrays[full] = _to_linear(tensor, array, np.float32)
  folder = pathlib.Path(folder)
  tensor_files.write_file(folder / 'adapter_model.safetensors', arrays)
  fields = {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'base_model_name_or_path': base,
    'r': lora.rank,
    'lora_alpha': lora.alpha,
    'target_modules': [_BLOCK_NAMES[n].split('.')[1] for n in lora.targets],
    'lora_dropout': 0.0,
    'bias': 'none',
    'inference_mode': True,
  }
  tensor_files.write_json(folder / 'adapter_config.json', fields)


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
      num_in = transformer.NUM_IN.get(name, 0)
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
