"""Small rollouts, models and steps that the tests of this folder share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from wideseek_jax import sharding, types
from wideseek_jax.models import config as model_config
from wideseek_jax.models import layers, transformer
from wideseek_jax.training import train_state

CONFIG = model_config.ModelConfig(
  vocab_size=32,
  embed_dim=16,
  mlp_dim=24,
  num_layers=1,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
)


def trajectory(sample_mask, *, agent=0, seed=0) -> types.Trajectory:
  """Random tokens and log-probs; `sample_mask` as ones and zeros."""
  rng = np.random.default_rng([seed, agent])
  mask = np.asarray(sample_mask, bool)
  size = len(mask)
  return types.Trajectory(
    agent=agent,
    role='subagent' if agent else 'lead',
    subtask='',
    parent_turn=-1,
    token_ids=rng.integers(0, CONFIG.vocab_size, size).astype(np.int32),
    sample_mask=mask,
    behavior_logprobs=np.where(mask, -6 * rng.random(size), 0).astype(
      np.float32
    ),
    turns=(),
    answer='',
  )


def rollout(*sample_masks, index=0, seed=0) -> types.Rollout:
  """One agent a mask."""
  return types.Rollout(
    task_id='task',
    index=index,
    trajectories=tuple(
      trajectory(mask, agent=agent, seed=1000 * seed + index)
      for agent, mask in enumerate(sample_masks)
    ),
  )


def random_groups(seed=0, tasks=2, size=2, longest=14):
  """Groups of rollouts with 1–3 agents, and advantages that are not 0."""
  rng = np.random.default_rng(seed)
  groups = []
  for task in range(tasks):
    group = []
    for index in range(size):
      masks = []
      for _ in range(rng.integers(1, 4)):
        mask = rng.random(rng.integers(4, longest + 1)) < 0.5
        mask[0], mask[2] = False, True
        masks.append(mask)
      group.append(rollout(*masks, index=index, seed=task + 10 * seed))
    groups.append(group)
  advantages = [rng.normal(size=size).astype(np.float32) for _ in groups]
  return groups, advantages


def mesh(data=1, fsdp=1, tensor=1, context=1):
  """A mesh over the first devices."""
  count = data * fsdp * tensor * context
  return sharding.make_mesh(
    jax.devices()[:count],
    data=data,
    fsdp=fsdp,
    context=context,
    tensor=tensor,
  )


def params():
  return transformer.init_params(CONFIG, jax.random.key(0))


def plain_state(mesh):
  """(optimizer, state): one update subtracts exactly the gradient."""
  optimizer = optax.sgd(1.0)
  state = train_state.init_train_state(CONFIG, optimizer, mesh, params())
  return optimizer, state


def gradient(state):
  """What the update of a `plain_state` subtracted, as NumPy arrays."""
  return jax.tree.map(
    lambda old, new: np.asarray(old) - np.asarray(new), params(), state.params
  )


@jax.jit
def logits_alone(params, tokens):
  """[1, T, V] of one agent, with the reference attention."""
  positions = jnp.arange(tokens.shape[1])[None]
  attend = layers.full_causal_attend(None, positions)
  hidden, _ = transformer.apply(CONFIG, params, tokens, positions, attend)
  return transformer.unembed(CONFIG, params, hidden)


def logprobs_alone(params, tokens, temperature=1.0):
  """Of every token after the first: one agent, no row, no chunks, NumPy."""
  size = len(tokens)
  # Padded behind, where a causal model does not look, to compile once.
  padded = np.pad(tokens, (0, 16 - size))[None]
  logits = np.asarray(logits_alone(params, padded), np.float64)
  logits = logits[0, : size - 1] / temperature
  logits -= logits.max(-1, keepdims=True)
  logps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return logps[np.arange(size - 1), tokens[1:]]
