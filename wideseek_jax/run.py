"""Whole runs: training with checkpoints and a log, evaluation of a policy.

In: a config and a workdir. Out: files in the workdir. What can be refused is
refused before anything is written.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.experimental import multihost_utils

from wideseek_jax import build, files, progress, types
from wideseek_jax.agents import rollout_config
from wideseek_jax.evaluation import rollout_records, runner
from wideseek_jax.models import hf, lora
from wideseek_jax.rl import advantages, weights
from wideseek_jax.tasks import rewards
from wideseek_jax.training import (
  best,
  checkpoint,
  finished,
  loop,
  metrics_log,
  multihost,
  preemption,
  train_state,
)
from wideseek_jax.training import parts as parts_lib
from wideseek_jax.training import workdir as workdir_lib


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


def build_parts(
  config: build.Config,
  policy: build.Policy,
  tokenizer: Any,
  judge: types.Judge | None = None,
) -> parts_lib.Parts:
  """Everything that the training loop works with."""
  shape, mesh = policy.config, policy.mesh
  return parts_lib.Parts(
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
    to_engine=lambda params: multihost.to_local(
      shape, params, mesh, config.engine.dtype
    ),
  )


def train(
  config: build.Config,
  workdir: str | os.PathLike,
  *,
  resume: bool = False,
  name: str = 'training',
  on_step: Callable[[int, dict[str, float]], None] | None = None,
  hosts: multihost.Hosts | None = None,
) -> build.Policy:
  """Trains a policy with GRPO; the workdir then holds the whole run.

  It writes checkpoints/, rollouts/ (of each step, as text), metrics.jsonl,
  TensorBoard events and, at the end, policy/ (Hugging Face layout) and, if it
  trained adapters, adapters/ (that of peft). With loop.eval_every, best/ is the
  policy of the highest validation reward so far, like policy/, and
  best/validation.json says which step it is.

  Args:
    config: see `config.default_config`.
    workdir: the run's folder.
    resume: go on from the newest checkpoint in it.
    name: what the progress line calls it.
    on_step: called with (step, metrics) after every update.
    hosts: the processes of the run, from `multihost.initialize`; they share the
      workdir.

  Returns:
    the trained policy.

  Raises:
    OSError, ValueError: one line on what does not fit and what to do.
      types.JudgeUnavailable is one of them: what was done until then is saved,
      and `resume` goes on from there.
    preemption.Preempted: SIGTERM came; as above.
  """
  workdir = pathlib.Path(workdir)
  loop_config = parts_lib.LoopConfig(seed=config.seed, **config.loop)
  _refuse_bad_options(config)
  hosts = hosts or multihost.Hosts()
  if hosts.count > loop_config.tasks_per_step:
    raise ValueError(
      f'{hosts.count} processes share {loop_config.tasks_per_step} tasks a '
      f'step: set loop.tasks_per_step to {hosts.count} or more'
    )
  with contextlib.ExitStack() as stack:
    judge = stack.enter_context(build.open_judge(config))
    if hosts.index == 0:
      workdir_lib.prepare(workdir, resume=resume)
      stack.enter_context(workdir_lib.locked(workdir))
      workdir_lib.compare(workdir, config.to_dict())
    hosts.wait('workdir')
    notice = stack.enter_context(preemption.Notice())
    try:
      trained = _train(
        config, workdir, loop_config, judge, hosts, notice, name, on_step
      )
    except types.JudgeUnavailable as error:
      raise types.JudgeUnavailable(
        f'{error}; {workdir} holds all that was done: --resume goes on from '
        f'there'
      ) from error
    except OSError as error:
      if error.errno != errno.ENOSPC:
        raise
      raise OSError(
        f'no space is left for {workdir} ({error}); what was saved is whole: '
        f'make room, then go on with --resume'
      ) from error
    hosts.close()
  return trained


def _train(
  config: build.Config,
  workdir: pathlib.Path,
  loop_config: parts_lib.LoopConfig,
  judge: types.Judge | None,
  hosts: multihost.Hosts,
  notice: preemption.Notice,
  name: str,
  on_step: Callable[[int, dict[str, float]], None] | None,
) -> build.Policy:
  policy, tokenizer = build.build_policy(config)
  saved = workdir / workdir_lib.CHECKPOINTS
  try:
    state, _ = checkpoint.restore_latest(
      saved, build.abstract_train_state(config, policy)
    )
  except FileNotFoundError:
    if metrics_log.read_metrics(workdir):
      progress.say(f'{workdir} has no checkpoint: the run begins anew')
    state = build.init_train_state(config, policy)
  # The policy as it was is kept only if something is measured against it or
  # added to it.
  ref_params = policy.params if config.grpo.kl_coef else None
  if not config.lora.rank:
    policy = dataclasses.replace(policy, params=state.params)
  parts = build_parts(config, policy, tokenizer, judge)
  made = finished.Finished(workdir, hosts.index)
  log = None
  if hosts.index == 0:
    progress.say(f'engine: {parts.engine.plan}')
    log = metrics_log.MetricsLog(workdir, resume_step=int(state.step))
    workdir_lib.write_config(workdir, config.to_dict())
  hosts.wait('log')

  def write(step: int, metrics: dict[str, float]) -> None:
    if log is not None:
      log.write(step, metrics)
      if on_step is not None:
        on_step(step, metrics)

  def keep(name: str, step: int, *scored: Any, **options: Any) -> None:
    if hosts.index:
      return
    # A file a step: a resumed run writes the same ones again.
    files.write_jsonl(
      workdir / f'rollouts/{name}-{step:06d}.jsonl',
      rollout_records.of_groups(
        *scored, step=step, aggregation=config.batch.aggregation, **options
      ),
    )

  def save_merged(folder: pathlib.Path, state: train_state.TrainState) -> Any:
    params = lora.merge(parts.frozen, state.params)
    merged = dataclasses.replace(policy, params=params)
    # Every process has a whole copy, one writes it.
    params = multihost.to_local(policy.config, params, policy.mesh, 'float32')
    if hosts.index == 0:
      save_policy(folder, dataclasses.replace(policy, params=params), tokenizer)
    return merged

  saver = checkpoint.Saver(
    saved, keep=config.keep_checkpoints, on_saved=made.forget
  )

  def save(state: train_state.TrainState) -> None:
    if saver.begun != int(state.step):
      saver.save(state, extra={}, config=config.to_dict())

  stage = progress.Stage(name, loop_config.num_steps, 'steps')
  with contextlib.ExitStack() as stack:
    if log is not None:
      stack.callback(log.close)
      stack.enter_context(stage)
    stack.enter_context(saver)
    state = loop.train(
      state,
      parts,
      loop_config,
      log=write,
      save=save,
      keep=keep,
      validated=best.keeper(
        workdir, metrics_log.read_metrics(workdir), save_merged
      ),
      progress=stage.update if log else lambda step, note: None,
      ref_params=ref_params,
      made=made,
      hosts=hosts,
      notice=notice,
    )
  trained = save_merged(workdir / 'policy', state)
  if parts.frozen:
    adapters = state.params
    if hosts.count > 1:
      adapters = multihost_utils.process_allgather(adapters, tiled=True)
    if hosts.index == 0:
      hf.save_adapters(
        workdir / 'adapters',
        adapters,
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
  if config.loop.asynchronous and config.grpo.tis_level == 'off':
    raise ValueError(
      'loop.asynchronous learns from rollouts of older weights: set '
      "loop.rescore=True and grpo.tis_level='token' to weigh them"
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
