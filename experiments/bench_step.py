"""How fast the training step is, beside its peers and the machine's limits.

  python -m experiments.bench_step --run_peers=../bench

Cases: `train` (one update on 32 × 256 tokens, half of them sampled),
`wideseek` (a group with the shape of WideSeek-R1's, with a row a turn as the
released code has it, with a segment an agent, and with shared prefixes) and
`mfu` (Qwen3 shapes in bfloat16 on long rows, for a GPU; not run by default).
Each is one JSON line a row. `of_peak` is arithmetic that has to be done, over
what the machine's matrix products reach (float32, measured in this process) or,
for `mfu`, over the chip's published figure; what is computed twice counts once.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments import bench_main, bench_timing
from wideseek_jax import sharding, testing, types
from wideseek_jax.models import config as model_config
from wideseek_jax.training import batching, grpo_step, train_state

_DEVICES = flags.DEFINE_integer(
  'devices', 2, 'On a CPU: devices to simulate, best one a core.'
)
_ROWS = flags.DEFINE_integer(
  'rows_per_micro_batch', 8, 'Of case train, a divisor of 32.'
)
_SHRINK = flags.DEFINE_float(
  'shrink', 16.0, 'Of case wideseek: all lengths are divided by it.'
)
_GROUP = flags.DEFINE_integer('group', 8, 'Of case wideseek: its rollouts.')
_SHAPES = flags.DEFINE_list('shapes', ['0.6b', '4b'], 'Of case mfu: Qwen3.')
_LENGTHS = flags.DEFINE_list('lengths', ['8192', '32768'], 'Of case mfu: rows.')
_REMAT = flags.DEFINE_string('remat', 'block', 'Of case mfu.')

# Dense bfloat16 FLOP/s by the vendors' data sheets.
CHIP_PEAKS = {'A100': 312e12, 'H100': 989e12, 'H200': 989e12, 'B200': 2250e12}


def matmul_peak(size: int = 2048, runs: int = 10) -> float:
  """FLOP/s of float32 products of square matrices on the first device."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.matmul)
  jax.block_until_ready(product(x, x))
  took = []
  for _ in range(runs):
    start = time.perf_counter()
    jax.block_until_ready(product(x, x))
    took.append(time.perf_counter() - start)
  return 2 * size**3 / min(took)


def chip_peak(kind: str) -> float:
  """Published bfloat16 FLOP/s of a device kind.

  Raises:
    ValueError: it is not in CHIP_PEAKS.
  """
  for name, peak in CHIP_PEAKS.items():
    if name in kind:
      return peak
  raise ValueError(f'no peak is known of {kind!r}; add it to CHIP_PEAKS')


def step_flops(
  config: model_config.ModelConfig, batch: batching.Batch
) -> float:
  """FLOPs that an update on a batch needs, each product once.

  Two for a multiplication and an addition, and a backward pass of twice the
  forward one: six times the weights for every token (the logits' only where a
  target is trained), twelve times heads × head size for every layer and pair of
  a token and one that it sees.
  """
  c = config
  heads = 2 * c.num_heads + 2 * c.num_kv_heads
  layer = c.embed_dim * (heads * c.head_dim + 3 * c.mlp_dim)
  here = np.asarray(batch.segment_ids) > 0
  pairs = int(np.sum(np.asarray(batch.positions, np.int64)[here] + 1))
  trained = int(np.sum(np.asarray(batch.weights) > 0))
  return (
    6 * c.num_layers * layer * int(here.sum())
    + 6 * c.vocab_size * c.embed_dim * trained
    + 12 * c.num_layers * c.num_heads * c.head_dim * pairs
  )


def trajectory(token_ids: np.ndarray, num_prompt: int, vocab: int):
  """A prompt and one turn, sampled from uniform distributions."""
  sampled = np.arange(len(token_ids)) >= num_prompt
  return dataclasses.replace(
    testing.trajectory(sampled),
    token_ids=token_ids,
    behavior_logprobs=np.float32(-np.log(vocab) * sampled),
  )


def plain_batch(
  rows: int, prompt: int, length: int, vocab: int, per_micro_batch: int
) -> batching.Batch:
  """Rows of one prompt and turn each, the peers' tokens and advantages."""
  rollouts = [
    types.Rollout('task', index, (trajectory(token_ids, prompt, vocab),))
    for index, token_ids in enumerate(
      bench_main.prompts(rows, length, vocab, seed=11)
    )
  ]
  return batching.make_batch(
    [rollouts],
    [np.random.default_rng(5).normal(size=rows).astype(np.float32)],
    row_len=length,
    rows_per_micro_batch=per_micro_batch,
  )


def split_turns(rollout: types.Rollout) -> types.Rollout:
  """A trajectory for every turn, with all that came before it to read."""

  def turns(whole: types.Trajectory) -> Iterator[types.Trajectory]:
    edges = np.flatnonzero(np.diff(np.append(whole.sample_mask, False))) + 1
    for start, end in edges.reshape(-1, 2):
      yield dataclasses.replace(
        whole,
        token_ids=whole.token_ids[:end],
        sample_mask=np.arange(end) >= start,
        behavior_logprobs=whole.behavior_logprobs[:end],
      )

  split = [turn for t in rollout.trajectories for turn in turns(t)]
  return dataclasses.replace(rollout, trajectories=tuple(split))


def layouts(
  group: Sequence[types.Rollout], row_len: int, per_micro_batch: int
) -> dict[str, batching.Batch]:
  """One group in three layouts, which have the same loss.

  All are packed as densely as can be, the row a turn too: the released code
  pads it.
  """
  advantages = np.random.default_rng(5).normal(size=len(group))

  def batch(rollouts: Sequence[types.Rollout], share: bool) -> batching.Batch:
    return batching.make_batch(
      [rollouts],
      [advantages.astype(np.float32)],
      row_len=row_len,
      rows_per_micro_batch=per_micro_batch,
      share_prefixes=share,
      # A token counts the same whether its turns are agents or not.
      aggregation='token_mean',
    )

  return {
    'turns': batch([split_turns(rollout) for rollout in group], False),
    'agents': batch(group, False),
    'trees': batch(group, True),
  }


def measure(
  head: dict[str, Any],
  config: model_config.ModelConfig,
  params: Any,
  batch: batching.Batch,
  *,
  tokens: int,
  peak: float,
  **options: Any,
) -> dict[str, Any]:
  """Times the update of a batch.

  Args:
    head: what the row begins with.
    config: the model's shape.
    params: its parameters.
    batch: what to learn from.
    tokens: how many that are, for the rate.
    peak: FLOP/s that the machine can reach.
    **options: of the step.
  """
  mesh = sharding.make_mesh(data=-1)
  optimizer = train_state.make_optimizer(learning_rate=1e-6)
  step = grpo_step.make_grpo_step(config, optimizer, mesh, **options)
  state = train_state.init_train_state(config, optimizer, mesh, params)
  del params  # A second copy might not fit.

  def run() -> float:
    nonlocal state
    state, metrics = step(state, batch)
    return float(jax.block_until_ready((state, metrics))[1]['loss'])

  start = time.perf_counter()
  loss = run()
  first_call = time.perf_counter() - start
  samples = bench_timing.timed(
    run,
    prepare=lambda: None,
    repeats=bench_main.REPEATS.value,
    budget_s=bench_main.BUDGET.value,
  )
  row = head | bench_timing.summary(samples, tokens)
  return row | {
    'first_call_s': round(first_call, 2),
    'loss': loss,
    'fill': round(batching.batch_stats(batch).fill, 3),
    'of_peak': round(step_flops(config, batch) / row['median_s'] / peak, 3),
    'peak_gflops': round(peak / 1e9, 1),
  }


def train(config: model_config.ModelConfig, params: Any) -> Iterator[dict]:
  """The peers' batch."""
  batch = plain_batch(32, 128, 256, config.vocab_size, _ROWS.value)
  head = bench_main.head('train', 32)
  yield measure(
    head, config, params, batch, tokens=32 * 256, peak=matmul_peak()
  )


def wideseek(config: model_config.ModelConfig, params: Any) -> Iterator[dict]:
  """One group in three layouts, and what the last of them saves."""
  (group,) = testing.wideseek_groups(
    group_size=_GROUP.value, shrink=_SHRINK.value, vocab_size=config.vocab_size
  )
  row_len = 64 * math.ceil(500 / _SHRINK.value)
  peak = matmul_peak()
  rows = {}
  for name, batch in layouts(group, row_len, 2).items():
    head = bench_main.head(f'wideseek-{name}', _GROUP.value)
    tokens = batching.batch_stats(batch).tokens
    rows[name] = measure(head, config, params, batch, tokens=tokens, peak=peak)
    yield rows[name]
  whole = rows['turns']
  for name in ('agents', 'trees'):
    tokens, seconds, loss = (
      whole[key] / rows[name][key] for key in ('units', 'median_s', 'loss')
    )
    print(
      f'{name}: {tokens:.2f} times fewer tokens than a row a turn and '
      f'{seconds:.2f} times as fast; losses differ by {abs(loss - 1):.0e}'
    )


def mfu(preset: model_config.ModelConfig, params: Any) -> Iterator[dict]:
  """Rows that are one sampled turn each, on an accelerator."""
  del preset, params
  peak = jax.device_count() * chip_peak(jax.devices()[0].device_kind)
  for shape in _SHAPES.value:
    config = model_config.QWEN3[shape]
    for length in map(int, _LENGTHS.value):
      rows = jax.device_count()
      yield measure(
        bench_main.head(f'mfu-{shape}-{length}', rows) | {'preset': shape},
        config,
        bench_main.random_params(config, jnp.float32),
        plain_batch(rows, 1, length, config.vocab_size, rows),
        tokens=rows * length,
        peak=peak,
        compute_dtype=jnp.bfloat16,
        remat=_REMAT.value,
      )


def main(argv: list[str]) -> None:
  del argv
  jax.config.update('jax_num_cpu_devices', _DEVICES.value)
  config, params = bench_main.load_model()
  cases = {'train': train, 'wideseek': wideseek, 'mfu': mfu}
  names = bench_main.chosen(['train', 'wideseek'], ['mfu'])
  bench_main.run((name, cases[name](config, params)) for name in names)


if __name__ == '__main__':
  app.run(main)
