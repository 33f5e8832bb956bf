"""The planner's arithmetic, by pencil."""

import jax
import jax.numpy as jnp
import pytest

from tests.engine import helpers
from wideseek_jax import sharding
from wideseek_jax.engine import gathered, kernels, memory
from wideseek_jax.models import config as model_config

QWEN3_4B = model_config.ModelConfig(
  vocab_size=151_936,
  embed_dim=2560,
  mlp_dim=9728,
  num_layers=36,
  num_heads=32,
  num_kv_heads=8,
  head_dim=128,
)


def mesh(tensor=1, data=1):
  count = tensor * data
  return sharding.make_mesh(jax.devices()[:count], data=data, tensor=tensor)


def small(budget, on=None, how=gathered.REFERENCE, **changes):
  sizes = {
    'dtype': jnp.float32,
    'num_rows': 4,
    'num_pages': 48,
    'page_size': 4,
    'max_context': 48,
    'prefill_len': 4,
    'prefill_rows': 3,
  }
  return memory.plan(
    helpers.CONFIG, on or mesh(), how, budget=budget, **(sizes | changes)
  )


def large(budget, tensor=1, **changes):
  sizes = {
    'dtype': jnp.bfloat16,
    'num_rows': 0,
    'num_pages': 0,
    'page_size': 64,
    'max_context': 32_768,
    'prefill_len': 128,
    'prefill_rows': 8,
  }
  return memory.plan(
    QWEN3_4B, mesh(tensor), kernels.RAGGED, budget=budget, **(sizes | changes)
  )


def test_a_small_model_by_hand():
  found = small(None)
  # A layer: norms 2·16 + 2·4, query and out 2·16·4·4, key and value 2·16·2·4,
  # MLP 3·16·16 = 1576. Two of them, the embedding 32·16, the last norm 16.
  assert found.weight_bytes == 4 * (2 * 1576 + 32 * 16 + 16) == 14_720
  # Keys and values, 2 layers, 4 tokens, 2 heads of 4, 4 bytes.
  assert found.page_bytes == 2 * 2 * 4 * 2 * 4 * 4 == 512
  # Prefill is the larger call: 3 rows read 4 tokens and see 48 + 4.
  context = 2 * 2 * 3 * 2 * 4 * 52 * 4
  scores = 2 * 3 * 4 * 4 * 52 * 4
  layer = 3 * 4 * (2 * 16 + (4 + 2 * 2) * 4 + 2 * 16) * 4
  assert found.call_bytes == context + scores + layer == 44_544
  assert found.pool_bytes == 49 * 512  # one page is scratch
  assert found.total_bytes == 14_720 + 25_088 + 44_544 == 84_352
  # Decoding is, where pages are read in place: 4 rows, 8 arrays of 32 logits.
  layer = 4 * (2 * 16 + (4 + 2 * 2) * 4 + 2 * 16) * 4
  vocab = 8 * 4 * 32 * 4
  found = small(None, how=kernels.RAGGED, prefill_len=1)
  assert found.call_bytes == layer + vocab == 5_632


def test_pages_fill_what_is_left():
  assert small(84_352, num_pages=0).num_pages == 48
  assert small(84_351, num_pages=0).num_pages == 47
  # Four rows fill 4·12 pages; as many again are for those who wait.
  assert small(10**9, num_pages=0).num_pages == 96


def test_rows_are_those_that_pages_can_fill():
  # Four rows half full: 24 pages and the scratch page.
  least = 14_720 + 25 * 512 + 44_544
  assert least == 72_064
  found = small(least, num_rows=0, num_pages=0)
  assert (found.num_rows, found.num_pages) == (4, 24)
  # With less, two rows: 2 · 14,848 for a prefill call leaves 53 pages, of
  # which two rows and their like can use 48.
  found = small(least - 1, num_rows=0, num_pages=0)
  assert (found.num_rows, found.num_pages) == (2, 48)
  assert small(10**9, num_rows=0, num_pages=0).num_rows == memory.MAX_ROWS
  # 48 pages are 8 rows half full.
  assert small(10**9, num_rows=0).num_rows == 8


def test_what_cannot_fit_is_refused_with_the_arithmetic():
  # One row: 13 pages (a sequence of 12, one to copy) and the scratch page.
  least = 14_720 + 14 * 512 + 14_848
  found = small(least, num_rows=0, num_pages=0)
  assert (found.num_rows, found.num_pages) == (1, 13)
  with pytest.raises(ValueError) as error:
    small(least - 1, num_rows=0, num_pages=0)
  assert str(error.value) == (
    'the engine does not fit: 1 rows, 13 pages of 4 tokens; a device takes '
    'weights 14.72 kB + pages 14 x 512 B + calls 14.85 kB = 36.74 kB of '
    '36.73 kB (one sequence of max_context=48 takes 12 pages)'
  )
  with pytest.raises(ValueError, match=r'84\.35 kB of 84\.35 kB'):
    small(84_351)
  assert small(84_352).total_bytes == 84_352


def test_tensor_parallel_shares_by_hand():
  found = small(None, mesh(tensor=2))
  # Norms are whole on both devices, all else is halved.
  assert found.weight_bytes == 4 * (2 * (40 + 1536 // 2) + 512 // 2 + 16)
  assert found.page_bytes == 256


def test_data_shards_by_hand():
  # Two of four rows and half the pages each, with all weights.
  halved = small(None, mesh(data=2), num_pages=49, prefill_rows=4)
  whole = small(None, prefill_rows=4)
  assert halved.weight_bytes == whole.weight_bytes
  assert halved.page_bytes == whole.page_bytes
  assert 2 * halved.call_bytes == whole.call_bytes
  assert (halved.num_pages, halved.pool_bytes) == (48, 25 * 512)
  # What one device can hold, twice; each shard is planned like the whole.
  alone = small(84_352, num_rows=0, num_pages=0)
  found = small(84_352, mesh(data=2), num_rows=0, num_pages=0, prefill_rows=6)
  assert found.num_rows == 2 * alone.num_rows
  assert found.num_pages == 2 * alone.num_pages
  with pytest.raises(ValueError, match='no multiple of the 2 data shards'):
    small(None, mesh(data=2), num_rows=3)
  # A sequence lies in one shard: 13 pages there, not in all.
  with pytest.raises(ValueError, match='12 pages of 4 tokens cannot hold'):
    small(None, mesh(data=2), num_pages=25)


def test_qwen3_4b_by_hand():
  found = large(72 * 10**9)
  # A layer: query and out 2·2560·4096, key and value 2·2560·1024, MLP
  # 3·2560·9728, norms 2·2560 + 2·128 = 100,930,816.
  layers = 36 * 100_930_816
  embedding = 151_936 * 2560
  assert found.weight_bytes == 2 * (layers + embedding + 2560)
  assert found.weight_bytes == 8_044_936_192
  # 147,456 bytes a token.
  assert found.page_bytes == 64 * 2 * 36 * 8 * 128 * 2 == 9_437_184
  # 32 rows half full would be 8,192 pages; 16 rows it is. Their logits, eight
  # times, and 16 · (2·2560 + 48·128 + 2·9728) activations of 2 bytes.
  assert found.num_rows == 16
  assert found.call_bytes == 8 * 16 * 151_936 * 4 + 16 * 30_720 * 2
  # 72 GB - 8.045 GB - 0.079 GB = 6768 pages, one of them scratch.
  assert found.num_pages == 6767
  assert str(found) == (
    '16 rows, 6,767 pages of 64 tokens; a device takes weights 8.04 GB + '
    'pages 6,768 x 9.44 MB + calls 78.77 MB = 71.99 GB of 72.00 GB'
  )
  # As many rows as one likes, if they share prompts or are short.
  assert large(72 * 10**9, num_rows=64).num_pages == 6742


def test_qwen3_4b_on_four_chips():
  found = large(14 * 10**9, tensor=4)
  # Norms: 36 · 5376 + 2560; all else by four.
  norms = 36 * 5376 + 2560
  assert found.weight_bytes == 2 * ((4_022_468_096 - norms) // 4 + norms)
  assert found.page_bytes == 9_437_184 // 4
  with pytest.raises(ValueError, match=r'weights 8\.04 GB .* of 12\.00 GB'):
    large(12 * 10**9)  # 410 pages, and one sequence takes 512


def test_the_engine_plans_and_says_so():
  engine = helpers.make(num_rows=0, num_pages=0, memory_bytes=72_064)
  assert (engine.plan.num_rows, engine.plan.num_pages) == (4, 24)
  assert str(engine.plan).startswith('4 rows, 24 pages of 4 tokens; ')
  shapes = {pages.shape for layer in engine._device._pages for pages in layer}
  assert shapes == {(25, 4, 2, 4)}
  with pytest.raises(ValueError, match='the engine does not fit'):
    helpers.make(memory_bytes=80_000)


def test_an_unknown_memory_is_not_guessed():
  assert memory.device_budget(mesh()) is None  # CPU does not tell
  with pytest.raises(ValueError, match='set memory_bytes, or both'):
    helpers.make(num_pages=0)
  assert 'of' not in str(small(None)).split('=')[1]


def test_a_budget_leaves_some_of_what_is_free():
  class FakeDevice:
    def __init__(self, limit, used):
      self._stats = {'bytes_limit': limit, 'bytes_in_use': used}

    def memory_stats(self):
      return self._stats

  class FakeMesh:
    local_devices = (FakeDevice(1000, 100), FakeDevice(1000, 300))

  assert memory.device_budget(FakeMesh()) == 630  # 0.9 · 700
