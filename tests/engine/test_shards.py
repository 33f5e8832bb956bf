"""Which data shard serves a sequence, and which row a turn gets."""

import pytest

from tests.engine import helpers
from wideseek_jax.engine import memory, sequences, shards, stats


def make(num_rows=4, num_pages=16):
  plan = memory.Plan(num_rows, num_pages, 4, 2, 0, 0, 0, None)
  return shards.Shards(plan, 48, stats.Meter())


def place(made, tokens):
  """Opens a sequence and computes its tokens; tells the shard's number."""
  handle = made.open()
  home = made.place(handle, tokens)
  state = home.sequences[handle]
  state.append(tokens)
  state.table.match(tokens)
  state.table.reserve(len(tokens))
  state.table.advance(len(tokens) - state.table.length)
  state.table.publish(tokens)
  return made.queues.index(home), handle


def test_strangers_go_where_fewer_are():
  made = make()
  homes = [place(made, helpers.prompt(seed, 3))[0] for seed in range(4)]
  assert homes == [0, 1, 0, 1]
  # The second left: its shard has fewer.
  made.close(1)
  assert place(made, helpers.prompt(9, 3))[0] == 1


def test_relatives_go_where_their_prefix_is():
  made = make()
  tokens = helpers.prompt(0, 10)
  assert place(made, helpers.prompt(1, 3))[0] == 0
  assert place(made, tokens)[0] == 1
  # Two full pages and a token of the third agree.
  assert made.queues[1].pool.known(tokens[:9]) == 9
  assert made.queues[0].pool.known(tokens[:9]) == 0
  assert place(made, tokens[:9])[0] == 1
  # Neither rows nor pages for one more: then with the strangers.
  full = make(num_pages=10)
  assert place(full, tokens)[0] == 0
  assert not full.queues[0].has_room(9)
  assert place(full, tokens[:9])[0] == 1


def test_no_room_without_a_row():
  made = make(num_rows=2)
  tokens = helpers.prompt(0, 6)
  home, handle = place(made, tokens)
  queue = made.queues[home]
  assert queue.has_room(1)
  queue.active[handle] = queue.sequences[handle]
  assert not queue.has_room(1)


def test_handles_and_pages_are_accounted_for():
  made = make()
  with pytest.raises(ValueError, match='there is no sequence 0'):
    made.home(0)
  empty = made.open()
  assert made.home(empty) is None
  made.close(empty)
  with pytest.raises(ValueError, match='sequence 0 is closed'):
    made.close(empty)
  _, handle = place(made, helpers.prompt(0, 9))
  assert made.held_pages == 3
  made.clear()
  assert made.held_pages == 0
  with pytest.raises(ValueError, match='sequence 1 was closed by set_params'):
    made.home(handle)
  assert made.open() == 2


def test_each_shard_has_a_block_of_rows():
  found = dict(sequences.numbered([['a', 'b'], [], ['c']], 6))
  assert found == {0: 'a', 1: 'b', 4: 'c'}
  assert list(sequences.numbered([], 6)) == []
