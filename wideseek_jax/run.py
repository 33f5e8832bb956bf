"""Whole runs: training with checkpoints and a log, evaluation of a policy.

In: a config and a workdir. Out: files in the workdir. What can be refused is
refused before anything is written.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from wideseek_jax import build, progress, types
from wideseek_jax.agents import rollout_config
from wideseek_jax.evaluation import runner
from wideseek_jax.models import hf, lora
from wideseek_jax.rl import advantages, weights
from wideseek_jax.tasks import rewards
from wideseek_jax.training import (
  best,
  checkpoint,
  loop,
  metrics_log,
  train_state,
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Scored rollouts of one policy.

  Attributes:
    tasks: what was asked.
    rows: one a rollout: task_id, sample, reward and the parts of its score.
    groups: the rollouts, in the order of tasks.
    scores: of the rollouts, in the same order.
  """

  tasks: list[types.Task]
  rows: list[runner.Row]
  groups: list[list[types.Rollout]]
  scores: list[list[types.Score]]


def prepare_workdir(workdir: str | os.PathLike, *, resume: bool) -> None:
  """Makes the workdir, or says why it cannot be used.

  Raises:
    FileNotFoundError: asked to resume where there is no checkpoint.
    FileExistsError: it holds a run already, and resuming was not asked for.
    PermissionError: it cannot be made or written.
  """
  workdir = pathlib.Path(workdir)
  step = checkpoint.latest_step(workdir / 'checkpoints')
  if resume and step is None:
    raise FileNotFoundError(
      f'{workdir} has no checkpoint to resume from; leave out --resume to '
      f'start a run there'
    )
  if not resume and (step is not None or (workdir / 'metrics.jsonl').exists()):
    raise FileExistsError(
      f'{workdir} holds a run already; go on with --resume or name another '
      f'--workdir'
    )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    probe = workdir / '.writable'
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise PermissionError(
      f'cannot write in {workdir} ({error.strerror}); name another --workdir'
    ) from error


def build_parts(
  config: build.Config,
  policy: build.Policy,
  tokenizer: Any,
  judge: types.Judge | None = None,
) -> loop.Parts:
  """Everything that the training loop works with."""
  return loop.Parts(
    engine=build.build_engine(config, policy),
    tokenizer=tokenizer,
    tools=build.build_tools(config, judge),
    judge=judge,
    train_tasks=build.build_tasks(config, 'train'),
    valid_tasks=(
      build.build_tasks(config, 'validation') if config.loop.eval_every else []
    ),
    step=build.build_train_step(config, policy),
    rollout=dict(config.rollout),
    reward=dict(config.reward),
    batch=dict(config.batch),
    advantage=dict(config.advantage),
    frozen=build.build_frozen(config, policy),
    frozen_engines=build.build_frozen_engines(config, tokenizer),
  )


def train(
  config: build.Config,
  workdir: str | os.PathLike,
  *,
  resume: bool = False,
  name: str = 'training',
  on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> build.Policy:
  """Trains a policy with GRPO; the workdir then holds the whole run.

  It writes checkpoints/, metrics.jsonl, TensorBoard events and, at the end,
  policy/ (Hugging Face layout) and, if it trained adapters, adapters/ (that of
  peft). With loop.eval_every, best/ is the policy of the highest validation
  reward so far, like policy/, and best/validation.json says which step it is.

  Args:
    config: see `config.default_config`.
    workdir: the run's folder.
    resume: go on from the newest checkpoint in it.
    name: what the progress line calls it.
    on_step: called with (step, metrics) after every update.

  Returns:
    the trained policy.

  Raises:
    OSError, ValueError: one line on what does not fit and what to do.
      types.JudgeUnavailable is one of them: what was done until then is saved,
      and `resume` goes on from there.
  """
  workdir = pathlib.Path(workdir)
  loop_config = loop.LoopConfig(seed=config.seed, **config.loop)
  _refuse_bad_options(config)
  with build.open_judge(config) as judge:
    return _train(config, workdir, loop_config, judge, resume, name, on_step)


def _train(
  config: build.Config,
  workdir: pathlib.Path,
  loop_config: loop.LoopConfig,
  judge: types.Judge | None,
  resume: bool,
  name: str,
  on_step: Callable[[int, dict[str, float]], None] | None,
) -> build.Policy:
  prepare_workdir(workdir, resume=resume)
  policy, tokenizer = build.build_policy(config)
  if resume:
    state, _ = checkpoint.restore_latest(
      workdir / 'checkpoints', build.abstract_train_state(config, policy)
    )
  else:
    state = build.init_train_state(config, policy)
  # The policy as it was is kept only if something is measured against it or
  # added to it.
  ref_params = policy.params if config.grpo.kl_coef else None
  if not config.lora.rank:
    policy = dataclasses.replace(policy, params=state.params)
  parts = build_parts(config, policy, tokenizer, judge)
  progress.say(f'engine: {parts.engine.plan}')
  log = metrics_log.MetricsLog(workdir, resume_step=int(state.step))
  stage = progress.Stage(name, loop_config.num_steps, 'steps')

  def write(step: int, metrics: dict[str, float]) -> None:
    log.write(step, metrics)
    if on_step is not None:
      on_step(step, metrics)

  def save(state: train_state.TrainState) -> None:
    if checkpoint.latest_step(workdir / 'checkpoints') == int(state.step):
      return  # Nothing happened since.
    checkpoint.save(
      workdir / 'checkpoints',
      state,
      extra={},
      config=config.to_dict(),
      keep=config.keep_checkpoints,
    )

  def save_merged(
    folder: pathlib.Path, state: train_state.TrainState
  ) -> build.Policy:
    params = lora.merge(parts.frozen, state.params)
    merged = dataclasses.replace(policy, params=params)
    save_policy(folder, merged, tokenizer)
    return merged

  try:
    with stage:
      state = loop.train(
        state,
        parts,
        loop_config,
        log=write,
        save=save,
        validated=best.keeper(
          workdir, metrics_log.read_metrics(workdir), save_merged
        ),
        progress=stage.update,
        ref_params=ref_params,
      )
  except types.JudgeUnavailable as error:
    raise types.JudgeUnavailable(
      f'{error}; {workdir} holds all that was done: --resume goes on from there'
    ) from error
  finally:
    log.close()
  trained = save_merged(workdir / 'policy', state)
  if parts.frozen:
    hf.save_adapters(
      workdir / 'adapters',
      state.params,
      parts.frozen.lora,
      build.policy_names(config)[0],
    )
  return trained


def _refuse_bad_options(config: build.Config) -> None:
  """Raises what the options of later parts would raise, before anything."""
  rollout_config.RolloutConfig(**config.rollout)
  advantages.group_advantages([0.0], [1], **config.advantage)
  weights.token_weights([], config.batch.aggregation)
  build.build_lora(config)
  roles = config.loop.trained_roles
  if config.rollout.workflow == 'single' and (
    config.subagent_policy or roles == 'subagent'
  ):
    raise ValueError(
      "there are no subagents while config.rollout.workflow is 'single': leave "
      'config.subagent_policy empty and do not train subagents alone'
    )
  for name in filter(None, build.policy_names(config)):
    build.policy_folder(name)
  if config.subagent_policy and roles == 'both':
    raise ValueError(
      'a run trains one policy: with config.subagent_policy set '
      "config.loop.trained_roles to 'lead', 'subagent' or 'none'"
    )
  if config.grpo.tis_level != 'off' and not config.loop.rescore:
    raise ValueError(
      f'grpo.tis_level is {config.grpo.tis_level!r}, but without loop.rescore '
      "there is nothing to correct: set loop.rescore=True, or tis_level='off'"
    )


def save_policy(
  folder: str | os.PathLike, policy: build.Policy, tokenizer: Any
) -> None:
  """Writes a policy in Hugging Face layout with its tokenizer."""
  # float32, so that what is loaded is what was trained, to the bit.
  hf.save_pretrained(folder, policy.config, policy.params, dtype=jnp.float32)
  tokenizer.save(folder)


def evaluate(
  config: build.Config,
  split: str = 'test',
  *,
  policy: build.Policy | None = None,
  samples: int = 1,
  name: str = 'evaluation',
) -> Evaluation:
  """Rolls a policy out on a split and scores it.

  Args:
    config: see `config.default_config`.
    split: 'train', 'validation' or 'test'.
    policy: what to evaluate; the config's own by default.
    samples: rollouts a task.
    name: what the progress line calls it.
  """
  loaded, tokenizer = build.build_policy(config)
  policy = policy or loaded
  tasks = build.build_tasks(config, split)
  engine = build.build_engine(config, policy)
  engines = dict.fromkeys(rewards.ROLES, engine)
  engines |= build.build_frozen_engines(config, tokenizer)
  progress.say(f'engine: {engine.plan}')
  stage = progress.Stage(name, len(tasks) * samples, 'rollouts')
  with build.open_judge(config) as judge, stage:
    groups, scores = runner.evaluate(
      engines,
      tokenizer,
      build.build_tools(config, judge),
      tasks,
      samples=samples,
      seed=config.seed,
      rollout=dict(config.rollout),
      reward=dict(config.reward),
      judge=judge,
      progress=lambda done, total: stage.update(done),
    )
  rows = runner.result_rows(tasks, groups, scores)
  return Evaluation(tasks, rows, groups, scores)
