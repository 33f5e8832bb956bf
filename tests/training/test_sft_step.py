import jax
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.training import batching, sft_step, train_state

TRAJECTORIES = [
  examples.trajectory([0, 0, 1, 1, 0, 1, 1], seed=seed) for seed in range(4)
]


@pytest.fixture(scope='module')
def run():
  """States and metrics of some Adam steps on one batch, and the step."""
  mesh = examples.mesh()
  optimizer = train_state.make_optimizer(learning_rate=0.03)
  state = train_state.init_train_state(
    examples.CONFIG, optimizer, mesh, examples.params()
  )
  step = sft_step.make_sft_step(
    examples.CONFIG, optimizer, mesh, logprob_chunk=4, attention_block=4
  )
  batch = batching.make_sft_batch(
    TRAJECTORIES, row_len=13, rows_per_micro_batch=1, min_micro_batches=4
  )
  history = []
  for _ in range(30):
    state, metrics = step(state, batch)
    history.append(jax.tree.map(float, metrics))
  return state, history, step


def test_one_step_lowers_the_loss(run):
  _, history, _ = run
  assert history[1]['loss'] < history[0]['loss']


def test_learns_by_heart(run):
  state, history, step = run
  # 16 tokens, each as likely as any of 32 at first: about ln 32 = 3.47 nats.
  assert abs(history[0]['loss'] - np.log(32)) < 1
  assert history[0]['tokens'] == 16
  assert history[-1]['loss'] < 0.3
  assert history[-1]['accuracy'] == 1
  assert history[-1]['entropy'] < history[0]['entropy']
  assert int(state.step) == 30
  assert step.compilations() == 1


def test_loss_is_the_mean_over_tokens(run):
  logprobs, tokens = [], 0
  for trajectory in TRAJECTORIES:
    mask = trajectory.sample_mask[1:]
    logprobs += [
      examples.logprobs_alone(examples.params(), trajectory.token_ids)[mask]
    ]
    tokens += mask.sum()
  expected = -np.concatenate(logprobs).sum() / tokens
  np.testing.assert_allclose(run[1][0]['loss'], expected, rtol=1e-5)
