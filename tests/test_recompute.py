"""No token is computed twice: real agents over the real engine.

A script writes the turns, so that the agents do all that trained ones would;
the engine behind it reads what they submit and samples turns as long as the
script's.
"""

import dataclasses

from wideseek_jax import testing
from wideseek_jax.agents import expert, rollout
from wideseek_jax.engine import engine as engine_lib


class MirroredEngine:
  """What agents see comes from a script, what it costs from a real engine.

  Attributes:
    read: for each sequence, (token, unique) in order; unique is None for a
      submitted token and some value of its own for a sampled one.
  """

  def __init__(self, scripted, real):
    self.max_context = real.max_context
    self.read = {}
    self._scripted, self._real = scripted, real
    self._pairs = {}
    self._turns = {}

  def open(self):
    sequence = self._real.open()
    self._pairs[sequence] = self._scripted.open()
    self.read[sequence] = []
    return sequence

  def submit(self, sequence, token_ids, sampling, key):
    self._scripted.submit(self._pairs[sequence], token_ids, sampling, key)
    ((_, generation),) = self._scripted.step()
    self._turns[sequence] = generation
    sampling = dataclasses.replace(
      sampling, max_tokens=len(generation.token_ids), stop_ids=()
    )
    self._real.submit(sequence, token_ids, sampling, key)
    self.read[sequence] += [(int(token), None) for token in token_ids]

  def step(self):
    ended = []
    for sequence, real in self._real.step():
      generation = self._turns.pop(sequence)
      assert len(real.token_ids) == len(generation.token_ids)
      self.read[sequence] += [
        (int(token), (sequence, place))
        for place, token in enumerate(real.token_ids)
      ]
      ended.append((sequence, generation))
    return ended

  def close(self, sequence):
    self._scripted.close(self._pairs[sequence])
    self._real.close(sequence)


def distinct_tokens(sequences):
  """Nodes of the tree of all that was read; the last token never is."""
  nodes = {}
  for tokens in sequences:
    node = 0
    for token in tokens[:-1]:
      node = nodes.setdefault((node, token), len(nodes) + 1)
  return len(nodes)


def test_a_group_of_teams_computes_each_token_once():
  config, params = testing.small_model(num_layers=1)
  real = engine_lib.Engine(
    config,
    params,
    num_rows=7,
    num_pages=64,
    page_size=256,
    max_context=1024,
    chunk_len=64,
    prefill_len=256,
  )
  tokenizer = testing.byte_tokenizer()
  script = expert.Expert(flaws=expert.FLAWLESS, max_entities=1)
  engine = MirroredEngine(
    testing.ScriptedEngine(tokenizer, script.respond, max_context=1024), real
  )
  group = rollout.rollout_group(
    engine,
    tokenizer,
    testing.country_tools(),
    testing.COUNTRIES,
    group_size=4,
    prompt_style='compact',
    max_turn_tokens=512,
  )
  # A lead, who asks for the names and then for each of the two rows.
  agents = [t for r in group for t in r.trajectories]
  assert len(agents) == 4 * (1 + 1 + 2)
  assert not any(t.failures for t in agents)
  assert sum(len(t.turns) for t in agents) >= 4 * (3 + 3 * 2)
  assert all(len(t.token_ids) > 300 for t in agents)

  stats = real.stats()
  forwarded = stats.prefill_tokens + stats.decode_tokens
  distinct = distinct_tokens(engine.read.values())
  # All four rollouts have equal prompts, for the lead and for each of its
  # three subagents; each agent reads the last token of its prompt as it begins
  # to sample, which is one time too many for three of four.
  assert forwarded == distinct + 4 * 3
  assert forwarded / distinct < 1.002
  assert stats.recompute_ratio == 1.0
  assert stats.recomputed_tokens == stats.preemptions == 0
  # More was found than read.
  assert stats.shared_tokens > stats.prefill_tokens
  assert real._shards.queues[0].pool.available == 64
