"""How much wall time asynchronous training saves when tools are slow.

python -m experiments.bench_async --tool_delay=2 --workdir=runs/async

Trains twice from the same policy, with every search and access made slower: in
turn with each update after its rollouts, and with updates beside the rollouts
of the next step. The first two steps compile, and the last has no rollouts
beside it: those between are timed.
"""

import dataclasses
import itertools
import json
import pathlib
import statistics
import time

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import build, files, run, types
from wideseek_jax.training import loop
from wideseek_jax.training import parts as parts_lib

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder for async.json.', required=True
)
_TOOL_DELAY = flags.DEFINE_float(
  'tool_delay', 2.0, 'Seconds that every tool call takes longer.'
)
_STEPS = flags.DEFINE_integer(
  'steps',
  6,
  'Steps of each run, of which all but three are timed.',
  lower_bound=4,
)


@dataclasses.dataclass(frozen=True)
class SlowTools:
  """Tools that answer `delay` seconds later."""

  tools: types.Tools
  delay: float

  def search(self, query: str, count: int) -> list[types.Hit]:
    time.sleep(self.delay)
    return self.tools.search(query, count)

  def access(self, url: str, info: str = '') -> types.Page | None:
    time.sleep(self.delay)
    return self.tools.access(url, info)


def _train(config, asynchronous: bool) -> dict[str, float]:
  """Medians over the timed steps, in seconds."""
  config.loop.asynchronous = asynchronous
  policy, tokenizer = build.build_policy(config)
  state = build.init_train_state(config, policy)
  parts = run.build_parts(config, policy, tokenizer)
  slow = SlowTools(parts.tools, _TOOL_DELAY.value)
  ends, rows = [], []

  def log(step, metrics):
    del step
    ends.append(time.monotonic())
    rows.append(metrics)

  loop.train(
    state,
    dataclasses.replace(parts, tools=slow),
    parts_lib.LoopConfig(seed=config.seed, **config.loop),
    log=log,
    save=lambda state: None,
  )
  steps = [b - a for a, b in itertools.pairwise(ends[1:-1])]
  names = ('time/rollout_s', 'time/update_s', 'train/tis_mean')
  found = {n: statistics.median(r[n] for r in rows[2:-1]) for n in names}
  found['step_s'] = statistics.median(steps)
  found['stale_tokens'] = rows[-2].get('rollout/stale_tokens', 0.0)
  return found


def main() -> None:
  config = experiment_flags.config()
  config.loop.update(num_steps=_STEPS.value, rescore=True, eval_every=0)
  config.grpo.tis_level = 'token'
  config.rollout.overlap_tools = True
  found = {}
  for name, asynchronous in (('in turn', False), ('beside', True)):
    found[name] = _train(config, asynchronous)
    print(name, {k: round(v, 3) for k, v in found[name].items()}, flush=True)
  found['gain'] = found['in turn']['step_s'] / found['beside']['step_s']
  print(f'steps are {found["gain"]:.2f} times as fast', flush=True)
  path = pathlib.Path(_WORKDIR.value) / 'async.json'
  files.write_text(path, json.dumps(found, indent=2) + '\n')


if __name__ == '__main__':
  experiment_flags.run(main)
