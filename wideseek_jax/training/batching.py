"""From scored rollouts to packed rows that a training step reads.

In: groups of rollouts with their advantages (or plain trajectories, for
supervised training). Out: a `Batch` of NumPy arrays: every trained agent's
trajectory is one segment of one row, a prompt that several of a row read stands
in it once, every token carries its final weight, and rows are dealt into
micro-batches. Weights come from what is really trained (`rl.weights`), before
anything is packed; so packing, micro-batches and sharding cannot change the
objective.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from wideseek_jax import types
from wideseek_jax.rl import weights as weights_lib
from wideseek_jax.training import packing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
  """Packed rows: M micro-batches of B rows of T tokens, a pytree.

  Position t of a segment reads token t and is asked for the token t + 1, so
  everything that concerns a sampled token (target, weight, advantage, log-prob)
  sits one place before it. What no trained token reads is not in the batch.

  A row holds the agents' segments depth first in the tree of their prefixes:
  a segment is what its agent does not share with the one before it. Shared
  tokens are never asked for a trained one, so every trained target has one
  place of its own, in its own agent's segment.

  Attributes:
    tokens: int32 [M, B, T], 0 in padding.
    targets: int32 [M, B, T], the next token, 0 in padding. Where agents part,
      that of the first of them.
    positions: int32 [M, B, T], tokens before this one in its agent's context.
    segment_ids: int32 [M, B, T], the agents of a row as 1, 2 …; 0 is padding. A
      shared token has the id of the first agent that reads it.
    ends: int32 [M, B, T], up to where in the row a token is seen: place i sees
      place j if j <= i < ends[j]. 0 in padding, which nothing sees.
    weights: float32 [M, B, T], what the target counts; 0 if not trained.
    advantages: float32 [M, B, T], of the rollout; 0 if not trained.
    old_logprobs: float32 [M, B, T], what ratios are taken to: of the target as
      it was sampled, unless `grpo_step.make_score_step` replaced it; 0 if not
      trained.
    num_micro_batches: int32 [], how many of the M hold anything; those come
      first, a step skips the others.
    num_tasks: int32 [], the groups that were given.
    num_dropped: int32 [], those of them left out for having no advantage.
    behavior_logprobs: float32 [M, B, T], of the engine that sampled; None while
      old_logprobs are those.
  """

  tokens: np.ndarray
  targets: np.ndarray
  positions: np.ndarray
  segment_ids: np.ndarray
  ends: np.ndarray
  weights: np.ndarray
  advantages: np.ndarray
  old_logprobs: np.ndarray
  num_micro_batches: np.ndarray
  num_tasks: np.ndarray
  num_dropped: np.ndarray
  behavior_logprobs: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class BatchStats:
  """What a batch holds.

  Attributes:
    micro_batches: micro-batches that hold anything.
    rows: rows that hold anything.
    segments: trajectories in them.
    tokens: tokens forwarded that are not padding.
    unshared_tokens: what they would be if no row shared a prefix.
    turn_tokens: what they would be with a row for every turn that is trained,
      each with its whole context (the layout of the released code).
    trained_tokens: tokens with a weight.
    fill: tokens / (T × all rows of the micro-batches that hold anything).
    forwarded_ratio: tokens / unshared_tokens, at most 1.
    turn_ratio: turn_tokens / tokens, how many times fewer tokens are forwarded.
    tasks: groups given.
    dropped_tasks: groups left out because all their advantages are 0.
  """

  micro_batches: int
  rows: int
  segments: int
  tokens: int
  unshared_tokens: int
  turn_tokens: int
  trained_tokens: int
  fill: float
  forwarded_ratio: float
  turn_ratio: float
  tasks: int
  dropped_tasks: int


def make_batch(
  groups: Sequence[Sequence[types.Rollout]],
  advantages: Sequence[np.ndarray],
  *,
  row_len: int,
  rows_per_micro_batch: int = 1,
  min_micro_batches: int = 1,
  share_prefixes: bool = True,
  trained: weights_lib.Nested | None = None,
  aggregation: weights_lib.Aggregation = 'dual_level',
) -> Batch:
  """Packs groups of rollouts for a policy-gradient step.

  Weights are those of `rl.weights.token_weights` over all groups, so those of a
  task sum to 1/tasks by default.

  A group whose advantages are all 0 is left out, since its gradient is 0, but
  stays counted, in `tasks` or with its tokens: the result is the same as if it
  were there (KL and entropy terms, if used, then cover the remaining tasks
  only).

  Args:
    groups: for each task its rollouts.
    advantages: for each task float [G].
    row_len: T. A longer trajectory is an error; nothing is ever cut.
    rows_per_micro_batch: B, a multiple of the devices that rows are dealt over.
    min_micro_batches: M is the next power of two of what is needed, but at
      least this: with enough of it every step has one shape.
    share_prefixes: agents of a row that begin alike have one copy of what they
      read before their first trained token. The result is the same, for fewer
      tokens forwarded; never are more rows needed.
    trained: for each task, rollout and trajectory a bool [tokens]: which of the
      sampled tokens are trained; all of them if None.
    aggregation: see `rl.weights.token_weights`.

  Raises:
    ValueError: lengths of the arguments differ, a trajectory is longer than
      row_len, a trained token has no predecessor or no finite log-prob, or
      there is no such aggregation.
  """
  if len(groups) != len(advantages):
    raise ValueError(
      f'{len(groups)} groups but {len(advantages)} arrays of advantages'
    )
  weights = weights_lib.token_weights(
    _trained_masks(groups, trained), aggregation
  )
  segments, num_dropped = [], 0
  for group, group_advs, group_weights in zip(
    groups, advantages, weights, strict=True
  ):
    if len(group) != len(group_advs):
      raise ValueError(
        f'group of {len(group)} rollouts but {len(group_advs)} advantages'
      )
    if not np.any(group_advs):
      num_dropped += 1
      continue
    for rollout, advantage, rollout_weights in zip(
      group, group_advs, group_weights, strict=True
    ):
      segments += [
        _segment(
          trajectory, token_weights, advantage, trajectory.behavior_logprobs
        )
        for trajectory, token_weights in zip(
          rollout.trajectories, rollout_weights, strict=True
        )
        if token_weights.any()
      ]
  return _batch(
    segments,
    row_len=row_len,
    rows_per_micro_batch=rows_per_micro_batch,
    min_micro_batches=min_micro_batches,
    share_prefixes=share_prefixes,
    num_tasks=len(groups),
    num_dropped=num_dropped,
  )


def make_sft_batch(
  trajectories: Sequence[types.Trajectory],
  *,
  row_len: int,
  rows_per_micro_batch: int = 1,
  min_micro_batches: int = 1,
  share_prefixes: bool = True,
  weights: Sequence[np.ndarray] | None = None,
) -> Batch:
  """Packs trajectories for supervised training on their sampled tokens.

  Args:
    trajectories: what to imitate; behavior_logprobs are not read.
    row_len: T. A longer trajectory is an error; nothing is ever cut.
    rows_per_micro_batch: B, as in `make_batch`.
    min_micro_batches: as in `make_batch`.
    share_prefixes: as in `make_batch`.
    weights: for each trajectory float [tokens], used as they are; by default
      each sampled token has 1 / (sampled tokens of all trajectories).

  Returns:
    A batch with zero advantages and log-probs; num_tasks counts trajectories.

  Raises:
    ValueError: as `make_batch`.
  """
  if weights is None:
    total = sum(t.num_sampled for t in trajectories)
    weights = [t.sample_mask / max(total, 1) for t in trajectories]
  segments = [
    _segment(
      trajectory,
      np.asarray(trajectory_weights, np.float32),
      advantage=0.0,
      old_logprobs=np.zeros(len(trajectory.token_ids), np.float32),
    )
    for trajectory, trajectory_weights in zip(
      trajectories, weights, strict=True
    )
    if np.any(trajectory_weights)
  ]
  return _batch(
    segments,
    row_len=row_len,
    rows_per_micro_batch=rows_per_micro_batch,
    min_micro_batches=min_micro_batches,
    share_prefixes=share_prefixes,
    num_tasks=len(trajectories),
    num_dropped=0,
  )


def batch_stats(batch: Batch) -> BatchStats:
  """Counts what a batch holds (on the host, from NumPy arrays)."""
  segment_ids = np.asarray(batch.segment_ids)
  contexts = np.asarray(batch.positions, np.int64) + 1
  trained = np.asarray(batch.weights) != 0
  filled = segment_ids > 0
  goes_on = np.zeros_like(filled)  # the next place is of the same segment
  goes_on[..., :-1] = segment_ids[..., 1:] == segment_ids[..., :-1]
  turn_goes_on = goes_on.copy()
  turn_goes_on[..., :-1] &= trained[..., 1:]
  tokens = int(filled.sum())
  unshared_tokens = int(contexts[filled & ~goes_on].sum())
  turn_tokens = int(contexts[trained & ~turn_goes_on].sum())
  micro_batches = int(batch.num_micro_batches)
  places = micro_batches * filled.shape[1] * filled.shape[2]
  return BatchStats(
    micro_batches=micro_batches,
    rows=int(filled.any(-1).sum()),
    segments=int(segment_ids.max(-1).sum()),
    tokens=tokens,
    unshared_tokens=unshared_tokens,
    turn_tokens=turn_tokens,
    trained_tokens=int(trained.sum()),
    fill=tokens / max(places, 1),
    forwarded_ratio=tokens / max(unshared_tokens, 1),
    turn_ratio=turn_tokens / max(tokens, 1),
    tasks=int(batch.num_tasks),
    dropped_tasks=int(batch.num_dropped),
  )


def _trained_masks(
  groups: Sequence[Sequence[types.Rollout]], trained: weights_lib.Nested | None
) -> weights_lib.Nested:
  """Which sampled tokens are trained; all of them if `trained` is None."""
  sampled = [
    [[t.sample_mask for t in rollout.trajectories] for rollout in group]
    for group in groups
  ]
  if trained is None:
    return sampled
  return [
    [
      [
        mask & np.asarray(chosen, bool)
        for mask, chosen in zip(agents, chosen_agents, strict=True)
      ]
      for agents, chosen_agents in zip(group, chosen_group, strict=True)
    ]
    for group, chosen_group in zip(sampled, trained, strict=True)
  ]


def _segment(
  trajectory: types.Trajectory,
  weights: np.ndarray,
  advantage: float,
  old_logprobs: np.ndarray,
) -> packing.Segment:
  """Shifts one trajectory; `weights` is float32 [tokens], not all 0."""
  if weights.shape != trajectory.token_ids.shape:
    raise ValueError(
      f'agent {trajectory.agent}: {len(trajectory.token_ids)} tokens but '
      f'weights or mask of shape {weights.shape}'
    )
  if weights[0]:
    raise ValueError(
      f'agent {trajectory.agent}: its first token is trained, but nothing '
      'comes before it'
    )
  trained = weights != 0
  if not np.isfinite(old_logprobs[trained]).all():
    raise ValueError(
      f'agent {trajectory.agent}: a trained token has no finite log-prob'
    )
  last = int(np.flatnonzero(trained)[-1])
  trained = trained[1 : last + 1]
  return packing.Segment(
    tokens=trajectory.token_ids[:last],
    targets=trajectory.token_ids[1 : last + 1],
    weights=weights[1 : last + 1],
    advantages=np.where(trained, np.float32(advantage), 0),
    old_logprobs=np.where(trained, old_logprobs[1 : last + 1], 0),
  )


def _batch(
  segments: Sequence[packing.Segment],
  *,
  num_tasks: int,
  num_dropped: int,
  **layout: int | bool,
) -> Batch:
  arrays, num_micro_batches = packing.pack(segments, **layout)
  return Batch(
    **arrays,
    num_micro_batches=np.int32(num_micro_batches),
    num_tasks=np.int32(num_tasks),
    num_dropped=np.int32(num_dropped),
  )
