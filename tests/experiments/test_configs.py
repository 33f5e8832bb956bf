"""Every config is built, and what it trains or serves is lowered, not compiled.

Kept of each: the model's widths, heads and vocabulary, lengths of rows and
contexts, types, remat. Cut: all layers but one, and axes of the mesh until they
fit the eight simulated devices.
"""

import dataclasses
import importlib
import math
import pathlib

import jax
import pytest

from experiments import plan_pod, pod, workload
from experiments.configs import laptop, qwen3_4b_pod
from tests.experiments import helpers
from wideseek_jax.agents import rollout_config

# What is trained, by file and argument; what is evaluated.
TRAINED = (
  ('qwen3_0p6b', 'v5e-8'),
  *(('qwen3_4b_pod', name) for name in qwen3_4b_pod.SLICES),
  ('qwen3_4b_single', 'v6e-16'),
)
EVALUATED = (('wideseek_r1_4b', 'v6e-8'),)
# The others differ from these in numbers alone; -m slow lowers all.
SOON = ('v5e-8', 'v5e-16')
LARGE = sorted({name for name, _ in TRAINED + EVALUATED})


def get(name, size):
  module = importlib.import_module(f'experiments.configs.{name}')
  return module.get_config(size)


def test_no_config_is_forgotten():
  files = pathlib.Path(laptop.__file__).parent.glob('*.py')
  # The tiny ones are trained by other tests.
  others = {'__init__', 'accelerators', 'laptop', 'tiny_cpu', 'warm_start_tiny'}
  assert {file.stem for file in files} == {*LARGE, *others}


@pytest.mark.parametrize(
  ('name', 'size'),
  [
    pytest.param(*case, marks=[] if case[1] in SOON else pytest.mark.slow)
    for case in TRAINED + EVALUATED
  ],
)
def test_a_config_lowers(name, size):
  config = get(name, size)
  while math.prod(config.mesh.values()) > len(jax.devices()):
    largest = max(config.mesh, key=config.mesh.get)
    config.mesh[largest] //= 2
  # As on chips, but without their kernels, which need less memory.
  config.engine.update(num_pages=4096, memory_bytes=0)
  shape = plan_pod.shape_of(config.policy)
  found = pod.plan(
    config,
    dataclasses.replace(shape, num_layers=1),
    jax.devices()[: math.prod(config.mesh.values())],
    10**12,
    workload.Workload(
      rollouts=config.loop.tasks_per_step * config.rollout.group_size,
      group=config.rollout.group_size,
    ),
    train=(name, size) in TRAINED,
    compiled=False,
  )
  trains = ['train'] if (name, size) in TRAINED else []
  assert list(found.phases) == [*trains, 'prefill', 'decode']


@pytest.mark.parametrize('name', LARGE)
def test_a_laptop_runs_the_same_objective(name):
  small = get(name, 'runlocal')
  large = get(name, next(s for n, s in TRAINED + EVALUATED if n == name))
  assert small.is_locked
  assert small.policy == 'packaged:tiny' and not small.data.train_file
  assert small.grpo.clip_high == large.grpo.clip_high
  assert small.rollout.workflow == large.rollout.workflow
  assert math.prod(small.mesh.values()) == 1
  assert small.loop.num_steps * small.loop.tasks_per_step <= 4
  # What the parts of a run refuse.
  rollout_config.RolloutConfig(**small.rollout)
  assert small.engine.max_context >= small.rollout.max_context


@pytest.mark.parametrize('name', LARGE)
def test_an_unknown_size_is_refused(name):
  with pytest.raises(ValueError, match=r'v7-1.*runlocal'):
    get(name, 'v7-1')


@pytest.mark.slow
@pytest.mark.parametrize('name', LARGE)
def test_a_laptop_runs_it(name, tmp_path):
  config = f'--config=experiments/configs/{name}.py:runlocal'
  door = 'train' if name in dict(TRAINED) else 'evaluate'
  found = helpers.run(door, config, f'--workdir={tmp_path / "run"}')
  assert found.returncode == 0, found.stderr


@pytest.mark.parametrize('name', LARGE)
def test_a_config_has_a_promise(name):
  text = importlib.import_module(f'experiments.configs.{name}').__doc__
  for word in ('chips', 'GB a chip', 'at best', 'Score to expect'):
    assert word in text
