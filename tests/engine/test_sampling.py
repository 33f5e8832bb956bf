import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.engine import sampling

PROBS = np.array([0.1, 0.2, 0.3, 0.4])
# The middle of every thousandth of [0, 1): what is sampled over it are the
# probabilities themselves, to one thousandth.
GRID = (np.arange(1000) + 0.5) / 1000

jitted = jax.jit(sampling.sample)


def draw(logits_V, uniforms, temperature=1.0, top_k=0, top_p=1.0):
  """Samples once for each uniform; always [1000, 64], so compiled once."""
  logits = np.full((1000, 64), -np.inf, np.float32)
  logits[:, : len(logits_V)] = logits_V
  tokens, logprobs = jitted(
    logits,
    np.full(1000, temperature, np.float32),
    np.full(1000, top_k, np.int32),
    np.full(1000, top_p, np.float32),
    np.resize(uniforms, 1000).astype(np.float32),
  )
  return np.asarray(tokens)[: len(uniforms)], np.asarray(logprobs)[
    : len(uniforms)
  ]


def shares(tokens, size=4):
  return np.bincount(tokens, minlength=size) / len(tokens)


def test_inverse_of_the_cumulative_distribution():
  # Steps of the cumulative sum: 0.1, 0.3, 0.6, 1.
  tokens, logprobs = draw(np.log(PROBS), [0.0, 0.09, 0.11, 0.59, 0.61, 0.999])
  assert tokens.tolist() == [0, 0, 1, 2, 3, 3]
  np.testing.assert_allclose(logprobs, np.log(PROBS[tokens]), atol=1e-6)


def test_temperature_flattens():
  # At temperature 2 probabilities go with the square root.
  expected = np.sqrt(PROBS) / np.sqrt(PROBS).sum()
  tokens, logprobs = draw(np.log(PROBS), GRID, temperature=2.0)
  np.testing.assert_allclose(shares(tokens), expected, atol=1.1e-3)
  np.testing.assert_allclose(logprobs, np.log(expected[tokens]), atol=1e-6)


@pytest.mark.parametrize(
  ('top_k', 'top_p', 'expected'),
  [
    (2, 1.0, [0, 0, 3 / 7, 4 / 7]),
    # Before each token, likeliest first: 0, 0.4, 0.7, 0.9.
    (0, 0.65, [0, 0, 3 / 7, 4 / 7]),
    (0, 0.75, [0, 2 / 9, 3 / 9, 4 / 9]),
    # Top-k first: of 4/9, 3/9, 2/9 the first two hold 7/9 > 0.75.
    (3, 0.75, [0, 0, 3 / 7, 4 / 7]),
    (0, 0.01, [0, 0, 0, 1]),
    (9, 1.0, PROBS),
  ],
)
def test_filters_by_hand(top_k, top_p, expected):
  tokens, logprobs = draw(np.log(PROBS), GRID, top_k=top_k, top_p=top_p)
  np.testing.assert_allclose(shares(tokens), expected, atol=1.1e-3)
  taken = np.asarray(expected)[tokens]
  np.testing.assert_allclose(logprobs, np.log(taken), atol=1e-6)


def test_equals_are_kept_by_token_id():
  tokens, _ = draw([1.0, 1.0, 1.0, 1.0], GRID, top_k=2)
  assert set(tokens.tolist()) == {0, 1}


def test_temperature_zero_takes_the_likeliest():
  tokens, logprobs = draw([0.0, 2.0, 2.0, -1.0], GRID[::100], temperature=0.0)
  assert set(tokens.tolist()) == {1}
  np.testing.assert_array_equal(logprobs, 0.0)


def test_tokens_without_mass_are_never_taken():
  logits = np.full(64, -np.inf)
  logits[[5, 40]] = 0.0
  edge = np.float32(1) - np.float32(2**-24)
  tokens, logprobs = draw(logits, [0.0, 0.5, edge, *GRID[:61]])
  assert set(tokens.tolist()) == {5, 40}
  np.testing.assert_allclose(logprobs, np.log(0.5), atol=1e-6)


def test_random_filters_against_numpy():
  random = np.random.default_rng(0)
  for _ in range(20):
    logits = random.normal(size=50).astype(np.float32) * 3
    top_k = int(random.integers(1, 50))
    top_p = float(random.uniform(0.05, 1.0))
    temperature = float(random.uniform(0.3, 2.0))
    order = np.argsort(-logits, kind='stable')[:top_k]
    probs = np.exp(logits[order].astype(np.float64) / temperature)
    probs /= probs.sum()
    keep = np.cumsum(probs) - probs < top_p
    expected = np.zeros(50)
    expected[order[keep]] = probs[keep] / probs[keep].sum()
    tokens, logprobs = draw(logits, GRID, temperature, top_k, top_p)
    np.testing.assert_allclose(shares(tokens, 50), expected, atol=1.1e-3)
    np.testing.assert_allclose(logprobs, np.log(expected[tokens]), atol=1e-4)


def test_a_neighbour_with_filters_changes_no_bit():
  random = np.random.default_rng(1)
  logits = random.normal(size=(1000, 64)).astype(np.float32)
  ones, none = np.ones(1000, np.float32), np.zeros(1000, np.int32)
  uniforms = random.uniform(size=1000).astype(np.float32)
  odd = np.arange(1000) % 2
  alone = jitted(logits, ones, none, ones, uniforms)
  beside = jitted(
    logits, ones, np.int32(5 * odd), np.float32(1 - odd / 2), uniforms
  )
  for before, after in zip(alone, beside, strict=True):
    np.testing.assert_array_equal(before[::2], after[::2])
  assert (alone[1][1::2] != beside[1][1::2]).all()


def test_every_number_of_the_address_counts():
  address = (1, 23, 4, 5, 6, 7)
  changed = [
    (*address[:i], address[i] + 1, *address[i + 1 :]) for i in range(6)
  ]
  addresses = [address, *changed, (12, 3, 4, 5, 6, 7), (1, 23, 4, 5, 6)]
  keys = {sampling.address_key(a).tobytes() for a in addresses}
  assert len(keys) == len(addresses)
  again = sampling.address_key(tuple(np.int64(n) for n in address))
  np.testing.assert_array_equal(again, sampling.address_key(address))
  assert again.dtype == np.uint32 and again.shape == (2,)


def test_uniforms_depend_on_key_and_index_alone():
  keys = np.stack([sampling.address_key((i,)) for i in range(400)])
  uniforms = jax.jit(sampling.token_uniforms)
  many = np.asarray(uniforms(keys, jnp.zeros(400, jnp.int32)))
  # Standard error of the mean of 400: sqrt(1/12) / 20 = 0.0144.
  assert many.min() >= 0 and many.max() < 1
  assert abs(many.mean() - 0.5) < 4 * 0.0144
  turned = uniforms(keys[::-1], jnp.zeros(400, jnp.int32))
  np.testing.assert_array_equal(turned[::-1], many)
  later = uniforms(keys, jnp.ones(400, jnp.int32))
  assert len(np.unique(np.concatenate([many, later]))) > 790
