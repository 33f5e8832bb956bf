import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax.models import transformer
from wideseek_jax.training import train_state


def test_schedule_by_hand():
  # Rise over 4 updates: 1/4, 2/4, 3/4, 1; then straight to 0 at update 8.
  schedule = train_state.make_schedule(
    learning_rate=1.0, warmup_steps=4, decay='linear', total_steps=8
  )
  rates = [float(schedule(n)) for n in range(10)]
  expected = [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0, 0]
  np.testing.assert_allclose(rates, expected, atol=1e-6)


def test_cosine_and_constant():
  cosine = train_state.make_schedule(
    learning_rate=2.0, decay='cosine', total_steps=4
  )
  # 2 · (1 + cos(π n/4)) / 2 at n = 0, 2, 4.
  got = [float(cosine(n)) for n in (0, 2, 4)]
  np.testing.assert_allclose(got, [2, 1, 0], atol=1e-6)
  constant = train_state.make_schedule(learning_rate=2.0)
  assert float(constant(0)) == float(constant(1000)) == 2


@pytest.mark.parametrize(
  'options',
  [
    {'decay': 'square'},
    {'decay': 'linear'},
    {'decay': 'cosine', 'warmup_steps': 5, 'total_steps': 5},
  ],
)
def test_schedule_refuses(options):
  with pytest.raises(ValueError):
    train_state.make_schedule(learning_rate=1.0, **options)


def test_first_update_by_hand():
  # Adam's first update is -rate · g/|g| (eps aside); matrices also lose
  # rate · decay of themselves, vectors do not. The gradient (3, 4) is cut to
  # length 1, which its direction does not show.
  optimizer = train_state.make_optimizer(
    learning_rate=0.1, weight_decay=0.5, eps=1e-8
  )
  params = {'matrix': jnp.full((1, 1), 2.0), 'norm': jnp.full(1, 2.0)}
  grads = {'matrix': jnp.full((1, 1), 3.0), 'norm': jnp.full(1, -4.0)}
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  np.testing.assert_allclose(updates['matrix'], -0.1 - 0.1 * 0.5 * 2, rtol=1e-5)
  np.testing.assert_allclose(updates['norm'], 0.1, rtol=1e-5)


def test_stacked_norms_do_not_decay():
  optimizer = train_state.make_optimizer(learning_rate=1.0, weight_decay=0.5)
  params = jax.tree.map(jnp.ones_like, examples.params())
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  # Without a gradient only decay moves: by 1 · 0.5 · 1.
  layers = updates.pop('layers')
  moved = {name for name, x in (layers | updates).items() if x.any()}
  assert all((x == -0.5).all() for x in (layers | updates).values() if x.any())
  matrices = 'embedding query key value out gate up down'
  assert moved == set(matrices.split())


def test_gradient_is_clipped_to_its_norm():
  # (3, 4) has norm 5; clipped to 1 it is (0.6, 0.8): the first moment after
  # one update is 1 - b1 = 0.1 of that.
  optimizer = train_state.make_optimizer(learning_rate=0.1)
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1)}
  grads = {'a': jnp.full(1, 3.0), 'b': jnp.full(1, 4.0)}
  _, state = optimizer.update(grads, optimizer.init(params), params)
  moments = jax.tree.leaves(state)
  found = sorted(float(x[0]) for x in moments if x.shape == (1,))[-2:]
  np.testing.assert_allclose(found, [0.06, 0.08], rtol=1e-5)


def test_state_is_sharded_from_the_start():
  mesh = examples.mesh(1, 2, 2)
  optimizer = train_state.make_optimizer(learning_rate=0.1)
  params = examples.params()
  state = train_state.init_train_state(examples.CONFIG, optimizer, mesh, params)
  abstract = train_state.abstract_train_state(examples.CONFIG, optimizer, mesh)
  leaves, wanted = jax.tree.leaves(state), jax.tree.leaves(abstract)
  assert len(leaves) == len(wanted)
  for leaf, want in zip(leaves, wanted, strict=True):
    assert (leaf.shape, leaf.dtype) == (want.shape, want.dtype)
    assert leaf.sharding == want.sharding
  # [1, 16, 24] over fsdp 2 and tensor 2: a quarter on each device, moments
  # too. Gate and up, each with two moments.
  stacks = [leaf for leaf in leaves if leaf.shape == (1, 16, 24)]
  assert len(stacks) == 2 * 3
  for stack in stacks:
    assert stack.addressable_shards[0].data.shape == (1, 8, 12)
  # The caller's arrays stay theirs when a step donates the state.
  jax.tree.map(lambda leaf: leaf.delete(), state)
  assert np.isfinite(params['embedding']).all()


def test_refuses_parameters_of_another_model():
  params = transformer.init_params(examples.CONFIG, jax.random.key(0))
  params['embedding'] = params['embedding'][:-1]
  with pytest.raises(ValueError, match='not those'):
    train_state.init_train_state(
      examples.CONFIG,
      train_state.make_optimizer(learning_rate=0.1),
      examples.mesh(),
      params,
    )
