"""How fast the engine is, beside its peers.

  python -m experiments.bench_engine --preset=tiny --run_peers=../bench

Cases: `decode` (prompt and turn of 128 tokens, a batch of 1, 8, 32), `ragged`
(64 requests on 8 rows, turns that end by themselves), `episodes` (8 agents of
6 turns with tool messages between) and `width` (8 rollouts, a lead with 1 or 10
subagents, 4 turns each). Each case is one JSON line; the table has the ratios.
"""

import dataclasses
import platform
from collections.abc import Callable

import numpy as np
from absl import app, flags

from experiments import bench_main, bench_timing
from wideseek_jax import types
from wideseek_jax.agents import requests, scheduler
from wideseek_jax.engine import engine as engine_lib
from wideseek_jax.models import config as model_config

CASES = ('decode', 'ragged', 'episodes', 'width')

_BATCHES = flags.DEFINE_list('batches', ['1', '8', '32'], 'Of case decode.')

Agents = list[requests.Agent]


@dataclasses.dataclass(frozen=True)
class Case:
  """Something to time.

  Attributes:
    name: as the peers call it.
    batch: how many share the device; of case width, subagents of a lead.
    agents: makes the agents; what an agent returns is the tokens it sampled.
    sizes: arguments of the engine.
  """

  name: str
  batch: int
  agents: Callable[[], Agents]
  sizes: dict[str, int]


def chat(
  key: int, messages: list[np.ndarray], sampling: types.Sampling
) -> requests.Agent:
  """An agent that answers one message after the other."""
  sampled = 0
  for turn, message in enumerate(messages):
    generation = yield requests.Generate('lead', message, sampling, (key, turn))
    sampled += len(generation.token_ids)
  return sampled


def lead(index: int, num_subagents: int, vocab: int) -> requests.Agent:
  """Four turns; the first creates subagents of four turns each."""
  sampling = types.Sampling(max_tokens=32)
  system = bench_main.prompts(1, 192, vocab, seed=1)[0]
  (first,) = bench_main.prompts(1, 250, vocab, seed=2)
  seed = 1000 * (index + 1)
  yield requests.Generate('lead', first, sampling, (seed, 0))
  subagents = []
  for place in range(1, num_subagents + 1):
    subtask, *tools = np.split(
      bench_main.prompts(1, 224, vocab, seed + place)[0], [32, 96, 160]
    )
    messages = [np.concatenate([system, subtask]), *tools]
    subagents.append(chat(seed + place, messages, sampling))
  sampled = 32 + sum((yield requests.CreateSubagents(tuple(subagents))))
  # A report of 32 tokens each.
  messages = [bench_main.prompts(1, 32 * num_subagents, vocab, seed)[0]]
  messages += list(bench_main.prompts(2, 64, vocab, seed))
  return sampled + (yield from chat(seed, messages, sampling))


def cases(name: str, vocab: int) -> list[Case]:
  """The cases of a name, for the flags' batches."""
  if name == 'decode':
    batches = [int(batch) for batch in _BATCHES.value]
    return [_decode(batch, vocab) for batch in batches]
  if name == 'ragged':
    return [_ragged(vocab)]
  if name == 'episodes':
    return [_episodes(vocab)]
  return [_width(count, vocab) for count in (1, 10)]


def _decode(batch: int, vocab: int) -> Case:
  def agents():
    turn = types.Sampling(max_tokens=128)
    rows = enumerate(bench_main.prompts(batch, 128, vocab))
    return [chat(key, [prompt], turn) for key, prompt in rows]

  sizes = {'num_rows': batch, 'num_pages': 16 * batch, 'max_context': 256}
  return Case('decode', batch, agents, sizes)


def _ragged(vocab: int) -> Case:
  # Tokens that end a turn make the lengths geometric, with a mean of about 40.
  ends = tuple(range(4, 4 + vocab // 40))

  def agents():
    turn = types.Sampling(max_tokens=128, stop_ids=ends)
    rows = enumerate(bench_main.prompts(64, 128, vocab))
    return [chat(key, [prompt], turn) for key, prompt in rows]

  sizes = {'num_rows': 8, 'num_pages': 512, 'max_context': 256}
  return Case('ragged', 8, agents, sizes)


def _episodes(vocab: int) -> Case:
  def agents():
    rng = np.random.default_rng(3)
    tools = [rng.integers(4, vocab, (8, 64)).astype(np.int32) for _ in range(5)]
    turn = types.Sampling(max_tokens=32)
    return [
      chat(key, [first, *(message[key] for message in tools)], turn)
      for key, first in enumerate(bench_main.prompts(8, 96, vocab))
    ]

  sizes = {'num_rows': 8, 'num_pages': 256, 'max_context': 640}
  return Case('episodes', 8, agents, sizes)


def _width(count: int, vocab: int) -> Case:
  def agents():
    return [lead(index, count, vocab) for index in range(8)]

  sizes = {'num_rows': 80, 'num_pages': 2560, 'max_context': 1024}
  return Case('width', count, agents, sizes)


def drive(agents: Agents, engine: types.Engine) -> int:
  """Runs agents, which call no tools, to their end; tokens they sampled."""
  return sum(scheduler.run(agents, {'lead': engine}, None))


def measure(case: Case, config: model_config.ModelConfig, params) -> dict:
  """Times a case; returns its row."""
  engine = engine_lib.Engine(config, params, page_size=32, **case.sizes)
  compiled = engine.warm_up()

  def prepare():
    # Forgets all prefixes: no sample may live on the one before.
    engine.set_params(params)
    engine.reset_stats()

  def run():
    return drive(case.agents(), engine), engine.stats()

  prepare()
  run()
  samples = bench_timing.timed(
    run,
    prepare=prepare,
    repeats=bench_main.REPEATS.value,
    budget_s=bench_main.BUDGET.value,
  )
  last = samples[-1]
  tokens, stats = last.result
  return {
    **bench_main.head(case.name, case.batch),
    **bench_timing.summary(samples, tokens),
    'decode_only_tok_s': round(stats.decode_tokens_per_s, 1),
    'prefill_tok_s': round(stats.prefill_tokens_per_s, 1),
    'row_occupancy': round(stats.row_occupancy, 3),
    # The part of the time in which nobody waited for the device.
    'host_share': round(1 - stats.wait_seconds / last.wall_s, 3),
    'recompute_ratio': round(stats.recompute_ratio, 4),
    'compiles': compiled,
    'late_compiles': stats.compile_count - compiled,
    'python': platform.python_version(),
  }


def main(argv: list[str]) -> None:
  del argv
  config, params = bench_main.load_model()
  ours = bench_main.run(
    (
      name,
      (
        measure(case, config, params) for case in cases(name, config.vocab_size)
      ),
    )
    for name in bench_main.chosen(CASES)
  )
  took = {r['batch']: r['median_s'] for r in ours if r['case'] == 'width'}
  if took:
    print(f'10 subagents take {took[10] / took[1]:.2f} times as long as 1')


if __name__ == '__main__':
  app.run(main)
