"""Steps: what is in flight between two of them, and who is served when."""

import numpy as np
import pytest

from tests.engine import helpers


def submit(engine, seed, length, max_tokens, **options):
  sequence = engine.open()
  sampling = helpers.plain(max_tokens, **options)
  engine.submit(sequence, helpers.prompt(seed, length), sampling, (seed,))
  return sequence


def alone(seed, length, max_tokens):
  return helpers.turn(
    helpers.make(),
    helpers.prompt(seed, length),
    helpers.plain(max_tokens),
    key=(seed,),
  )


@pytest.fixture
def calls(monkeypatch):
  """Per step of the engine, its calls to the device."""
  log = []

  def watch(engine):
    for name in ('read', 'sample'):
      real = getattr(engine._device, name)

      def call(chosen, name=name, real=real):
        served = {s.handle: n for shard in chosen for s, n in shard}
        log[-1].append((name, served))
        return real(chosen)

      monkeypatch.setattr(engine._device, name, call)
    step = engine.step

    def logged_step():
      log.append([])
      return step()

    monkeypatch.setattr(engine, 'step', logged_step)
    return log

  return watch


def test_a_step_takes_what_the_one_before_began(calls):
  engine = helpers.make()
  log = calls(engine)
  one, two = submit(engine, 1, 3, 5), submit(engine, 2, 3, 8)
  assert engine.step() == []
  ((ended, generation),) = engine.step()
  assert ended == one
  helpers.assert_same(generation, alone(1, 3, 5))
  # While the agent of the first is busy, the second goes on, for a short
  # chunk: 5 // 4 = 1 token. Then both sample together.
  engine.submit(one, helpers.prompt(3, 1), helpers.plain(2), (3,))
  assert engine.step() == []
  ended = dict(engine.step())
  assert set(ended) == {one, two}
  helpers.assert_same(ended[two], alone(2, 3, 8))
  sampled = [dict(step).get('sample') for step in log]
  assert sampled == [{one: 5, two: 5}, {two: 1}, {two: 2, one: 2}, None]
  assert engine.step() == []


def test_more_turns_than_rows_take_their_turn():
  engine = helpers.make()
  sequences = [submit(engine, seed, 2 + seed % 3, 6) for seed in range(11)]
  ended = helpers.run(engine, sequences)
  assert all(len(ended[s].token_ids) == 6 for s in sequences)


def test_rows_are_refilled_between_chunks(calls):
  engine = helpers.make()
  log = calls(engine)
  lengths = (2, 20, 20, 20, 20)
  first, *others, last = (
    submit(engine, seed, 3, n) for seed, n in enumerate(lengths)
  )
  helpers.run(engine, [first])
  # The fifth turn has the row of the first in the very step that returns it.
  assert dict(log[0])['sample'] == {first: 2} | dict.fromkeys(others, 5)
  assert dict(log[1])['sample'] == dict.fromkeys([*others, last], 1)


def test_a_long_prompt_does_not_hold_up_those_who_sample(calls):
  engine = helpers.make()
  sampling = [submit(engine, seed, 3, 40) for seed in range(3)]
  engine.step()
  log = calls(engine)
  # 41 tokens to read before the last, 4 a call, at most 4 calls a step.
  late = submit(engine, 9, 42, 3)
  ended = helpers.run(engine, [late])
  reads = [sum(name == 'read' for name, _ in step) for step in log]
  assert reads[:3] == [4, 4, 3]
  assert all(set(dict(step)['sample']) >= set(sampling) for step in log[:3])
  helpers.assert_same(ended[late], alone(9, 42, 3))


def test_prompts_are_read_at_once_while_few_sample(calls):
  engine = helpers.make()
  log = calls(engine)
  one, two = submit(engine, 1, 42, 3), submit(engine, 2, 42, 3)
  # Nobody waits for them: 11 calls, both in each.
  engine.step()
  reads = [who for name, who in log[0] if name == 'read']
  assert [sum(who.values()) for who in reads] == [8] * 10 + [2]
  ended = helpers.run(engine, [one, two])
  helpers.assert_same(ended[two], alone(2, 42, 3))


def test_closed_in_flight():
  """What is closed while it samples is dropped; its pages serve others."""
  engine = helpers.make()
  # 13 pages are left; the one to be closed holds 8 of them.
  hog = [engine._shards.queues[0].pool.allocate() for _ in range(48 - 13)]
  stays, goes = submit(engine, 1, 6, 19), submit(engine, 2, 26, 9)
  engine.step()
  engine.step()
  held = set(engine._shards.queues[0].sequences[goes].table.pages)
  assert len(held) == 8
  engine.close(goes)
  # The newcomer reads and samples right behind the chunk in flight.
  comes = submit(engine, 3, 26, 6)
  ended = dict(engine.step())
  assert held & set(engine._shards.queues[0].sequences[comes].table.pages)
  ended |= helpers.run(engine, {stays, comes} - set(ended))
  assert set(ended) == {stays, comes}
  helpers.assert_same(ended[stays], alone(1, 6, 19))
  helpers.assert_same(ended[comes], alone(3, 26, 6))
  engine.close(stays)
  engine.close(comes)
  assert helpers.held_pages(engine) == len(hog)


@pytest.mark.parametrize('max_tokens', [3, 9])
def test_all_closed_in_flight(max_tokens):
  """Whether the turn would have ended in that chunk, or gone on."""
  engine = helpers.make()
  engine.close(submit(engine, 1, 6, max_tokens))
  sequence = submit(engine, 2, 6, max_tokens)
  engine.step()
  engine.close(sequence)
  assert helpers.held_pages(engine) == 0
  assert engine.step() == engine.step() == []
  assert engine.stats().decode_tokens == 0
  again = submit(engine, 2, 6, 9)
  helpers.assert_same(helpers.run(engine, [again])[again], alone(2, 6, 9))


@pytest.mark.parametrize('max_tokens', [3, 9])
def test_new_weights_in_flight(max_tokens):
  """The chunk of the old weights touches nothing of the new ones."""
  engine = helpers.make()
  for seed in range(4):
    submit(engine, seed, 20, max_tokens)
  engine.step()
  engine.set_params(helpers.params(1))
  sequence = submit(engine, 5, 20, 9)
  assert engine.step() == []
  assert engine.stats().decode_tokens == 0
  generation = helpers.run(engine, [sequence])[sequence]
  np.testing.assert_allclose(
    generation.logprobs,
    helpers.recomputed(helpers.prompt(5, 20), generation, seed=1),
    atol=1e-4,
  )


def test_warm_up_in_flight():
  engine = helpers.make()
  sequence = submit(engine, 1, 6, 9)
  engine.step()
  engine.warm_up()
  helpers.assert_same(helpers.run(engine, [sequence])[sequence], alone(1, 6, 9))
