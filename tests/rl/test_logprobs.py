import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.rl import logprobs

B, T, D, V = 2, 10, 4, 7


def _case():
  keys = jax.random.split(jax.random.key(0), 3)
  hidden = jax.random.normal(keys[0], (B, T, D))
  table = jax.random.normal(keys[1], (V, D))
  targets = jax.random.randint(keys[2], (B, T), 0, V)
  return hidden, table, targets


def _score(hidden, table, targets, chunk_len=T, **kwargs):
  return logprobs.token_logprobs(
    hidden,
    lambda h_BtD: jnp.einsum('BtD,VD->BtV', h_BtD, table),
    targets,
    chunk_len=chunk_len,
    **kwargs,
  )


@pytest.mark.parametrize('chunk_len', [3, 5, 10, 64])
@pytest.mark.parametrize('temperature', [1.0, 0.6])
def test_any_chunks_equal_numpy(chunk_len, temperature):
  hidden, table, targets = _case()
  logits = np.asarray(hidden, np.float64) @ np.asarray(table).T / temperature
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  at_target = np.take_along_axis(p, np.asarray(targets)[..., None], -1)[..., 0]
  got = _score(
    hidden, table, targets, chunk_len=chunk_len, temperature=temperature
  )
  np.testing.assert_allclose(got.logprobs, np.log(at_target), atol=1e-5)
  np.testing.assert_allclose(got.entropy, -(p * np.log(p)).sum(-1), atol=1e-5)
  np.testing.assert_array_equal(got.is_top, p.argmax(-1) == targets)


@pytest.mark.parametrize('entropy_grad', [True, False])
def test_any_chunks_have_equal_gradients(entropy_grad):
  hidden, table, targets = _case()

  def loss(hidden, table, chunk_len):
    scores = _score(
      hidden, table, targets, chunk_len, entropy_grad=entropy_grad
    )
    return jnp.sum(jnp.sin(scores.logprobs) + scores.entropy**2)

  def plain(hidden, table):
    logp = jax.nn.log_softmax(jnp.einsum('BTD,VD->BTV', hidden, table))
    target = jnp.take_along_axis(logp, targets[..., None], -1)[..., 0]
    entropy = -jnp.sum(jnp.exp(logp) * logp, axis=-1)
    if not entropy_grad:
      entropy = jax.lax.stop_gradient(entropy)
    return jnp.sum(jnp.sin(target) + entropy**2)

  expected = jax.grad(plain, (0, 1))(hidden, table)
  for chunk_len in (3, 10):
    got = jax.grad(loss, (0, 1))(hidden, table, chunk_len)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected
    )


# Asked for: none, some of each row (unevenly, not in order), all of one row.
@pytest.mark.parametrize('asked', ['0000000000', '0100110001', '1111111111'])
@pytest.mark.parametrize('entropy_grad', [True, False])
def test_only_what_is_asked_for_counts(asked, entropy_grad):
  hidden, table, targets = _case()
  asked_BT = jnp.array(
    [[c == '1' for c in asked], [c == '1' for c in '0010000000']]
  )

  def loss(hidden, table, asked_BT=None, chunk_len=T):
    scores = _score(
      hidden,
      table,
      targets,
      chunk_len,
      asked_BT=asked_BT,
      entropy_grad=entropy_grad,
    )
    value = jnp.sin(scores.logprobs) + scores.entropy**2 + scores.is_top
    return jnp.sum(jnp.where(mask_BT, value, 0.0))

  mask_BT = asked_BT
  grad = jax.value_and_grad(loss, (0, 1))
  got = grad(hidden, table, asked_BT, 3)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
    got,
    grad(hidden, table),
  )


def test_chunks_of_what_nobody_asks_for_are_not_computed():
  # Rows of 9 in chunks of 3; the longest row asks for 4, which fill 2 chunks.
  seen = []
  asked_BT = jnp.array(
    [[0, 1, 0, 0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0, 0]]
  )

  def unembed(hidden_BtD):
    jax.debug.callback(lambda: seen.append(hidden_BtD.shape))
    return hidden_BtD

  logprobs.token_logprobs(
    jnp.ones((2, 9, 4)),
    unembed,
    jnp.zeros((2, 9), jnp.int32),
    chunk_len=3,
    asked_BT=asked_BT > 0,
  )
  jax.effects_barrier()
  assert seen == [(2, 3, 4)] * 2


def test_truncated_distribution():
  # The sampler kept tokens 0 and 1 of logits ln 1, ln 3, ln 4: of (1/4, 3/4)
  # the target 1 has 3/4; entropy = -(1/4 ln 1/4 + 3/4 ln 3/4) = 0.562335.
  logits = jnp.log(jnp.array([1.0, 3.0, 4.0]))
  cut = jnp.where(jnp.arange(3) < 2, logits, -jnp.inf)[None, None]
  got = logprobs.score_logits(cut, jnp.ones((1, 1), jnp.int32))
  np.testing.assert_allclose(got.logprobs, np.log(0.75), rtol=1e-6)
  np.testing.assert_allclose(got.entropy, 0.562335, rtol=1e-5)
  grad = jax.grad(
    lambda x: logprobs.score_logits(
      x, jnp.ones((1, 1), jnp.int32)
    ).logprobs.sum()
  )(cut)
  # one-hot - p = (0 - 1/4, 1 - 3/4, 0).
  np.testing.assert_allclose(grad[0, 0], [-0.25, 0.25, 0], atol=1e-6)


def test_whole_logits_exist_nowhere():
  # 64 positions in chunks of 8: no array of 64 × V in the compiled program,
  # forward or backward.
  hidden, table = jnp.ones((1, 64, D)), jnp.ones((37, D))
  targets = jnp.zeros((1, 64), jnp.int32)

  def program(chunk_len):
    def loss(hidden, table):
      return _score(hidden, table, targets, chunk_len).logprobs.sum()

    return jax.jit(jax.grad(loss, (0, 1))).lower(hidden, table).as_text()

  assert '1x8x37xf32' in program(8) and '1x64x37xf32' in program(64)
  assert '1x64x37xf32' not in program(8)
  assert '8x1x8x37xf32' not in program(8)


def test_refuses():
  hidden, table, targets = _case()
  with pytest.raises(ValueError, match='chunk_len'):
    _score(hidden, table, targets, chunk_len=0)
  with pytest.raises(ValueError, match='temperature'):
    _score(hidden, table, targets, temperature=0.0)
