"""Named tensors in safetensors files: one file, or several with an index.

A folder comes in and tensors by name leave, none of them read yet; or names and
arrays come in and files are written whole. What does not fit is an error that
names file and tensor.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from wideseek_jax import files

_SINGLE = 'model.safetensors'
_INDEX = 'model.safetensors.index.json'
# As the files call them.
DTYPES = {'float32': 'F32', 'bfloat16': 'BF16', 'float16': 'F16'}
# Rows of two matrices that are compared at a time.
_ROWS = 1 << 12
_AGAIN = 'download or export the folder again'


class Stored(NamedTuple):
  """A tensor in a file.

  Attributes:
    name: of the tensor.
    file: where it is.
    part: what reads it: part[slices] is a NumPy array.
  """

  name: str
  file: pathlib.Path
  part: Any


@contextlib.contextmanager
def opened(folder: str | os.PathLike) -> Iterator[dict[str, Stored]]:
  """Yields every tensor of a folder by its name, to be read before the end.

  Raises:
    FileNotFoundError: there are no weights.
    ValueError: a file is torn or missing, or is not what the index says.
  """
  folder = pathlib.Path(folder)
  # The order of transformers, if both are there.
  listed = None
  if not (folder / _SINGLE).exists():
    if not (folder / _INDEX).exists():
      raise FileNotFoundError(
        f'{folder} has neither {_SINGLE} nor {_INDEX}; weights of another '
        'format must be converted first'
      )
    listed = _read_index(folder / _INDEX)
  names = {_SINGLE} if listed is None else set(listed.values())
  found: dict[str, Stored] = {}
  with contextlib.ExitStack() as stack:
    for file in (folder / name for name in sorted(names)):
      try:
        handle = stack.enter_context(safetensors.safe_open(file, 'np'))
      except FileNotFoundError as error:
        lost = next(n for n in listed if listed[n] == file.name)
        raise ValueError(
          f'{folder / _INDEX} has {lost} in {file.name}, which is not there; '
          + _AGAIN
        ) from error
      except safetensors.SafetensorError as error:
        raise ValueError(
          f'{file} is torn or no safetensors file ({error}); {_AGAIN}'
        ) from error
      inside = handle.keys()  # it is no mapping
      for name in inside:
        if name in found:
          raise ValueError(
            f'{name} is in {file} and in {found[name].file}; {_AGAIN}'
          )
        found[name] = Stored(name, file, handle.get_slice(name))
    for name, file in (listed or {}).items():
      if name not in found or found[name].file.name != file:
        raise ValueError(
          f'{folder / _INDEX} has {name} in {file}, where it is not; {_AGAIN}'
        )
    yield found


def check_names(where: Any, found: set[str], expected: set[str]) -> None:
  """Raises ValueError if tensors are missing or unknown; names them all."""
  missing, unknown = sorted(expected - found), sorted(found - expected)
  if missing or unknown:
    raise ValueError(
      f'{where}: missing tensors {missing}, unknown tensors {unknown}; '
      'configuration and weights must be of one model'
    )


def check_tensor(stored: Stored, shape: Sequence[int]) -> None:
  """Raises ValueError unless a tensor has that shape and a float type."""
  found, kind = stored.part.get_shape(), stored.part.get_dtype()
  if tuple(found) != tuple(shape):
    raise ValueError(
      f'{stored.file}: {stored.name} has shape {tuple(found)}, not '
      f'{tuple(shape)} as config.json has it'
    )
  if kind not in DTYPES.values():
    raise ValueError(
      f'{stored.file}: {stored.name} is stored as {kind}; export the model as '
      f'one of {tuple(DTYPES)}'
    )


def equal(one: Stored, other: Stored) -> bool:
  """Whether two tensors of one shape hold the same, read in pieces."""
  rows = one.part.get_shape()[0]
  # The library refuses to slice beyond the end.
  return all(
    np.array_equal(
      one.part[i : min(i + _ROWS, rows)], other.part[i : min(i + _ROWS, rows)]
    )
    for i in range(0, rows, _ROWS)
  )


def write(
  folder: pathlib.Path,
  num_bytes: Mapping[str, int],
  make: Callable[[str], np.ndarray],
  max_file_bytes: int,
) -> None:
  """Writes tensors to one file, or to several with an index.

  Args:
    folder: must be there.
    num_bytes: of each tensor by its name, in the order of the files.
    make: the tensor of a name; one file's are in memory at a time.
    max_file_bytes: more than this is split, a larger tensor alone.
  """
  parts: list[list[str]] = [[]]
  size = 0
  for name, more in num_bytes.items():
    if parts[-1] and size + more > max_file_bytes:
      parts.append([])
      size = 0
    parts[-1].append(name)
    size += more
  if len(parts) == 1:
    write_file(folder / _SINGLE, {name: make(name) for name in parts[0]})
    (folder / _INDEX).unlink(missing_ok=True)
    return
  where = {}
  for number, names in enumerate(parts, start=1):
    file = f'model-{number:05d}-of-{len(parts):05d}.safetensors'
    write_file(folder / file, {name: make(name) for name in names})
    where |= dict.fromkeys(names, file)
  total = sum(num_bytes.values())
  write_json(
    folder / _INDEX, {'metadata': {'total_size': total}, 'weight_map': where}
  )
  (folder / _SINGLE).unlink(missing_ok=True)


def write_file(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes one safetensors file, all of it or nothing."""
  with files.replacing(path) as partial:
    safetensors.numpy.save_file(arrays, partial, metadata={'format': 'pt'})
    partial.chmod(0o644)  # the library lets only their owner read them


def write_json(path: pathlib.Path, value: Mapping[str, Any]) -> None:
  """Writes a JSON object, all of it or nothing."""
  files.write_text(path, json.dumps(value, indent=2) + '\n')


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    ValueError: the file is torn or holds something else.
  """
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(
      f'{path} is torn or no JSON ({error}); {_AGAIN}'
    ) from error
  if not isinstance(value, dict):
    raise ValueError(f'{path} holds no JSON object; {_AGAIN}')
  return value


def _read_index(path: pathlib.Path) -> dict[str, str]:
  """Tensor name -> name of a file beside the index."""
  listed = read_json(path).get('weight_map')
  if not (
    isinstance(listed, dict)
    and listed
    and all(
      isinstance(file, str)
      and file.endswith('.safetensors')
      and pathlib.PurePath(file).name == file
      for file in listed.values()
    )
  ):
    raise ValueError(
      f'{path}: weight_map must name a file beside it for every tensor; '
      + _AGAIN
    )
  return listed
