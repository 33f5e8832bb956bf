"""What the benchmarks share: their flags, the models, our rows and the peers'.

In: cases that give rows. Out: a JSON line a row, and a table of the ratios.
"""

import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments import bench_peers
from wideseek_jax.models import config as model_config
from wideseek_jax.models import hf, layers, transformer

PRESET = flags.DEFINE_enum(
  'preset', 'tiny', ['micro', 'tiny', 'small'], 'Model.'
)
REPEATS = flags.DEFINE_integer('repeats', 5, 'Quiet samples a case.')
BUDGET = flags.DEFINE_float(
  'budget_s', 120.0, 'Seconds a case, see bench_timing.'
)
_CASES = flags.DEFINE_multi_string('cases', [], 'Which cases; else the usual.')
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


def chosen(usual: Sequence[str], others: Sequence[str] = ()) -> Sequence[str]:
  """The cases that --cases names, of those that a program has."""
  unknown = set(_CASES.value) - {*usual, *others}
  if unknown:
    raise app.UsageError(f'no cases {unknown}; there are {(*usual, *others)}')
  return _CASES.value or usual


def prompts(count: int, length: int, vocab: int, seed: int = 0) -> np.ndarray:
  """int32 [count, length]; the peers' prompts for the same arguments."""
  rng = np.random.default_rng(seed)
  return rng.integers(4, vocab, size=(count, length), dtype=np.int32)


def load_model() -> tuple[model_config.ModelConfig, transformer.Params]:
  """The preset's shape and weights, the peers' own if there is a folder."""
  models = _MODELS.value or (_RUN_PEERS.value and f'{_RUN_PEERS.value}/models')
  if not models:
    config = PRESETS[PRESET.value]
    return config, transformer.init_params(config, jax.random.key(0))
  folder = pathlib.Path(models) / PRESET.value
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


def random_params(
  config: model_config.ModelConfig, dtype: jnp.dtype
) -> transformer.Params:
  """Small normal numbers in every array, drawn on the device."""
  draw = jax.jit(
    lambda key, shape: 0.02 * jax.random.normal(key, shape, dtype),
    static_argnums=1,
  )
  leaves, tree = jax.tree.flatten(transformer.param_shapes(config))
  keys = jax.random.split(jax.random.key(0), len(leaves))
  drawn = [draw(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
  return jax.tree.unflatten(tree, drawn)


def head(case: str, batch: int) -> dict[str, Any]:
  """What a row of ours begins with."""
  return {
    'peer': f'wideseek_jax/jax-{jax.__version__}',
    'case': case,
    'preset': PRESET.value,
    'batch': batch,
  }


def run(
  cases: Iterable[tuple[str, Iterable[Mapping[str, Any]]]],
) -> list[Mapping[str, Any]]:
  """Measures one case after the other, each beside the peers that know it.

  Args:
    cases: name and rows of each; rows are measured as they are asked for.

  Returns:
    Our rows; they were printed, and so was the table of their ratios.
  """
  scripts = _RUN_PEERS.value
  rows_file = _PEERS.value or (scripts and f'{scripts}/results/run.jsonl')
  # Of peers that run beside us, only what they do now counts.
  old = len(bench_peers.read(rows_file)) if scripts else 0
  ours = []
  for name, rows in cases:
    for row in rows:
      ours.append(row)
      print(json.dumps(row), flush=True)
      if _OUT.value:
        with open(_OUT.value, 'a') as file:
          file.write(json.dumps(row) + '\n')
    if scripts and name in bench_peers.CASES:
      bench_peers.run(scripts, name, PRESET.value, REPEATS.value, rows_file)
  peers = bench_peers.read(rows_file)[old:] if rows_file else []
  if peers:
    print(bench_peers.table(ours, peers))
  return ours
