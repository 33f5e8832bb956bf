"""How fast the engine is, beside its peers.

  python -m experiments.bench_engine --preset=tiny --run_peers=../bench

Cases: `decode` (prompt and turn of 128 tokens, a batch of 1, 8, 32), `ragged`
(64 requests on 8 rows, turns that end by themselves), `episodes` (8 agents of
6 turns with tool messages between) and `width` (8 rollouts, a lead with 1 or 10
subagents, 4 turns each). Each case is one JSON line; the table has the ratios.
"""

import dataclasses
import json
import pathlib
import platform
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags

from experiments import bench_peers, bench_timing
from wideseek_jax import types
from wideseek_jax.agents import requests, scheduler
from wideseek_jax.engine import engine as engine_lib
from wideseek_jax.models import config as model_config
from wideseek_jax.models import hf, layers, transformer

CASES = ('decode', 'ragged', 'episodes', 'width')

_PRESET = flags.DEFINE_enum(
  'preset', 'tiny', ['micro', 'tiny', 'small'], 'Model.'
)
_CASES = flags.DEFINE_multi_enum('cases', CASES, CASES, 'Which cases.')
_BATCHES = flags.DEFINE_list('batches', ['1', '8', '32'], 'Of case decode.')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'Quiet samples a case.')
_BUDGET = flags.DEFINE_float(
  'budget_s', 120.0, 'Seconds a case, see bench_timing.'
)
_MODELS = flags.DEFINE_string(
  'models', None, 'Folder with <preset>/model.safetensors; else random weights.'
)
_OUT = flags.DEFINE_string('out', None, 'Appends our rows to this jsonl file.')
_PEERS = flags.DEFINE_string('peers', None, 'Rows of the peers, a jsonl file.')
_RUN_PEERS = flags.DEFINE_string(
  'run_peers', None, "Folder of the peers' scripts: run in turn with ours."
)

# Vocab, width, mlp, layers, heads, kv heads, head size.
PRESETS = {
  'micro': model_config.ModelConfig(64, 16, 32, 1, 2, 1, 8),
  'tiny': model_config.ModelConfig(2048, 256, 768, 4, 8, 2, 32),
  'small': model_config.ModelConfig(8192, 512, 1536, 8, 8, 2, 64),
}

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


def prompts(count: int, length: int, vocab: int, seed: int = 0) -> np.ndarray:
  """int32 [count, length]; the peers' prompts for the same arguments."""
  rng = np.random.default_rng(seed)
  return rng.integers(4, vocab, size=(count, length), dtype=np.int32)


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
  system = prompts(1, 192, vocab, seed=1)[0]
  (first,) = prompts(1, 250, vocab, seed=2)
  seed = 1000 * (index + 1)
  yield requests.Generate('lead', first, sampling, (seed, 0))
  subagents = []
  for place in range(1, num_subagents + 1):
    subtask, *tools = np.split(
      prompts(1, 224, vocab, seed + place)[0], [32, 96, 160]
    )
    messages = [np.concatenate([system, subtask]), *tools]
    subagents.append(chat(seed + place, messages, sampling))
  sampled = 32 + sum((yield requests.CreateSubagents(tuple(subagents))))
  # A report of 32 tokens each.
  messages = [prompts(1, 32 * num_subagents, vocab, seed)[0]]
  messages += list(prompts(2, 64, vocab, seed))
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
    rows = enumerate(prompts(batch, 128, vocab))
    return [chat(key, [prompt], turn) for key, prompt in rows]

  sizes = {'num_rows': batch, 'num_pages': 16 * batch, 'max_context': 256}
  return Case('decode', batch, agents, sizes)


def _ragged(vocab: int) -> Case:
  # Tokens that end a turn make the lengths geometric, with a mean of about 40.
  ends = tuple(range(4, 4 + vocab // 40))

  def agents():
    turn = types.Sampling(max_tokens=128, stop_ids=ends)
    rows = enumerate(prompts(64, 128, vocab))
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
      for key, first in enumerate(prompts(8, 96, vocab))
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
    run, prepare=prepare, repeats=_REPEATS.value, budget_s=_BUDGET.value
  )
  last = samples[-1]
  tokens, stats = last.result
  return {
    'peer': f'wideseek_jax/jax-{jax.__version__}',
    'case': case.name,
    'preset': _PRESET.value,
    'batch': case.batch,
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


def load_model() -> tuple[model_config.ModelConfig, transformer.Params]:
  """The preset's shape and weights, the peers' own if there is a folder."""
  models = _MODELS.value or (_RUN_PEERS.value and f'{_RUN_PEERS.value}/models')
  if not models:
    config = PRESETS[_PRESET.value]
    return config, transformer.init_params(config, jax.random.key(0))
  folder = pathlib.Path(models) / _PRESET.value
  config, params = hf.load_pretrained(folder)
  reference = np.load(folder / 'reference.npz')
  tokens_BT = reference['ids']
  positions_BT = np.broadcast_to(np.arange(tokens_BT.shape[1]), tokens_BT.shape)
  hidden_BTD, _ = transformer.apply(
    config,
    params,
    tokens_BT,
    positions_BT,
    layers.full_causal_attend(None, positions_BT),
  )
  logits_BTV = transformer.unembed(config, params, hidden_BTD)
  difference = float(np.abs(logits_BTV - reference['logits']).max())
  print(f'logits differ from those of the peers by at most {difference:.1e}')
  return config, params


def main(argv: list[str]) -> None:
  del argv
  config, params = load_model()
  scripts = _RUN_PEERS.value
  rows_file = _PEERS.value or (scripts and f'{scripts}/results/run.jsonl')
  # Of peers that run beside us, only what they do now counts.
  old = len(bench_peers.read(rows_file)) if scripts else 0
  ours = []
  for name in _CASES.value:
    for case in cases(name, config.vocab_size):
      ours.append(measure(case, config, params))
      print(json.dumps(ours[-1]), flush=True)
      if _OUT.value:
        with open(_OUT.value, 'a') as file:
          file.write(json.dumps(ours[-1]) + '\n')
    if scripts and name in bench_peers.CASES:
      bench_peers.run(scripts, name, _PRESET.value, _REPEATS.value, rows_file)
  peers = bench_peers.read(rows_file)[old:] if rows_file else []
  if peers:
    print(bench_peers.table(ours, peers))
  took = {r['batch']: r['median_s'] for r in ours if r['case'] == 'width'}
  if took:
    print(f'10 subagents take {took[10] / took[1]:.2f} times as long as 1')


if __name__ == '__main__':
  app.run(main)
