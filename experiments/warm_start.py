"""Makes a policy that reinforcement learning can start from.

  python -m experiments.warm_start --workdir=runs/warm_start

Fits a fresh policy to the five lessons of the config (random strings,
demonstrations of the imperfect expert, …), with the tokenizer of a policy that
there is or a new one, and writes policy/ in Hugging Face layout into the
workdir. Started again there, it goes on.
"""

import functools
import math
import pathlib

import jax
from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import build, run, sharding
from wideseek_jax import tokenizer as tokenizer_lib
from wideseek_jax.agents import expert as expert_lib
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer
from wideseek_jax.tasks import facts
from wideseek_jax.training import (
  checkpoint,
  sft_step,
  train_state,
  warm_start,
)

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; holds all it writes.', required=True
)


def _fit(config, name, make_batch, shape, params, mesh):
  """Fits params to a lesson's batches; goes on from its checkpoint."""
  options = config.lessons[name]
  folder = pathlib.Path(_WORKDIR.value) / name
  optimizer = train_state.make_optimizer(**options.optimizer)
  state = train_state.init_train_state(shape, optimizer, mesh, params)
  if checkpoint.latest_step(folder) is not None:
    abstract = train_state.abstract_train_state(shape, optimizer, mesh)
    state, extra = checkpoint.restore_latest(folder, abstract)
    if extra['ended']:
      return state.params
  state = warm_start.fit(
    state,
    sft_step.make_sft_step(shape, optimizer, mesh, logprob_chunk=128),
    lambda step: make_batch(
      step=step,
      seed=config.seed,
      size=options.size,
      batch=dict(options.batch),
    ),
    options.num_steps,
    enough=options.enough,
    log=lambda step, m: print(
      f'{name} {step}/{options.num_steps}: loss {m["loss"]:.4f}, '
      f'accuracy {m["accuracy"]:.4f}, {m["seconds"]:.0f} s',
      flush=True,
    ),
    save=lambda state, ended: checkpoint.save(
      folder, state, extra={'ended': ended}, config=config.to_dict(), keep=1
    ),
  )
  return state.params


def _tokenizer(config, world):
  """The tokenizer of a policy there is, or one trained for these facts."""
  if config.tokenizer:
    return tokenizer_lib.Tokenizer.load(build.policy_folder(config.tokenizer))
  tasks = facts.build_tasks(
    world,
    'train',
    'wide',
    config.tokenizer_tasks,
    seed=config.seed,
    **config.wide,
  )
  return warm_start.train_chat_tokenizer(
    world,
    tasks,
    vocab_size=config.model.vocab_size,
    seed=config.seed,
    rollout=dict(config.rollout),
  )


def main() -> None:
  config = experiment_flags.config()
  # Has no effect on other back ends; must come before the first array.
  jax.config.update('jax_num_cpu_devices', math.prod(config.mesh.values()))
  workdir = pathlib.Path(_WORKDIR.value)
  workdir.mkdir(parents=True, exist_ok=True)
  rollout, wide = dict(config.rollout), dict(config.wide)
  world = facts.build_world()
  if not (workdir / 'tokenizer.json').exists():
    _tokenizer(config, world).save(workdir)
  tokenizer = tokenizer_lib.Tokenizer.load(workdir)
  shape = model_config.ModelConfig(**config.model)
  mesh = build.build_mesh(config)
  shardings = sharding.param_shardings(
    mesh,
    transformer.param_shapes(shape),
    transformer.logical_axes(shape),
    sharding.TRAIN_TABLE,
  )
  params = transformer.init_params(
    shape, jax.random.key(config.seed), shardings
  )

  @functools.cache
  def demonstrations(flaws, seed):
    print('making demonstrations (2 minutes) …', flush=True)
    return warm_start.demonstration_set(
      world,
      tokenizer,
      expert_lib.Expert(flaws=flaws, max_subagents=rollout['max_subagents']),
      seed=seed,
      wide=wide,
      rollout=rollout,
      pieces=warm_start.word_pieces(tokenizer),
      **config.demonstrations,
    )

  def copy(**options):
    return warm_start.copy_batch(tokenizer, **options)

  def copy_alike(**options):
    return warm_start.copy_batch(tokenizer, alike=True, **options)

  def show(**options):
    shown = demonstrations(expert_lib.Flaws(), config.seed)
    return warm_start.demonstration_batch(shown, **options)

  @functools.cache
  def last_turns():
    return warm_start.abridge(
      demonstrations(expert_lib.FLAWLESS, config.seed + 1000)
    )

  def look_up(**options):
    return warm_start.demonstration_batch(last_turns(), **options)

  lessons = {
    'copy': copy,
    'alike': copy_alike,
    'format': show,
    'look_up': look_up,
    'flaws': show,
  }
  for name, make_batch in lessons.items():
    params = _fit(config, name, make_batch, shape, params, mesh)
  policy = build.Policy(shape, params, mesh)
  run.save_policy(workdir / 'policy', policy, tokenizer)
  print(f'policy: {workdir}/policy')


if __name__ == '__main__':
  experiment_flags.run(main, 'experiments/configs/warm_start_tiny.py')
