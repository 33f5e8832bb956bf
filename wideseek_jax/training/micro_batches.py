"""Running a model over a `Batch`, one micro-batch at a time.

In: parameters and a batch. Out: scores of its tokens, or the summed gradient of
a per-micro-batch loss. Both training steps are written with these pieces.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer
from wideseek_jax.rl import logprobs
from wideseek_jax.training import attention as attention_lib
from wideseek_jax.training import batching, kernels, train_state

# score(params, micro_batch of [B, T] arrays) -> TokenScores of [B, T] arrays.
Scorer = Callable[[Any, batching.Batch], logprobs.TokenScores]
# loss(trained, fixed, micro_batch of [B, T] arrays) -> (loss, sums to log).
Loss = Callable[
  [Any, Any, batching.Batch], tuple[jax.Array, dict[str, jax.Array]]
]


def batch_shapes(
  batch: batching.Batch, mesh: jax.sharding.Mesh
) -> batching.Batch:
  """How a batch lies on the mesh: rows dealt out, their time over 'context'.

  Args:
    batch: arrays, or whatever else has a shape and a dtype.
    mesh: where it will lie; its devices need not be there.

  Returns:
    The batch with a jax.ShapeDtypeStruct and its sharding for every array.

  Raises:
    ValueError: the rows of a micro-batch, or the tokens of a row, do not divide
      over the devices.
  """
  table = sharding.TRAIN_TABLE
  _, rows, row_len = batch.tokens.shape
  for what, size, axis in (
    ('rows per micro-batch', rows, 'batch'),
    ('tokens a row', row_len, 'time'),
  ):
    ways = sharding.ways(mesh, axis, table)
    if size % ways:
      raise ValueError(
        f'{size} {what} do not divide over {ways} devices of the mesh axes '
        f'{table[axis]}'
      )
  by_rows = sharding.full_spec((None, 'batch', 'time'), table)

  def place(array):
    spec = by_rows if len(array.shape) else jax.sharding.PartitionSpec()
    where = jax.sharding.NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=where)

  return jax.tree.map(place, batch)


def put_batch(batch: batching.Batch, mesh: jax.sharding.Mesh) -> batching.Batch:
  """Lays a batch on the mesh as `batch_shapes` says.

  Every process gives the same batch and keeps what is its own devices'.
  """

  def put(array, shape):
    if isinstance(array, jax.Array):
      return jax.device_put(array, shape.sharding)
    # Given a NumPy array, device_put sends it around to see if all have it.
    return sharding.make_array(
      array.shape, shape.sharding, lambda index: array[index]
    )

  return jax.tree.map(put, batch, batch_shapes(batch, mesh))


def make_scorer(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  *,
  logprob_chunk: int,
  attention: str = 'auto',
  attention_block: int = 64,
  temperature: float = 1.0,
  entropy_grad: bool = False,
  compute_dtype: Any = jnp.float32,
  remat: str = 'none',
) -> Scorer:
  """A function from parameters and packed rows to scores of their targets.

  Args:
    config: the model's shape.
    mesh: where it runs.
    logprob_chunk: chunk_len of `logprobs.token_logprobs`.
    attention: see `kernels.choose`.
    attention_block: block of `packed_attention.packed_attend`.
    temperature: see `logprobs.token_logprobs`.
    entropy_grad: see `logprobs.token_logprobs`.
    compute_dtype: parameters are cast to it where they are used; gradients
      come back, and are summed, in theirs.
    remat: what the backward pass computes again, see `transformer.REMAT`.
  """
  constrain = functools.partial(
    sharding.constrain, mesh=mesh, table=sharding.TRAIN_TABLE
  )

  parts = mesh.shape['context']

  def to_parts(x_BT):
    # A part of the time is a row of its own here: chunks of time that are dealt
    # out over devices would be gathered one after the other.
    B, T, *rest = x_BT.shape
    x_BCt = x_BT.reshape(B, parts, T // parts, *rest)
    x_Pt = x_BCt.swapaxes(0, 1).reshape(B * parts, T // parts, *rest)
    return constrain(x_Pt, ('part', None, *(None for _ in rest)))

  def to_rows(x_Pt):
    x_CBt = x_Pt.reshape(parts, -1, x_Pt.shape[1])
    x_BT = x_CBt.swapaxes(0, 1).reshape(x_CBt.shape[1], -1)
    return constrain(x_BT, ('batch', 'time'))

  def score(params, micro_batch):
    platform = mesh.devices.flat[0].platform
    how = kernels.choose(
      attention,
      platform,
      config.head_dim,
      micro_batch.ends.shape[1],
      parts,
    )
    attend = attention_lib.make_attend(
      how, mesh, config, micro_batch.ends, block=attention_block
    )
    params = transformer.gather_tables(params, constrain)
    hidden_BTD, _ = transformer.apply(
      config,
      params,
      micro_batch.tokens,
      micro_batch.positions,
      attend,
      constrain=constrain,
      remat=remat,
      unroll=platform == 'cpu' and remat == 'none',
      dtype=compute_dtype,
    )
    scores = logprobs.token_logprobs(
      to_parts(hidden_BTD),
      functools.partial(transformer.unembed, config, params),
      to_parts(micro_batch.targets),
      asked_BT=to_parts(micro_batch.weights > 0),
      chunk_len=logprob_chunk,
      temperature=temperature,
      entropy_grad=entropy_grad,
    )
    return jax.tree.map(to_rows, scores)

  return score


def take_micro_batch(
  batch: batching.Batch, index: jax.Array | int
) -> batching.Batch:
  """The batch with [B, T] arrays of one micro-batch; scalars stay."""

  def take(array):
    if array.ndim == 0:
      return array
    return jax.lax.dynamic_index_in_dim(array, index, keepdims=False)

  return jax.tree.map(take, batch)


def accumulate(
  loss_fn: Loss, trained: Any, fixed: Any, batch: batching.Batch
) -> tuple[Any, dict[str, jax.Array]]:
  """Sums loss, gradient and metrics over the micro-batches that hold anything.

  The number of rounds is data, not shape: a batch padded to a bucket costs only
  what it holds, and compiles once. Nothing is normalised on the way.

  Args:
    loss_fn: of one micro-batch.
    trained: the parameters that have a gradient.
    fixed: other arrays that the loss reads, large ones too.
    batch: on the mesh.

  Returns:
    (gradient like `trained`, metrics with 'loss' added). Metrics are sums;
    those whose name ends in '_max' are maxima, at least 0.
  """
  first = jax.eval_shape(lambda b: take_micro_batch(b, 0), batch)
  _, shapes = jax.eval_shape(loss_fn, trained, fixed, first)
  names = {'loss', *shapes}

  def body(index, carry):
    grads, metrics = carry
    micro_batch = take_micro_batch(batch, index)
    # Tied to the round: XLA would otherwise gather all sharded parameters once,
    # before the loop, and hold the whole model on every device.
    tied = jax.lax.optimization_barrier((trained, fixed, micro_batch))
    (loss, seen), more = jax.value_and_grad(loss_fn, has_aux=True)(*tied)
    seen = seen | {'loss': loss}
    metrics = {
      name: jnp.maximum(value, seen[name])
      if name.endswith('_max')
      else value + seen[name]
      for name, value in metrics.items()
    }
    return jax.tree.map(jnp.add, grads, more), metrics

  zeros = {name: jnp.zeros((), jnp.float32) for name in names}
  return jax.lax.fori_loop(
    0,
    batch.num_micro_batches,
    body,
    (jax.tree.map(jnp.zeros_like, trained), zeros),
  )


def apply_gradient(
  optimizer: optax.GradientTransformation,
  state: train_state.TrainState,
  grads: Any,
) -> train_state.TrainState:
  """One update of the optimiser."""
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  return dataclasses.replace(
    state,
    params=optax.apply_updates(state.params, updates),
    opt_state=opt_state,
    step=state.step + 1,
  )
