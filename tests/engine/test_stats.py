"""What the engine says of itself, counted by hand."""

import dataclasses
import time

import pytest

from tests.engine import helpers
from wideseek_jax.engine import stats as stats_lib


def test_nothing_done():
  stats = stats_lib.Meter().stats(compile_count=3)
  assert stats == stats_lib.Stats(compile_count=3)
  assert stats.recompute_ratio == 1.0
  assert stats.row_occupancy == stats.decode_tokens_per_s == 0.0


def test_rates_and_shares():
  meter = stats_lib.Meter(
    prefill_tokens=60,
    decode_tokens=40,
    recomputed_tokens=20,
    prefill_seconds=2.0,
    decode_seconds=5.0,
    row_steps=160,
    page_chunks=50,
    held_page_chunks=10,
  )
  stats = meter.stats(0)
  assert stats.prefill_tokens_per_s == 30
  assert stats.decode_tokens_per_s == 8
  assert stats.recompute_ratio == 1.25  # 100 forwarded, 80 distinct
  assert stats.row_occupancy == 0.25
  assert stats.page_occupancy == 0.2
  meter.reset()
  assert meter == stats_lib.Meter()


def test_one_turn_by_hand():
  engine = helpers.make()
  helpers.turn(engine, helpers.prompt(1, 6), helpers.plain(9))
  stats = engine.stats()
  # 5 tokens are read, the sixth when sampling begins.
  assert stats.prefill_tokens == 5
  assert stats.decode_tokens == 9
  # One of four rows, for 5 and then for 4 steps.
  assert stats.row_occupancy == 9 / (4 * 9)
  # Chunks that reach up to token 10 and up to token 14: 3 and 4 of 48 pages.
  assert stats.page_occupancy == (3 + 4) / (2 * 48)
  assert stats.recompute_ratio == 1.0
  engine.reset_stats()
  assert engine.stats() == stats_lib.Stats(compile_count=engine.compile_count)


def test_seconds_add_up():
  engine = helpers.make()
  helpers.turn(engine, helpers.prompt(1, 6))  # compiled
  engine.reset_stats()
  start = time.perf_counter()
  helpers.turn(engine, helpers.prompt(2, 30), helpers.plain(16))
  wall = time.perf_counter() - start
  stats = engine.stats()
  for name in ('prefill', 'decode', 'host', 'wait'):
    assert 0 < getattr(stats, f'{name}_seconds') < wall
  assert stats.host_seconds + stats.wait_seconds <= wall
  assert stats.prefill_seconds + stats.decode_seconds <= wall
  # What is waited for is device time.
  assert stats.wait_seconds <= stats.prefill_seconds + stats.decode_seconds
  assert stats.prefill_tokens_per_s == pytest.approx(29 / stats.prefill_seconds)
  assert stats.decode_tokens_per_s == pytest.approx(16 / stats.decode_seconds)


def test_tokens_that_come_back_are_counted_as_recomputed():
  engine = helpers.make()
  # 13 pages are left, as many as one long sequence needs with its copy.
  for _ in range(48 - 13):
    engine._shards.queues[0].pool.allocate()
  first = helpers.prompt(1, 17)
  helpers.turn(engine, first, helpers.plain(1), sequence=engine.open())
  assert engine.stats().recompute_ratio == 1.0
  # 48 tokens take 12 pages: of those of the first, who waits for its tools,
  # only the beginning is left.
  helpers.turn(engine, helpers.prompt(2, 44), helpers.plain(4))
  assert engine.stats().preemptions == 1
  before = engine.stats()
  # Of the same 17 tokens 4 are found and 12 read again, in 3 full pages.
  engine.close(1)
  helpers.turn(engine, first, helpers.plain(1))
  after = engine.stats()
  assert after.shared_tokens - before.shared_tokens == 4
  assert after.prefill_tokens - before.prefill_tokens == 12
  assert after.recomputed_tokens - before.recomputed_tokens == 12
  forwarded = after.prefill_tokens + after.decode_tokens
  assert after.recompute_ratio == forwarded / (forwarded - 12)


def test_every_field_is_a_number():
  # The training loop logs each of them as a float.
  stats = helpers.make().stats()
  assert all(
    isinstance(value, (int, float))
    for value in dataclasses.asdict(stats).values()
  )
