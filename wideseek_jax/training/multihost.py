"""Several processes, one run: who does what, and what all must know.

In: the job's processes, each with devices of its own. Out: a share of the tasks
for each, what they made of it for all, and parameters of the global mesh where
a process's own engine reads them. A process that is lost ends the others.
"""

import contextlib
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from wideseek_jax import progress, sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer
from wideseek_jax.training import preemption

T = TypeVar('T')

# What one process sends the others at a time: it passes through device memory.
_PIECE = 1 << 22
_PREFIX = 'wideseek/host/'


class Hosts:
  """The processes of a run; one that is alone waits for nobody."""

  def __init__(self, timeout_seconds: float = 300.0):
    """Begins to watch the others.

    Args:
      timeout_seconds: a process is lost if it gives no sign of life for so
        long, or comes to a meeting so much later than this one.
    """
    self.count, self.index = jax.process_count(), jax.process_index()
    self._timeout = timeout_seconds
    self._meetings = 0
    self._waiting: float | None = None  # Since when.
    self._over = threading.Event()
    if self.count > 1:
      threading.Thread(target=self._watch, daemon=True).start()

  def share(self, items: Sequence[T]) -> list[T]:
    """What this process does of the whole: every count-th item."""
    return list(items[self.index :: self.count])

  def gather(self, mine: Sequence[bytes]) -> list[bytes]:
    """The results of all shares, in the order of the whole.

    Args:
      mine: a result for each item of this process's `share`.
    """
    if self.count == 1:
      return list(mine)
    with self.meeting():
      sizes = _exchange(
        np.asarray([len(mine), *map(len, mine)], np.int32).tobytes()
      )
      data = _exchange(b''.join(mine))
    shares = []
    for header, joined in zip(sizes, data, strict=True):
      ends = np.cumsum(np.frombuffer(header, np.int32)[1:])
      shares.append(
        [
          joined[start:end]
          for start, end in zip([0, *ends[:-1]], ends, strict=False)
        ]
      )
    whole = [b''] * sum(map(len, shares))
    for index, share in enumerate(shares):
      whole[index :: self.count] = share
    return whole

  @contextlib.contextmanager
  def meeting(self) -> Iterator[None]:
    """A block that all processes enter, each waiting for the others there."""
    self._meetings += 1
    self._waiting = time.monotonic()
    try:
      yield
    except jax.errors.JaxRuntimeError as error:
      if self.count == 1:
        raise
      # A neighbour broke the line; who it is takes a while to be sure of.
      progress.say(f'lost a connection: {str(error).splitlines()[0]}')
      self._over.wait(2 * self._timeout)
      raise
    finally:
      self._waiting = None

  def wait(self, name: str) -> None:
    """Returns when all processes have come here."""
    if self.count > 1:
      with self.meeting():
        multihost_utils.sync_global_devices(name)

  def close(self) -> None:
    """Ends the watch, when all processes have come here."""
    self.wait('end')
    self._over.set()

  def _watch(self) -> None:
    # Not public, but Orbax and JAX's own tools use it, too.
    from jax._src import distributed

    client = distributed.global_state.client
    beat, seen = 0, {}
    while not self._over.wait(min(self._timeout / 5, 10.0)):
      beat += 1
      sign = f'{beat} {self._meetings} {socket.gethostname()}'
      try:
        client.key_value_set(
          f'{_PREFIX}{self.index}', sign, allow_overwrite=True
        )
        signs = dict(client.key_value_dir_get(_PREFIX))
      except jax.errors.JaxRuntimeError as error:
        self._lose(0, f'no longer answers ({str(error).splitlines()[0]})')
      now = time.monotonic()
      waiting = self._waiting
      for index in set(range(self.count)) - {self.index}:
        sign = signs.get(f'{_PREFIX}{index}', '')
        if seen.setdefault(index, (sign, now))[0] != sign:
          seen[index] = sign, now
        silent = now - seen[index][1]
        if silent > self._timeout:
          self._lose(index, f'gave no sign of life for {silent:.0f} s', sign)
        behind = not sign or int(sign.split()[1]) < self._meetings
        if waiting and behind and now - waiting > self._timeout:
          self._lose(
            index, f'is {now - waiting:.0f} s behind this process', sign
          )

  def _lose(self, index: int, why: str, sign: str = '') -> None:
    """Ends this process: its main thread may be inside of a dead collective."""
    where = f' on {sign.split()[2]}' if sign else ''
    progress.say(
      f'process {index}{where} {why}; process {self.index} ends. What was '
      f'saved is whole: start all of them again with --resume'
    )
    os._exit(preemption.EXIT_CODE)


def initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  timeout_seconds: float = 300.0,
) -> Hosts:
  """Makes this process one of several; comes before all other calls of JAX.

  Args:
    coordinator: 'address:port' of process 0. On TPU pods, Slurm and GKE it is
      found out, as are the next two.
    num_processes: of the job.
    process_id: which one this is.
    timeout_seconds: see `Hosts`.
  """
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(
    coordinator,
    num_processes,
    process_id,
    # The watch names who is lost; this one only ends what hangs after all.
    heartbeat_timeout_seconds=int(2 * timeout_seconds) + 10,
    shutdown_timeout_seconds=10,
  )
  return Hosts(timeout_seconds)


def _exchange(mine: bytes) -> list[bytes]:
  """What each process has, for all; piece by piece."""
  data = zlib.compress(mine, 1)
  lengths = multihost_utils.process_allgather(np.int32(len(data)))
  most = int(lengths.max())
  # Of few sizes: each is a program of its own.
  size = min(_PIECE, 1 << (most - 1).bit_length())
  parts = []
  for start in range(0, most, size):
    piece = np.zeros(size, np.uint8)
    part = np.frombuffer(data[start : start + size], np.uint8)
    piece[: len(part)] = part
    parts.append(np.asarray(multihost_utils.process_allgather(piece)))
  rows = np.concatenate(parts, axis=1)
  return [
    zlib.decompress(row[:length].tobytes())
    for row, length in zip(rows, lengths.tolist(), strict=True)
  ]


def local_mesh(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
  """What an engine of this process decodes on: its own devices.

  Parameters lie over 'tensor' as they do in the whole, rows over the others.

  Raises:
    ValueError: the process has no devices in it, or no whole 'tensor' group.
  """
  if jax.process_count() == 1:
    return mesh
  devices = _devices_of(mesh, jax.process_index())
  tensor = mesh.shape['tensor']
  if not devices or len(devices) % tensor:
    raise ValueError(
      f'a process has {len(devices)} devices of the mesh {dict(mesh.shape)}: '
      f'config.mesh must use all devices, and tensor={tensor} must divide '
      f'those of each process'
    )
  return sharding.make_mesh(devices, data=-1, tensor=tensor)


def _devices_of(mesh: jax.sharding.Mesh, process: int) -> list[jax.Device]:
  return [one for one in mesh.devices.flat if one.process_index == process]


def to_local(
  config: model_config.ModelConfig,
  params: Any,
  mesh: jax.sharding.Mesh,
  dtype: Any,
) -> Any:
  """Parameters on the devices of every process, whole in each of them.

  Args:
    config: the model's shape.
    params: laid out on the global mesh; all processes call this together.
    mesh: where they are used.
    dtype: to cast to on the way.

  Returns:
    The parameters as they are if there is only one process; otherwise arrays
    of `local_mesh(mesh)`, laid out for decoding.
  """
  if jax.process_count() == 1:
    return params
  mine = local_mesh(mesh)
  every = np.stack(
    [
      np.asarray(_devices_of(mesh, index), object).reshape(mine.devices.shape)
      for index in range(jax.process_count())
    ]
  )
  whole = jax.sharding.Mesh(every, ('host', *mine.axis_names))
  targets = sharding.param_shardings(
    mine,
    transformer.param_shapes(config),
    transformer.logical_axes(config),
    # Layers are stacked until the engine takes them apart.
    {**sharding.DECODE_TABLE, 'layers': None},
  )

  # One after the other: never are all of them there twice.
  def move(array, target):
    cast = _cast(array, jnp.dtype(dtype))
    moved = jax.device_put(cast, jax.sharding.NamedSharding(whole, target.spec))
    parts = [shard.data for shard in moved.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, target, parts)

  return jax.tree.map(move, params, targets)


_cast = jax.jit(lambda array, dtype: array.astype(dtype), static_argnums=1)
