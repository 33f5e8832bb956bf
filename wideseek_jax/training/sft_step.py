"""One supervised update: raise the log-probs of given tokens.

In: a `TrainState` and a `Batch` of demonstrations. Out: the next state and
scalars for the log. A fresh policy is brought to the tool-call format this way
before reinforcement learning starts.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from wideseek_jax.models import config as model_config
from wideseek_jax.models import lora as lora_lib
from wideseek_jax.training import batching, micro_batches, train_state

Metrics = dict[str, jax.Array]


def make_sft_step(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  frozen: lora_lib.Frozen | None = None,
  *,
  logprob_chunk: int = 128,
  attention: str = 'auto',
  attention_block: int = 64,
  compute_dtype: Any = jnp.float32,
  remat: str = 'none',
) -> Callable[
  [train_state.TrainState, batching.Batch],
  tuple[train_state.TrainState, Metrics],
]:
  """Builds step(state, batch) -> (state, metrics).

  The loss is Σ weight · -logprob over the batch, whatever the micro-batches.
  The state that is given is donated: use the one that is returned.

  Args:
    config: the model's shape.
    optimizer: from `train_state.make_optimizer`.
    mesh: where it runs.
    frozen: what the state's adapters are added to; None if it holds all
      parameters.
    logprob_chunk: see `micro_batches.make_scorer`, as are the next four.
    attention: see above.
    attention_block: see above.
    compute_dtype: see above.
    remat: see above.

  Returns:
    The step. Its metrics are float32 scalars on the device: 'loss',
    'grad_norm' (before clipping), 'accuracy' (of the trained tokens, those
    that are also the likeliest), 'entropy' (weighted mean, nats), 'tokens'
    (trained).
  """
  score = micro_batches.make_scorer(
    config,
    mesh,
    logprob_chunk=logprob_chunk,
    attention=attention,
    attention_block=attention_block,
    compute_dtype=compute_dtype,
    remat=remat,
  )
  abstract = train_state.abstract_train_state(
    config, optimizer, mesh, frozen and frozen.lora
  )

  def loss_fn(params, frozen, micro_batch):
    scores = score(lora_lib.join(frozen, params), micro_batch)
    weights = micro_batch.weights
    trained = weights > 0
    sums = {
      'tokens': trained,
      'hits': trained & scores.is_top,
      'entropy': weights * scores.entropy,
      'weight': weights,
    }
    loss = -jnp.sum(weights * scores.logprobs)
    return loss, {
      name: jnp.sum(x, dtype=jnp.float32) for name, x in sums.items()
    }

  def update(state, batch, frozen):
    grads, sums = micro_batches.accumulate(loss_fn, state.params, frozen, batch)
    metrics = {
      'loss': sums['loss'],
      'grad_norm': optax.tree.norm(grads),
      'accuracy': sums['hits'] / jnp.maximum(sums['tokens'], 1),
      'entropy': sums['entropy'] / jnp.maximum(sums['weight'], 1e-30),
      'tokens': sums['tokens'],
    }
    return micro_batches.apply_gradient(optimizer, state, grads), metrics

  jitted = jax.jit(
    update,
    donate_argnums=0,
    out_shardings=(train_state.state_shardings(abstract), None),
  )

  def step(state, batch):
    return jitted(state, micro_batches.put_batch(batch, mesh), frozen)

  step.compilations = jitted._cache_size
  return step
