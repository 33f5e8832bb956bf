import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training import examples
from wideseek_jax.training import batching

ADVANTAGES = [np.array([1.0, -1.0], np.float32)]


def _pencil():
  """Rollout 0: lead samples 3, a subagent 1; rollout 1: lead samples 2."""
  return [
    [
      examples.rollout([0, 1, 1, 0, 1], [0, 0, 1]),
      examples.rollout([0, 0, 1, 1], index=1),
    ]
  ]


def _weights(batch):
  """The weights that are not 0, by segment in row order."""
  return sorted(batch.weights[batch.weights > 0].tolist())


def test_pencil_weights():
  batch = batching.make_batch(_pencil(), ADVANTAGES, row_len=16)
  # G=2. Rollout 0 has N=2 agents: 1/2·1/2·1/3 and 1/2·1/2·1/1; rollout 1 N=1:
  # 1/2·1·1/2. 3/12 + 1/4 + 2/4 = 1.
  np.testing.assert_allclose(
    _weights(batch), [1 / 12] * 3 + [1 / 4] * 3, rtol=1e-6
  )
  np.testing.assert_allclose(batch.weights.sum(), 1, rtol=1e-6)


def test_pencil_row():
  (group,) = _pencil()
  batch = batching.make_batch([group], ADVANTAGES, row_len=9)
  lead, sub = group[0].trajectories
  (other,) = group[1].trajectories
  # Inputs needed: 4, 2 and 3 (the last token is only a target); longest first.
  cat = np.concatenate
  tokens = [t.token_ids for t in (lead, other, sub)]
  row = {
    'tokens': cat([t[:-1] for t in tokens]),
    'targets': cat([t[1:] for t in tokens]),
    'positions': [0, 1, 2, 3, 0, 1, 2, 0, 1],
    'segment_ids': [1, 1, 1, 1, 2, 2, 2, 3, 3],
    'ends': [4, 4, 4, 4, 7, 7, 7, 9, 9],
    'weights': [1 / 12, 1 / 12, 0, 1 / 12, 0, 1 / 4, 1 / 4, 0, 1 / 4],
    'advantages': [1, 1, 0, 1, 0, -1, -1, 0, 1],
    'old_logprobs': cat([t.behavior_logprobs[1:] for t in (lead, other, sub)]),
  }
  assert batch.tokens.shape == (1, 1, 9)
  for name, expected in row.items():
    got = getattr(batch, name)[0, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=name)
    kind = np.int32 if name in list(row)[:5] else np.float32
    assert got.dtype == kind, name
  assert batching.batch_stats(batch) == batching.BatchStats(
    micro_batches=1,
    rows=1,
    segments=3,
    tokens=9,
    unshared_tokens=9,
    # The lead's turns end at its tokens 2 and 4, the others' at 3 and 2: each
    # would be forwarded with all before it, 2 + 4 + 3 + 2.
    turn_tokens=11,
    trained_tokens=6,
    fill=1.0,
    forwarded_ratio=1.0,
    turn_ratio=11 / 9,
    tasks=1,
    dropped_tasks=0,
  )


def test_pencil_tree():
  # Both read 5 6 7 and sample from the place of 8 on; the second's 8 could be
  # anything, since it is asked for a trained token.
  first = dataclasses.replace(
    examples.trajectory([0, 0, 0, 0, 1, 1, 0, 1]),
    token_ids=np.array([5, 6, 7, 8, 1, 2, 3, 4], np.int32),
  )
  second = dataclasses.replace(
    examples.trajectory([0, 0, 0, 0, 1], agent=1),
    token_ids=np.array([5, 6, 7, 8, 9], np.int32),
  )
  batch = batching.make_sft_batch([first, second], row_len=12)
  row = {
    'tokens': [5, 6, 7, 8, 1, 2, 3, 8],
    'targets': [6, 7, 8, 1, 2, 3, 4, 9],
    'positions': [0, 1, 2, 3, 4, 5, 6, 3],
    'segment_ids': [1, 1, 1, 1, 1, 1, 1, 2],
    'ends': [8, 8, 8, 7, 7, 7, 7, 8],
    'weights': np.array([0, 0, 0, 1, 1, 0, 1, 1]) / 4,
  }
  for name, expected in row.items():
    got = getattr(batch, name)[0, 0]
    np.testing.assert_allclose(got[:8], expected, rtol=1e-6, err_msg=name)
    assert not got[8:].any(), name
  stats = batching.batch_stats(batch)
  assert (stats.segments, stats.tokens, stats.unshared_tokens) == (2, 8, 11)
  # Turns end at the places 4 and 6 of the first and 3 of the second.
  assert stats.turn_tokens == 5 + 7 + 4
  assert stats.forwarded_ratio == 8 / 11 and stats.turn_ratio == 2
  batch = batching.make_sft_batch(
    [first, second], row_len=12, share_prefixes=False
  )
  np.testing.assert_array_equal(batch.ends[0, 0], [7] * 7 + [11] * 4 + [0])
  stats = batching.batch_stats(batch)
  assert (stats.tokens, stats.unshared_tokens, stats.turn_tokens) == (
    11,
    11,
    16,
  )
  assert stats.forwarded_ratio == 1


def test_only_what_is_trained_counts():
  # The subagent is not trained, so N=1 for rollout 0; one of the lead's tokens
  # is not, so n=2: 1/2·1·1/2 each. Rollout 1 has nothing trained, G stays 2.
  trained = [
    [
      [np.array([1, 1, 0, 1, 1], bool), np.zeros(3, bool)],
      [np.zeros(4, bool)],
    ]
  ]
  batch = batching.make_batch(
    _pencil(), ADVANTAGES, row_len=16, trained=trained
  )
  assert _weights(batch) == [0.25, 0.25]
  assert batching.batch_stats(batch).segments == 1


def test_what_nothing_trained_reads_is_left_out():
  trained = [[[np.array([1, 1, 0, 0, 0], bool), np.zeros(3, bool)]]]
  group = [_pencil()[0][0]]
  batch = batching.make_batch([group], [np.ones(1)], row_len=8, trained=trained)
  assert batching.batch_stats(batch).tokens == 1
  assert batch.targets[0, 0, 0] == group[0].lead.token_ids[1]


def test_groups_without_advantage_are_dropped_but_counted():
  groups = _pencil() * 4
  advantages = [np.zeros(2), *ADVANTAGES, np.zeros(2), np.zeros(2)]
  batch = batching.make_batch(groups, advantages, row_len=16)
  alone = batching.make_batch(_pencil(), ADVANTAGES, row_len=16)
  np.testing.assert_array_equal(batch.weights, alone.weights / 4)
  stats = batching.batch_stats(batch)
  assert (stats.tasks, stats.dropped_tasks, stats.segments) == (4, 3, 3)


def test_a_token_mean_counts_dropped_groups_too():
  # 6 trained tokens a group: each weighs 1/12, and half of them are left out.
  batch = batching.make_batch(
    _pencil() * 2,
    [*ADVANTAGES, np.zeros(2)],
    row_len=16,
    aggregation='token_mean',
  )
  np.testing.assert_allclose(_weights(batch), [1 / 12] * 6, rtol=1e-6)
  with pytest.raises(ValueError, match='aggregation'):
    batching.make_batch([], [], row_len=16, aggregation='sum')


def test_nothing_to_train():
  batch = batching.make_batch(_pencil(), [np.zeros(2)], row_len=16)
  assert batch.num_micro_batches == 0
  assert batch.tokens.shape == (1, 1, 16)
  assert batching.batch_stats(batch).fill == 0


def test_bucket_of_micro_batches():
  def shape(rows, **kwargs):
    # Ten tokens need nine places: each fills a row.
    batch = batching.make_batch(
      [[examples.rollout([0] * 9 + [1])]] * rows,
      [np.ones(1)] * rows,
      row_len=9,
      rows_per_micro_batch=2,
      **kwargs,
    )
    return batch.tokens.shape, int(batch.num_micro_batches)

  assert shape(2) == ((1, 2, 9), 1)
  assert shape(5) == ((4, 2, 9), 3)
  assert shape(8) == ((4, 2, 9), 4)
  assert shape(2, min_micro_batches=3) == ((4, 2, 9), 1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), tasks=st.integers(1, 4))
def test_every_task_weighs_the_same(seed, tasks):
  groups, advantages = examples.random_groups(seed, tasks)
  batch = batching.make_batch(
    groups, advantages, row_len=20, rows_per_micro_batch=2
  )
  np.testing.assert_allclose(batch.weights.sum(), 1, rtol=1e-5)
  for advantage in np.concatenate(advantages):
    mine = batch.advantages == advantage
    np.testing.assert_allclose(
      batch.weights[mine].sum(), 1 / (tasks * 2), rtol=1e-5
    )


def test_sft_batch():
  first = examples.trajectory([0, 1, 1, 0])
  second = examples.trajectory([0, 0, 0, 1, 1, 1], seed=1)
  batch = batching.make_sft_batch([first, second], row_len=16)
  # 5 sampled tokens; the first trajectory is cut after its last: 2 + 5 inputs.
  np.testing.assert_allclose(_weights(batch), [1 / 5] * 5)
  assert batching.batch_stats(batch).tokens == 7
  own = [np.array([0, 0.5, 0, 0]), np.zeros(6)]
  batch = batching.make_sft_batch([first, second], row_len=16, weights=own)
  assert _weights(batch) == [0.5]
  assert batch.targets[batch.weights > 0] == first.token_ids[1]


def _swap(group, **fields):
  lead = dataclasses.replace(group[0].trajectories[0], **fields)
  return [
    [
      dataclasses.replace(group[0], trajectories=(lead,)),
      group[1],
    ]
  ]


@pytest.mark.parametrize(
  ('groups', 'advantages', 'row_len', 'message'),
  [
    (_pencil(), ADVANTAGES, 3, 'needs 4 places, a row has 3'),
    (_pencil(), [], 9, '1 groups but 0'),
    (_pencil(), [np.ones(3)], 9, '2 rollouts but 3'),
    (
      _swap(_pencil()[0], sample_mask=np.ones(5, bool)),
      ADVANTAGES,
      9,
      'first token',
    ),
    (
      _swap(_pencil()[0], behavior_logprobs=np.full(5, np.nan)),
      ADVANTAGES,
      9,
      'log-prob',
    ),
  ],
)
def test_refuses(groups, advantages, row_len, message):
  with pytest.raises(ValueError, match=message):
    batching.make_batch(groups, advantages, row_len=row_len)


def test_refuses_a_mask_of_another_length():
  trained = [[[np.ones(5, bool), np.ones(2, bool)], [np.ones(4, bool)]]]
  with pytest.raises(ValueError):
    batching.make_batch(_pencil(), ADVANTAGES, row_len=9, trained=trained)
