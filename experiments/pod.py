"""A training run on chips that need not be there: what it holds and how long.

In: a config, a model's shape, devices of a topology and a workload. The GRPO
step and both calls of the engine are compiled for them as they would run. Out:
the bytes that a chip holds, and what it computes, reads and sends in a step of
the run; or an error with the arithmetic, if that does not fit.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections

from experiments import collectives, roofline
from experiments import workload as workload_lib
from wideseek_jax import build, progress, sharding
from wideseek_jax.engine import ahead, memory
from wideseek_jax.engine import kernels as engine_kernels
from wideseek_jax.models import config as model_config
from wideseek_jax.training import batching, kernels
from wideseek_jax.training import micro_batches as micro_batches_lib

# Positions of packed rows that hold a token; real batches have more.
FILL = 0.95


@dataclasses.dataclass(frozen=True)
class Held:
  """Bytes of a chip.

  Attributes:
    params: the float32 parameters.
    moments: the optimiser's.
    batch: the packed rows of an update.
    step: gradients, activations and all else that an update needs meanwhile.
    weights: the engine's.
    pages: its keys and values.
    call: what the larger of its calls needs meanwhile.
  """

  params: int = 0
  moments: int = 0
  batch: int = 0
  step: int = 0
  weights: int = 0
  pages: int = 0
  call: int = 0

  @property
  def most(self) -> int:
    """At a time: engine and state stay, an update and a call take turns."""
    stays = self.params + self.moments + self.weights + self.pages
    return stays + max(self.batch + self.step, self.call)

  def __str__(self) -> str:
    parts = ' + '.join(
      f'{name} {size / 1e9:.2f}'
      for name, size in dataclasses.asdict(self).items()
    )
    return f'{parts}: at most {self.most / 1e9:.2f} GB at a time'


@dataclasses.dataclass(frozen=True)
class Program:
  """What the compiler says of a program.

  Attributes:
    scratch: bytes that it needs while it runs.
    flops: operations of a chip, the body of each loop once.
    sent: bytes that a chip sends in a turn, by kind of collective.
  """

  scratch: int = 0
  flops: float = 0.0
  sent: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Phase:
  """One part of a step of the run.

  Attributes:
    tokens: that it treats in a step, on all chips.
    calls: micro-batches, calls or sampled tokens a row, in a step.
    work: of a chip for one of them.
    compiled_flops: what the compiler counts for it.
    sent: its bytes sent, by kind of collective.
  """

  tokens: float
  calls: float
  work: roofline.Work
  compiled_flops: float
  sent: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What `plan` finds.

  Attributes:
    held: bytes of a chip.
    engine: rows and pages.
    rows: that sample at a time; fewer than the engine's if their pages run out.
    phases: 'train' (if asked for), 'prefill' and 'decode'.
  """

  held: Held
  engine: memory.Plan
  rows: float
  phases: dict[str, Phase]


def plan(
  config: ml_collections.ConfigDict,
  shape: model_config.ModelConfig,
  devices: Sequence[Any],
  hbm_bytes: int,
  workload: workload_lib.Workload,
  *,
  train: bool = True,
  compiled: bool = True,
) -> Plan:
  """Compiles the three programs of a run and counts what they take.

  Args:
    config: of the run.
    shape: of its model.
    devices: of a topology, or real ones.
    hbm_bytes: what each of them has.
    workload: the tokens of a step.
    train: whether there are updates; without, the engine has all memory.
    compiled: whether to compile; if not, programs are only lowered, and what
      they need while they run and send to each other counts as nothing.

  Raises:
    ValueError: something does not fit, or the config has parts that are not
      counted.
  """
  if config.loop.rescore or config.grpo.kl_coef:
    raise ValueError('not planned for: loop.rescore and grpo.kl_coef')
  longest = max(workload.lead_len, workload.sub_len)
  if longest > config.rollout.max_context:
    raise ValueError(
      f'an agent of {longest:,} tokens is beyond rollout.max_context='
      f'{config.rollout.max_context:,}'
    )
  mesh = sharding.make_mesh(devices, **config.mesh)
  held, phases = Held(), {}
  compiler = functools.partial(_compile, hbm_bytes, compiled)
  if train:
    held, phases['train'] = _plan_training(
      config, shape, mesh, hbm_bytes, workload, compiler
    )
  return _plan_engine(
    config, shape, mesh, hbm_bytes, workload, compiler, held, phases
  )


def _plan_training(
  config: ml_collections.ConfigDict,
  shape: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  hbm_bytes: int,
  workload: workload_lib.Workload,
  compiler: Callable[..., Program],
) -> tuple[Held, Phase]:
  """What updates hold and do."""
  rows, row_len = config.batch.rows_per_micro_batch, config.batch.row_len
  shared = workload.shared if config.batch.share_prefixes else 0
  tokens = (workload.tokens - shared) * workload.rollouts
  micro_batches = math.ceil(
    tokens / config.loop.minibatches / (FILL * rows * row_len)
  )
  # As many as `batching.make_batch` makes of them.
  size = max(micro_batches, config.batch.min_micro_batches)
  size = 2 ** (size - 1).bit_length()
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (size, *x.shape[1:]) if x.ndim else (), x.dtype
    ),
    batching.make_sft_batch([], row_len=row_len, rows_per_micro_batch=rows),
  )
  policy = build.Policy(shape, None, mesh)
  state = build.abstract_train_state(config, policy)
  lowered = build.build_train_step(config, policy).lower(batch)
  batch = micro_batches_lib.batch_shapes(batch, mesh)
  held = Held(
    params=memory.device_bytes(state.params),
    moments=memory.device_bytes(state.opt_state),
    batch=memory.device_bytes(batch),
  )
  _refuse(held, hbm_bytes)
  program = compiler('train', lowered, held, micro_batches)
  held = dataclasses.replace(held, step=program.scratch)
  parts = mesh.shape['context']
  how = kernels.choose(
    config.grpo.attention,
    mesh.devices.flat[0].platform,
    shape.head_dim,
    row_len,
    parts,
  )
  # Rows that share prefixes are for blocks alone, which are computed up to
  # where their segments reach. A kernel computes all that comes before: for
  # the last part of a row that is nearly the whole row.
  attention, keys = 'blocks', workload.keys + config.grpo.attention_block
  if how.plain and not config.batch.share_prefixes:
    attention, keys = 'splash', row_len * (1 - 1 / (2 * parts))
  flops = roofline.train_flops(
    shape,
    rows * row_len,
    keys,
    attention=attention,
    remat=config.grpo.remat,
  )
  # Weights are read in bfloat16 by each pass, and float32 gradients read and
  # written. The optimiser reads these, parameters and two moments, and writes
  # the latter three.
  numbers = sum(roofline.matrix_params(shape)) / mesh.shape['tensor']
  passes = 2 + (config.grpo.remat == 'block')
  hbm = 2 * numbers * passes + 2 * held.params
  hbm += 7 * held.params / micro_batches
  work = roofline.Work(flops / mesh.size, hbm, sum(program.sent.values()))
  updates = config.loop.minibatches * config.loop.epochs
  phase = Phase(
    tokens * config.loop.epochs,
    micro_batches * updates,
    work,
    program.flops,
    program.sent,
  )
  return held, phase


def _plan_engine(
  config: ml_collections.ConfigDict,
  shape: model_config.ModelConfig,
  mesh: jax.sharding.Mesh,
  hbm_bytes: int,
  workload: workload_lib.Workload,
  compiler: Callable[..., Program],
  held: Held,
  phases: dict[str, Phase],
) -> Plan:
  """Adds what the engine holds and does."""
  options = config.engine
  how = engine_kernels.choose(
    options.attention,
    mesh.devices.flat[0].platform,
    shape.head_dim,
    options.page_size,
  )
  shards = sharding.ways(mesh, 'batch', sharding.DECODE_TABLE)
  sizes = {
    'dtype': options.dtype,
    'max_context': options.max_context,
    'prefill_len': options.prefill_len,
    'prefill_rows': options.prefill_rows + -options.prefill_rows % shards,
  }
  left = int((hbm_bytes - held.most) * (1 - memory.HEADROOM))
  try:
    engine = memory.plan(
      shape,
      mesh,
      how,
      budget=options.memory_bytes or left,
      num_rows=options.num_rows,
      num_pages=options.num_pages,
      page_size=options.page_size,
      **sizes,
    )
  except ValueError as error:
    raise ValueError(
      f'{error}; beside it a chip of {hbm_bytes / 1e9:.2f} GB holds {held}'
    ) from error
  held = dataclasses.replace(
    held, weights=engine.weight_bytes, pages=engine.pool_bytes
  )
  _refuse(held, hbm_bytes)
  lowered = ahead.lower_calls(
    shape, mesh, how, engine, chunk_len=options.chunk_len, **sizes
  )
  turns = {'prefill': 1, 'decode': options.chunk_len}
  programs = {
    name: compiler(name, call, held, turns[name])
    for name, call in lowered.items()
  }
  held = dataclasses.replace(
    held, call=max(program.scratch for program in programs.values())
  )
  _refuse(held, hbm_bytes)
  context = workload.context
  pages_a_row = context / engine.page_size
  rows = min(engine.num_rows, engine.num_pages / pages_a_row)

  def phase(name, tokens, call_rows, call_tokens, outputs):
    program = programs[name]
    flops = roofline.forward_flops(shape, call_tokens, context, outputs)
    held_keys = call_rows / shards * pages_a_row * engine.page_bytes
    work = roofline.Work(
      flops / mesh.size,
      engine.weight_bytes + held_keys,
      sum(program.sent.values()),
    )
    tokens *= workload.rollouts
    return Phase(
      tokens, tokens / call_tokens, work, program.flops, program.sent
    )

  readers = sizes['prefill_rows']
  read = readers * options.prefill_len
  phases = phases | {
    'prefill': phase('prefill', workload.read, readers, read, 0),
    'decode': phase('decode', workload.sampled, rows, rows, rows),
  }
  return Plan(held, engine, rows, phases)


def _compile(
  hbm_bytes: int,
  really: bool,
  name: str,
  lowered: jax.stages.Lowered,
  held: Held,
  turns: int,
) -> Program:
  """Compiles; `turns` are those of the loop whose end only its data tell."""
  if not really:
    return Program()
  start = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    raise ValueError(
      f'does not fit {hbm_bytes / 1e9:.2f} GB: {held} without what the program '
      f'needs while it runs; the compiler says: {str(error)[:400]}'
    ) from error
  took = progress.format_seconds(time.monotonic() - start)
  scratch = ahead.scratch_bytes(compiled)
  progress.say(
    f'{name}: compiled in {took}, needs {scratch / 1e9:.2f} GB a chip'
  )
  sent = collectives.sent_bytes(compiled.as_text(), unknown_trips=turns)
  return Program(
    scratch,
    roofline.compiled_flops(compiled),
    {kind: count / turns for kind, count in sent.items()},
  )


def _refuse(held: Held, hbm_bytes: int) -> None:
  if held.most > hbm_bytes:
    raise ValueError(
      f'does not fit: {held}, but a chip has {hbm_bytes / 1e9:.2f} GB'
    )
