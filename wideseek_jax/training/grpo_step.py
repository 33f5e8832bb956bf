"""One policy-gradient update on a batch of rollouts.

In: a `TrainState`, a `Batch` with advantages and weights. Out: the next state
and scalars for the log. Gradients of Σ weight · term are summed over
micro-batches as they are, in one jitted call.
"""

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from wideseek_jax.models import config as model_config
from wideseek_jax.models import lora as lora_lib
from wideseek_jax.rl import losses
from wideseek_jax.training import batching, micro_batches, train_state

Metrics = dict[str, jax.Array]


def make_grpo_step(
  config: model_config.ModelConfig,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  frozen: lora_lib.Frozen | None = None,
  *,
  clip_low: float = 0.2,
  clip_high: float = 0.28,
  dual_clip: float = 10.0,
  log_ratio_clamp: float = 20.0,
  kl_coef: float = 0.0,
  entropy_coef: float = 0.0,
  ratio_level: losses.RatioLevel = 'token',
  tis_level: losses.TisLevel = 'off',
  tis_cap: float = 2.0,
  max_ratio: float = math.inf,
  temperature: float = 1.0,
  logprob_chunk: int = 128,
  attention: str = 'auto',
  attention_block: int = 64,
  compute_dtype: Any = jnp.float32,
  remat: str = 'none',
) -> Callable[..., tuple[train_state.TrainState, Metrics]]:
  """Builds step(state, batch, ref_params=None) -> (state, metrics).

  Ratios are taken to batch.old_logprobs; step.rescore(state.params, batch)
  replaces these by what this very program says of the tokens (see
  `make_score_step`). The state that is given is donated: use the one that is
  returned.
  step.lower(batch, ref_params=None), of arrays or of shapes alone, is the step
  ready to compile for a mesh whose devices need not be there.

  Args:
    config: the model's shape.
    optimizer: from `train_state.make_optimizer`.
    mesh: where it runs.
    frozen: what the state's adapters are added to; None if it holds all
      parameters.
    clip_low: see `losses.policy_loss`, as are the next eight.
    clip_high: see above.
    dual_clip: see above.
    log_ratio_clamp: see above.
    kl_coef: see above. If 0, no reference is read or computed.
    entropy_coef: see above.
    ratio_level: see above; 'sequence' is GSPO.
    tis_level: see above; a batch that was not rescored has the factor 1.
    tis_cap: see above.
    max_ratio: an update whose weighted mean ratio is above this, or no number,
      is not made: only the state's step changes, and 'skipped' is 1. A batch
      without any weight is skipped in any case.
    temperature: of the sampler.
    logprob_chunk: see `micro_batches.make_scorer`, as are the next four.
    attention: see above.
    attention_block: see above.
    compute_dtype: see above.
    remat: see above.

  Returns:
    The step; ref_params must be given exactly if kl_coef is not 0 (ValueError).
    Its metrics are float32 scalars on the device. Means are weighted like the
    loss: 'loss' (a sum), 'grad_norm' (before clipping), 'tokens' (trained),
    'weight' (Σ w, 1 less what was dropped), 'ratio_mean', 'ratio_max',
    'clip_low', 'clip_high', 'clip_dual' (fractions), 'approx_kl' and 'entropy'
    (nats), 'skipped' (0 or 1), and 'ref_kl' with a reference; of a rescored
    batch with importance sampling also 'tis_mean' (mean factor), 'tis_capped'
    (fraction) and 'mismatch_kl' (nats between engine and trainer).

  Raises:
    ValueError: an option has no such value.
  """
  for name, value, values in (
    ('ratio_level', ratio_level, typing.get_args(losses.RatioLevel)),
    ('tis_level', tis_level, typing.get_args(losses.TisLevel)),
  ):
    if value not in values:
      raise ValueError(f'{name} must be one of {values}, got {value!r}')
  score = micro_batches.make_scorer(
    config,
    mesh,
    logprob_chunk=logprob_chunk,
    attention=attention,
    attention_block=attention_block,
    temperature=temperature,
    entropy_grad=entropy_coef != 0,
    compute_dtype=compute_dtype,
    remat=remat,
  )
  abstract = train_state.abstract_train_state(
    config, optimizer, mesh, frozen and frozen.lora
  )

  def update(state, batch, frozen, ref_params):
    def loss_fn(trained, fixed, micro_batch):
      frozen, ref_params = fixed
      scores = score(lora_lib.join(frozen, trained), micro_batch)
      ref_logprobs = None
      if kl_coef:
        ref_logprobs = score(ref_params, micro_batch).logprobs
      loss, sums = losses.policy_loss(
        scores.logprobs,
        micro_batch.old_logprobs,
        micro_batch.advantages,
        micro_batch.weights,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        log_ratio_clamp=log_ratio_clamp,
        ratio_level=ratio_level,
        segment_ids=micro_batch.segment_ids,
        tis_level=tis_level,
        tis_cap=tis_cap,
        behavior_logprobs=micro_batch.behavior_logprobs,
        kl_coef=kl_coef,
        ref_logprobs=ref_logprobs,
        entropy_coef=entropy_coef,
        entropy=scores.entropy,
      )
      sums['tokens'] = jnp.sum(micro_batch.weights > 0, dtype=jnp.float32)
      return loss, sums

    grads, sums = micro_batches.accumulate(
      loss_fn, state.params, (frozen, ref_params), batch
    )
    weight = jnp.maximum(sums['weight'], 1e-30)
    kept = ('loss', 'tokens', 'weight', 'ratio_max')
    names = {'ratio': 'ratio_mean', 'tis': 'tis_mean'}
    metrics = {
      names.get(name, name): value if name in kept else value / weight
      for name, value in sums.items()
    }
    metrics['grad_norm'] = optax.tree.norm(grads)
    # Without a gradient, momentum alone would go on moving the parameters. Not
    # a ratio above the limit: one that is no number is not within it either.
    skip = (sums['weight'] == 0) | ~(metrics['ratio_mean'] <= max_ratio)
    metrics['skipped'] = skip.astype(jnp.float32)
    state = jax.lax.cond(
      skip,
      lambda: dataclasses.replace(state, step=state.step + 1),
      lambda: micro_batches.apply_gradient(optimizer, state, grads),
    )
    return state, metrics

  jitted = jax.jit(
    update,
    donate_argnums=0,
    out_shardings=(train_state.state_shardings(abstract), None),
  )

  def step(state, batch, ref_params=None):
    if (ref_params is not None) != (kl_coef != 0):
      raise ValueError(
        f'kl_coef is {kl_coef}: ref_params are needed if it is not 0, and read '
        'only then'
      )
    batch = micro_batches.put_batch(batch, mesh)
    return jitted(state, batch, frozen, ref_params)

  def lower(batch, ref_params=None):
    batch = micro_batches.batch_shapes(batch, mesh)
    return jitted.lower(abstract, batch, frozen, ref_params)

  step.compilations = jitted._cache_size
  step.lower = lower
  step.rescore = make_score_step(
    config,
    mesh,
    frozen,
    temperature=temperature,
    logprob_chunk=logprob_chunk,
    attention=attention,
    attention_block=attention_block,
    compute_dtype=compute_dtype,
  )
  return step


def make_score_step(
  config: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  frozen: lora_lib.Frozen | None = None,
  *,
  temperature: float = 1.0,
  logprob_chunk: int = 128,
  attention: str = 'auto',
  attention_block: int = 64,
  compute_dtype: Any = jnp.float32,
) -> Callable[[Any, batching.Batch], batching.Batch]:
  """Builds rescore(trained, batch) -> batch with other old_logprobs.

  They are what the training program itself says of the sampled tokens. Ratios
  to them start at 1 whatever the engine's arithmetic, at the price of one more
  forward pass. What the engine said is kept as behavior_logprobs.

  Args: as in `make_grpo_step`.
  """
  score = micro_batches.make_scorer(
    config,
    mesh,
    logprob_chunk=logprob_chunk,
    attention=attention,
    attention_block=attention_block,
    temperature=temperature,
    compute_dtype=compute_dtype,
  )

  @jax.jit
  def run(trained, frozen, batch):
    params = lora_lib.join(frozen, trained)

    def body(index, out_MBT):
      micro_batch = micro_batches.take_micro_batch(batch, index)
      scores = score(params, micro_batch)
      logprobs_BT = jnp.where(micro_batch.weights > 0, scores.logprobs, 0.0)
      return out_MBT.at[index].set(logprobs_BT)

    return jax.lax.fori_loop(
      0, batch.num_micro_batches, body, jnp.zeros_like(batch.weights)
    )

  def rescore(trained, batch):
    batch = micro_batches.put_batch(batch, mesh)
    engines = batch.behavior_logprobs
    if engines is None:
      engines = batch.old_logprobs
    # Without them: one program, whether or not this is the first time.
    batch = dataclasses.replace(batch, behavior_logprobs=None)
    return dataclasses.replace(
      batch, old_logprobs=run(trained, frozen, batch), behavior_logprobs=engines
    )

  return rescore
