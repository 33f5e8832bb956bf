"""The kernels against the gather reference, page by page and as engines.

The TPU kernel is replaced by an oracle of its contract here, the GPU kernel is
interpreted; on a TPU or GPU the last test runs the real ones.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu import ragged_paged_attention as ragged

from tests.engine import ragged_oracle
from wideseek_jax import sharding, types
from wideseek_jax.engine import attention, engine, gathered, kernels
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

K, N, H, PAGE, P = 2, 4, 128, 16, 12
CONFIG = model_config.ModelConfig(
  vocab_size=32,
  embed_dim=16,
  mlp_dim=16,
  num_layers=2,
  num_heads=N,
  num_kv_heads=K,
  head_dim=H,
)


@pytest.fixture(params=['ragged', 'triton'])
def how(request, monkeypatch):
  """An implementation that runs on this CPU, under a name of its own."""
  if request.param == 'ragged':
    oracle = ragged_oracle.ragged_paged_attention
    monkeypatch.setattr(ragged, 'ragged_paged_attention', oracle)
    attend = kernels.ragged_attend
  else:
    attend = functools.partial(kernels.triton_attend, interpret=True)
    # The 3 pages of a row are one block and a half.
    monkeypatch.setattr(kernels, 'BLOCK_KEYS', 2 * PAGE)
  stand_in = dataclasses.replace(
    kernels.IMPLEMENTATIONS[request.param],
    name='stand-in',
    attend=attend,
  )
  monkeypatch.setitem(kernels.IMPLEMENTATIONS, 'stand-in', stand_in)
  return stand_in


def to_pages(how, k_PSKH, v_PSKH):
  """The same keys and values in the layout of an implementation."""
  if how.page_axes[0] == 'kv_heads':
    return k_PSKH.transpose(2, 0, 1, 3), v_PSKH.transpose(2, 0, 1, 3)
  if len(how.page_shapes(P, PAGE, K, H)) == 2:
    return k_PSKH, v_PSKH
  kv_PSKIH = jnp.stack([k_PSKH, v_PSKH], axis=3)
  return (kv_PSKIH.reshape(P, PAGE, -1, H),)


def call(how, layer, tables, new):
  """One device call of one layer: (what attention says, the pages after)."""

  @jax.jit
  def run(pages, tables, q, k, v):
    positions_RT = tables.start_R[:, None] + jnp.arange(q.shape[1])[None]
    cache = how.open(pages, tables)
    out, mine = how.attend(q, k, v, cache[0], positions_RT, tables)
    return out, how.close(pages, (mine,), tables)[0]

  return run((layer,), tables, *new)


# Row 0 begins, row 1 goes on in its own page 4, row 2 leaves the page 7 of
# another at its fifth token and copies it to page 8; row 3 is idle.
TABLES = attention.RowTables(
  read_RN=np.int32([[1, 2, 0], [3, 4, 5], [7, 9, 0], [0, 0, 0]]),
  write_RW=np.int32([[1, 2, 0], [4, 5, 0], [8, 9, 0], [0, 0, 0]]),
  start_R=np.int32([0, PAGE + 3, 5, 0]),
)


def random_call(T, dtype=jnp.float32):
  """((k_pages, v_pages), (queries, new keys, new values)) for TABLES."""
  random = np.random.default_rng(T)

  def normal(*shape):
    return jnp.asarray(random.normal(size=shape), dtype)

  pages = normal(P, PAGE, K, H), normal(P, PAGE, K, H)
  return pages, (normal(4, T, N, H), normal(4, T, K, H), normal(4, T, K, H))


def test_the_oracle_is_the_reference_that_ships_with_the_kernel():
  random = np.random.default_rng(0)
  q = jnp.float32(random.normal(size=(8, N, H)))
  kv_pages = jnp.float32(random.normal(size=(P, PAGE, 2 * K, H)))
  table = jnp.int32(random.permutation(P)[:8].reshape(2, 4))
  lens, starts = jnp.int32([64, 21]), jnp.int32([0, 1, 8])
  arguments = (q, kv_pages, lens, table, starts, jnp.int32([2]))
  expected = ragged.ref_ragged_paged_attention(*arguments, sm_scale=0.3)
  blocks = {'num_kv_pages_per_block': 2, 'num_queries_per_block': 4}
  found = ragged_oracle.ragged_paged_attention(
    *arguments, sm_scale=0.3, **blocks
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


def owned(how, pages):
  """The pages without scratch, the first of them first."""
  return np.float32(np.moveaxis(pages, how.page_axes.index('pages'), 0))[1:]


def check_against_reference(how, T, dtype):
  before, new = random_call(T, dtype)
  expected, after = call(gathered.REFERENCE, before, TABLES, new)
  found, pages = call(how, to_pages(how, *before), TABLES, new)
  tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
  np.testing.assert_allclose(
    np.float32(found[:3]), np.float32(expected[:3]), atol=tolerance
  )
  # Every page but scratch is the same, to the bit: those untouched, the one
  # copied, and the one that it was copied from.
  for ours, theirs in zip(pages, to_pages(how, *after), strict=True):
    np.testing.assert_array_equal(owned(how, ours), owned(how, theirs))


@pytest.mark.parametrize(
  ('T', 'dtype'),
  [(T, dtype) for T in (1, 20) for dtype in (jnp.float32, jnp.bfloat16)],
)
def test_a_kernel_is_the_reference(how, T, dtype):
  check_against_reference(how, T, dtype)


@pytest.mark.device
@pytest.mark.parametrize('T', [1, 20])
def test_the_real_kernel_is_the_reference(T):
  platform = jax.default_backend()
  if platform == 'cpu':
    pytest.skip('no TPU or GPU; WIDESEEK_TEST_PLATFORM=tpu pytest -m device')
  real = kernels.choose('auto', platform, H, PAGE)
  assert real is not gathered.REFERENCE
  check_against_reference(real, T, jnp.bfloat16)


# 4 query heads and 2 kv heads on 2 devices: one kv head each; on 4: every kv
# head twice; on 8: all heads everywhere.
@pytest.mark.parametrize(
  ('how', 'tensor', 'copies'),
  [('ragged', 2, 1), ('ragged', 4, 2), ('ragged', 8, 1), ('triton', 4, 2)],
  indirect=['how'],
)
def test_heads_lie_apart_on_a_mesh(how, tensor, copies):
  mesh = sharding.make_mesh(jax.devices()[:tensor], tensor=tensor)
  assert attention.head_layout(mesh, CONFIG)[1] == copies
  before, new = random_call(1)
  expected, after = call(gathered.REFERENCE, before, TABLES, new)

  def repeated(x_PSKH):
    return jnp.repeat(x_PSKH, copies, axis=2)

  found, pages = call(
    attention.on_mesh(how, mesh, CONFIG),
    to_pages(how, *map(repeated, before)),
    TABLES,
    new,
  )
  np.testing.assert_allclose(found[:3], expected[:3], atol=1e-5)
  shapes = attention.page_shapes(how, mesh, CONFIG, P - 1, PAGE, jnp.float32)
  wanted = to_pages(how, *map(repeated, after))
  for ours, theirs, shape in zip(pages, wanted, shapes[0], strict=True):
    np.testing.assert_array_equal(owned(how, ours), owned(how, theirs))
    assert ours.shape == shape.shape
    # A device holds the kv heads it reads, or all where heads are not dealt.
    held = shape.sharding.shard_shape(shape.shape)
    parts = 1 if tensor == 8 else tensor
    assert np.prod(held) * parts == np.prod(shape.shape)


def make(attention_name, params, **sizes):
  return engine.Engine(
    CONFIG,
    params,
    num_rows=3,
    page_size=PAGE,
    chunk_len=4,
    prefill_len=PAGE,
    prefill_rows=2,
    attention=attention_name,
    **sizes,
  )


def generate(attention_name, params):
  """Turns of sequences that share, part inside a page and lose their pages."""
  made = make(attention_name, params, num_pages=9, max_context=96)
  prompt = np.random.default_rng(0).integers(0, 32, 40).astype(np.int32)
  ended = []
  group = [made.open() for _ in range(4)]
  for turn in range(2):
    for index, sequence in enumerate(group):
      # The first 2 share 40 tokens, the others part from them inside a page.
      tokens = prompt[: 40 - 3 * max(0, index - 1)] if turn == 0 else prompt[:5]
      sampling = types.Sampling(max_tokens=7 + index)
      made.submit(sequence, tokens, sampling, (index, turn))
    waiting = set(group)
    while waiting:
      for sequence, generation in made.step():
        waiting.remove(sequence)
        ended.append((sequence, generation))
  return made.stats(), ended


@pytest.fixture(scope='module')
def reference():
  params = transformer.init_params(CONFIG, jax.random.key(0))
  return params, *generate('reference', params)


def test_an_engine_samples_the_same(how, reference):
  params, stats, expected = reference
  found_stats, found = generate('stand-in', params)
  assert stats.shared_tokens > 2 * 32 and stats.preemptions > 0
  assert found_stats.shared_tokens == stats.shared_tokens
  assert found_stats.preemptions == stats.preemptions
  assert len(found) == len(expected) == 8
  for (sequence, ours), (other, theirs) in zip(found, expected, strict=True):
    assert sequence == other
    np.testing.assert_array_equal(ours.token_ids, theirs.token_ids)
    np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)


@pytest.mark.parametrize(
  ('how', 'count'),
  # The TPU kernel: chunks of 1 and 3 rows, reads of 1 and 2. The GPU kernel:
  # chunks for 128 and 256 tokens of context, reads for 256.
  [
    ('ragged', 2 + 2),
    pytest.param('triton', 2 * 2 + 1 * 2, marks=pytest.mark.slow),
  ],
  indirect=['how'],
)
def test_widths_are_compiled_where_they_cost(how, count):
  params = transformer.init_params(CONFIG, jax.random.key(0))
  made = make(how.name, params, num_pages=40, max_context=256)
  assert made.warm_up() == count
  sequence = made.open()
  for length in (5, 200):
    prompt = np.full(length, 1, np.int32)
    made.submit(sequence, prompt, types.Sampling(max_tokens=3), (0,))
    while not made.step():
      pass
  assert made.compile_count == count


def test_choice():
  choose = functools.partial(kernels.choose, head_dim=128, page_size=64)
  assert choose('auto', 'cpu') is gathered.REFERENCE
  assert choose('auto', 'tpu') is kernels.RAGGED
  assert choose('auto', 'gpu') is kernels.TRITON
  assert choose('ragged', 'cpu') is kernels.RAGGED
  assert choose('reference', 'tpu') is gathered.REFERENCE
  # Where a kernel cannot serve, 'auto' does without, its own name does not.
  assert kernels.choose('auto', 'tpu', 64, 64) is gathered.REFERENCE
  assert kernels.choose('auto', 'gpu', 128, 48) is gathered.REFERENCE
  with pytest.raises(ValueError, match='head_dim=64 is no multiple of 128'):
    kernels.choose('ragged', 'tpu', 64, 64)
  with pytest.raises(ValueError, match='page_size=48 is no power of two'):
    kernels.choose('triton', 'gpu', 128, 48)
  with pytest.raises(ValueError, match="no attention 'splash'; there are"):
    choose('splash', 'tpu')


def test_the_gpu_kernel_lowers_for_cuda():
  # What Triton refuses (block sizes, types) is refused here already. For TPU
  # see test_ahead: Mosaic wants to know the chip.
  def shape(*sizes, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(sizes, dtype)

  integers = functools.partial(shape, dtype=jnp.int32)
  pages = tuple(
    shape(*sizes) for sizes in kernels.TRITON.page_shapes(100, 64, 8, 128)
  )
  lowered = (
    jax.jit(kernels.TRITON.attend)
    .trace(
      shape(64, 1, 32, 128),
      shape(64, 1, 8, 128),
      shape(64, 1, 8, 128),
      pages,
      integers(64, 1),
      attention.RowTables(integers(64, 24), integers(64, 2), integers(64)),
    )
    .lower(lowering_platforms=('cuda',))
  )
  assert 'xla.gpu.triton' in lowered.as_text()
