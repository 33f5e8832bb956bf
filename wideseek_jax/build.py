"""From a config to the parts of a run: the only module that knows them all.

In: a config (see `config.default_config`). Out: policy, tokenizer, engine,
tools, tasks, compiled step, or the whole training run. A notebook calls these
one by one; `run` puts them together.
"""

import contextlib
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections

from wideseek_jax import backends, sharding, types
from wideseek_jax import cache as cache_lib
from wideseek_jax import tokenizer as tokenizer_lib
from wideseek_jax.engine import engine as engine_lib
from wideseek_jax.judge import client, summary
from wideseek_jax.judge import local as local_judge
from wideseek_jax.models import config as model_config
from wideseek_jax.models import hf, transformer
from wideseek_jax.models import lora as lora_lib
from wideseek_jax.tasks import datasets, facts
from wideseek_jax.tools import corpus as corpus_lib
from wideseek_jax.tools import local, retrieval, search
from wideseek_jax.training import grpo_step, train_state

_PACKAGED = pathlib.Path(__file__).parent / 'policies'

Config = ml_collections.ConfigDict


@dataclasses.dataclass(frozen=True)
class Policy:
  """A model with its parameters on a mesh.

  Attributes:
    config: the model's shape.
    params: pytree, sharded by the training table; float32, or the type that
      config.lora holds frozen parameters in.
    mesh: where they live.
  """

  config: model_config.ModelConfig
  params: Any
  mesh: jax.sharding.Mesh


def policy_folder(name: str) -> pathlib.Path:
  """The folder of a policy: a path, or 'packaged:NAME' for a shipped one.

  A run's workdir stands for the policy that it trained.

  Raises:
    FileNotFoundError: there is no such folder.
  """
  prefix = 'packaged:'
  if name.startswith(prefix):
    folder = _PACKAGED / name.removeprefix(prefix)
  else:
    folder = pathlib.Path(name)
    if (folder / 'policy/config.json').is_file():
      folder /= 'policy'
  if not (folder / 'config.json').is_file():
    raise FileNotFoundError(
      f'no policy at {folder}; name a Hugging Face model folder with a '
      f"config.json, or 'packaged:tiny'"
    )
  return folder


def build_mesh(config: Config) -> jax.sharding.Mesh:
  """The mesh of config.mesh over the first devices that it needs.

  A size of -1 takes all devices that are left.
  """
  sizes = config.mesh.values()
  devices = jax.devices()
  if -1 not in sizes:
    devices = devices[: math.prod(sizes)]
  return sharding.make_mesh(devices, **config.mesh)


def policy_names(config: Config) -> tuple[str, str]:
  """Which policy is trained, and which other one plays beside it.

  Returns:
    config.policy and config.subagent_policy ('' if the first plays every role);
    in the other order if subagents alone are trained.
  """
  names = config.policy, config.subagent_policy
  swapped = names[1] and config.loop.trained_roles == 'subagent'
  return names[::-1] if swapped else names


def build_policy(config: Config) -> tuple[Policy, tokenizer_lib.Tokenizer]:
  """Loads the policy and its tokenizer from a Hugging Face folder.

  Of two policies (`policy_names`) that is the one that may be trained.

  Raises:
    FileNotFoundError: the folder or one of its files is missing.
    ValueError: the files do not fit each other.
  """
  lora = build_lora(config)
  dtype = lora.base_dtype if lora else 'float32'
  return _load_policy(config, policy_names(config)[0], dtype)


def _load_policy(
  config: Config, name: str, dtype: str
) -> tuple[Policy, tokenizer_lib.Tokenizer]:
  folder = policy_folder(name)
  tokenizer = tokenizer_lib.Tokenizer.load(folder)
  mesh = build_mesh(config)
  shape = hf.load_config(folder)
  if tokenizer.vocab_size > shape.vocab_size:
    raise ValueError(
      f'{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model '
      f'{shape.vocab_size}; they are not of one policy'
    )
  shardings = sharding.param_shardings(
    mesh,
    transformer.param_shapes(shape),
    transformer.logical_axes(shape),
    sharding.TRAIN_TABLE,
  )
  _, params = hf.load_pretrained(folder, shardings, dtype)
  return Policy(shape, params, mesh), tokenizer


def build_lora(config: Config) -> lora_lib.Lora | None:
  """Which adapters are trained; None if it is all parameters.

  Raises:
    ValueError: an option of config.lora has no such value.
  """
  return lora_lib.Lora(**config.lora) if config.lora.rank else None


def build_frozen(config: Config, policy: Policy) -> lora_lib.Frozen | None:
  """What adapters are added to: the policy; None if all of it is trained."""
  lora = build_lora(config)
  return lora and lora_lib.Frozen(policy.params, lora)


def build_engine(config: Config, policy: Policy) -> engine_lib.Engine:
  """An engine with paged KV that holds the policy's parameters."""
  return engine_lib.Engine(
    policy.config, policy.params, policy.mesh, **config.engine
  )


def build_frozen_engines(
  config: Config, tokenizer: tokenizer_lib.Tokenizer
) -> dict[types.Role, engine_lib.Engine]:
  """The engine of the other policy, by the role that it plays; {} if none.

  Raises:
    FileNotFoundError, ValueError: as `build_policy`; the two have not one
      tokenizer.
  """
  name = policy_names(config)[1]
  if not name:
    return {}
  policy, other = _load_policy(config, name, config.engine.dtype)
  if other.vocab != tokenizer.vocab:
    raise ValueError(
      f'the tokenizers of config.policy {config.policy!r} and '
      f'config.subagent_policy {config.subagent_policy!r} differ: agents of '
      f'one rollout need the same'
    )
  is_lead = config.loop.trained_roles == 'subagent'
  return {'lead' if is_lead else 'subagent': build_engine(config, policy)}


@contextlib.contextmanager
def open_judge(config: Config) -> Iterator[types.Judge | None]:
  """The judge of config.judge or config.judge_policy, None if there is none.

  Raises:
    FileNotFoundError: there is no such policy.
    ValueError: both are set, or pages are to be summarised by neither.
    types.JudgeUnavailable: the cache cannot be used.
  """
  if config.judge.base_url and config.judge_policy:
    raise ValueError(
      'set config.judge.base_url or config.judge_policy, not both'
    )
  if config.judge.base_url:
    with contextlib.closing(client.HttpJudge(**config.judge)) as judge:
      yield judge
  elif config.judge_policy:
    with contextlib.ExitStack() as stack:
      yield _local_judge(config, stack)
  elif config.summary_chars:
    raise ValueError(
      'config.summary_chars needs a judge: set config.judge.base_url or '
      'config.judge_policy'
    )
  else:
    yield None


def _local_judge(
  config: Config, stack: contextlib.ExitStack
) -> local_judge.LocalJudge:
  """The judge of config.judge_policy; its cache is closed with the stack."""
  folder, options = policy_folder(config.judge_policy), config.judge_engine
  policy, tokenizer = _load_policy(config, config.judge_policy, options.dtype)
  engine = engine_lib.Engine(
    policy.config, policy.params, policy.mesh, **options
  )
  cache = None
  if config.judge.cache:
    cache = cache_lib.TextCache(
      config.judge.cache, 'config.judge.cache', types.JudgeUnavailable
    )
    stack.enter_context(contextlib.closing(cache))
  # Other weights may stand there at another time.
  stats = sorted((p.name, p.stat()) for p in folder.iterdir())
  files = [(name, found.st_size, found.st_mtime_ns) for name, found in stats]
  model = f'{folder.resolve()} {options.dtype} {files}'
  return local_judge.LocalJudge(
    engine, tokenizer, config.judge.max_tokens, model, cache
  )


def build_tools(
  config: Config, judge: types.Judge | None = None
) -> types.Tools:
  """Search and access of config.tools, by default over the facts' pages.

  Args:
    config: see `config.default_config`.
    judge: reports on the pages if config.summary_chars asks for it.

  Raises:
    OSError, ValueError: what config.tools names is not there, or a package
      for it is not installed; says what to do.
  """
  if config.tools.kind == 'facts':
    tools = _facts_tools()
  else:
    tools = backends.open_tools(config.tools)
  if judge is None or not config.summary_chars:
    return tools
  return summary.SummarisingTools(tools, judge, config.summary_chars)


def build_retriever(config: Config) -> retrieval.Retriever:
  """The index of config.tools: what a search server serves.

  Raises:
    OSError, ValueError: as `build_tools`; of what has no index, too.
  """
  if config.tools.kind == 'facts':
    return _facts_tools().index
  return backends.open_retriever(config.tools)


def build_tasks(config: Config, split: str) -> list[types.Task]:
  """The tasks of a split: config.data.num_<split> of them.

  They come from config.data.<split>_file or, if that is '', from the facts,
  each kind of task having an equal share.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: fewer tasks exist, a line of the file is broken.
  """
  data = config.data
  count, file = data[f'num_{split}'], data[f'{split}_file']
  if file:
    tasks = datasets.load_tasks(file)
    if len(tasks) < count:
      raise ValueError(
        f'{file} has {len(tasks)} tasks; config.data.num_{split} asks for '
        f'{count}'
      )
    return tasks[:count]
  world = _facts_world()
  tasks = []
  for index, kind in enumerate(data.kinds):
    share = count // len(data.kinds) + (index < count % len(data.kinds))
    sizes = {}
    if kind == 'wide':
      names = ('min_rows', 'max_rows', 'min_columns', 'max_columns')
      sizes = {name: data[name] for name in names}
    # The tasks are data: the same ones for every seed of the run.
    tasks += facts.build_tasks(world, split, kind, share, seed=0, **sizes)
  return tasks


def init_train_state(config: Config, policy: Policy) -> train_state.TrainState:
  """The state before the first update."""
  lora, trained = build_lora(config), policy.params
  if lora:
    key = jax.random.key(config.seed)
    trained = lora_lib.init_adapters(policy.config, lora, key)
  return train_state.init_train_state(
    policy.config,
    train_state.make_optimizer(**config.optimizer),
    policy.mesh,
    trained,
    lora,
  )


def abstract_train_state(
  config: Config, policy: Policy
) -> train_state.TrainState:
  """Shapes and shardings of the state: what a checkpoint is restored into."""
  return train_state.abstract_train_state(
    policy.config,
    train_state.make_optimizer(**config.optimizer),
    policy.mesh,
    build_lora(config),
  )


def build_train_step(config: Config, policy: Policy) -> Callable[..., Any]:
  """The jitted GRPO step: (state, batch) -> (state, metrics).

  With config.lora it trains adapters of the policy's parameters as they are.
  """
  return grpo_step.make_grpo_step(
    policy.config,
    train_state.make_optimizer(**config.optimizer),
    policy.mesh,
    build_frozen(config, policy),
    temperature=config.rollout.temperature,
    **config.grpo,
  )


# The facts are constants of the installed packages; reading them takes seconds.
@functools.cache
def _facts_world() -> Any:
  return facts.build_world()


@functools.cache
def facts_corpus() -> corpus_lib.Corpus:
  """The pages of the facts world."""
  return facts.build_corpus(_facts_world())


@functools.cache
def _facts_tools() -> local.LocalTools:
  corpus = facts_corpus()
  return local.LocalTools(corpus, search.SearchIndex(corpus))
