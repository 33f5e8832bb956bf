"""How near decoding comes to what memory allows.

  python -m experiments.bench_decode --shape=qwen3_0p6b --rows=1,8,32,128

A decoding step reads every weight once and the keys and values of every row;
no step is faster than those bytes over the memory's bandwidth, which is
measured first, in the same process. Weights are random. One line a batch.
"""

import json
import statistics
import time

import jax
import jax.numpy as jnp
from absl import app, flags

from experiments import bench_engine, bench_main
from wideseek_jax import types
from wideseek_jax.engine import engine as engine_lib
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

PRESETS = bench_main.PRESETS | {
  'qwen3_0p6b': model_config.QWEN3['0.6b'],
  'qwen3_4b': model_config.QWEN3['4b'],
}

_SHAPE = flags.DEFINE_enum(
  'shape', 'qwen3_0p6b', list(PRESETS), 'Shape of the model.'
)
_ROWS = flags.DEFINE_list('rows', ['1', '8', '32', '128'], 'Batches.')
_PROMPT = flags.DEFINE_integer('prompt', 1024, 'Tokens of a prompt.')
_NEW = flags.DEFINE_integer('new', 256, 'Tokens sampled a row.')
_PAGE = flags.DEFINE_integer('page_size', 64, 'Tokens a page.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of weights and cache.'
)
_RUNS = flags.DEFINE_integer('runs', 3, 'Samples a batch; the median counts.')


def read_bandwidth(num_bytes: int, runs: int = 5) -> float:
  """Bytes/s at which the first device reads an array of num_bytes."""
  x = jnp.ones(num_bytes // 4, jnp.float32)
  total = jax.jit(jnp.sum)
  jax.block_until_ready(total(x))
  took = []
  for _ in range(runs):
    start = time.perf_counter()
    jax.block_until_ready(total(x))
    took.append(time.perf_counter() - start)
  return x.nbytes / min(took)


def step_bytes(
  config: model_config.ModelConfig, itemsize: int, rows: int, context: float
) -> float:
  """Bytes that one decoding step reads at least.

  Args:
    config: the model's shape.
    itemsize: bytes of a number, in weights and cache.
    rows: that sample.
    context: tokens that each of them holds, on average.
  """
  shapes = transformer.param_shapes(config)
  numbers = sum(x.size for x in jax.tree.leaves(shapes))
  if not config.tied:
    # Of the embedding only the rows' own tokens are read.
    numbers -= config.vocab_size * config.embed_dim
  kv = 2 * config.num_layers * config.num_kv_heads * config.head_dim
  return itemsize * (numbers + rows * context * kv)


def measure(config, params, dtype, rows: int) -> dict[str, float]:
  """Times turns of `rows` agents; returns tokens/s and where the time went."""
  context = _PROMPT.value + _NEW.value + 1
  engine = engine_lib.Engine(
    config,
    params,
    num_rows=rows,
    num_pages=(rows + 1) * (context // _PAGE.value + 2),
    page_size=_PAGE.value,
    max_context=context,
    prefill_len=512 // _PAGE.value * _PAGE.value,
    dtype=dtype,
  )
  compiled = engine.warm_up()
  prompts = bench_main.prompts(rows, _PROMPT.value, config.vocab_size)
  turn = types.Sampling(max_tokens=_NEW.value)

  def run():
    engine.set_params(params)  # Forgets all prefixes.
    engine.reset_stats()
    agents = [bench_engine.chat(i, [p], turn) for i, p in enumerate(prompts)]
    bench_engine.drive(agents, engine)
    return engine.stats()

  run()
  found = [run() for _ in range(_RUNS.value)]
  middle = statistics.median_low(s.decode_tokens_per_s for s in found)
  stats = next(s for s in found if s.decode_tokens_per_s == middle)
  seconds = stats.host_seconds + stats.wait_seconds
  return {
    'decode_tok_s': middle,
    'prefill_tok_s': stats.prefill_tokens_per_s,
    'host_share': stats.host_seconds / seconds,
    'late_compiles': stats.compile_count - compiled,
  }


def main(argv: list[str]) -> None:
  del argv
  config = PRESETS[_SHAPE.value]
  dtype = jnp.dtype(_DTYPE.value)
  on_cpu = jax.default_backend() == 'cpu'
  bandwidth = read_bandwidth(2**28 if on_cpu else 2**32)
  print(f'{jax.devices()[0].device_kind}: {bandwidth / 1e9:.0f} GB/s read')
  params = bench_main.random_params(config, dtype)
  for rows in map(int, _ROWS.value):
    found = measure(config, params, dtype, rows)
    held = _PROMPT.value + _NEW.value / 2
    bytes_read = step_bytes(config, dtype.itemsize, rows, held)
    bound = rows * bandwidth / bytes_read
    row = {'shape': _SHAPE.value, 'rows': rows, 'bound_tok_s': bound}
    row |= {'of_bound': found['decode_tok_s'] / bound} | found
    print(json.dumps({k: _short(v) for k, v in row.items()}), flush=True)


def _short(value):
  return round(value, 3) if isinstance(value, float) else value


if __name__ == '__main__':
  app.run(main)
