"""What the scorer computes, holds and sends; the steps are tested with it."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import examples
from wideseek_jax import sharding
from wideseek_jax.models import transformer
from wideseek_jax.training import batching, grpo_step, micro_batches

GROUPS, ADVANTAGES = examples.random_groups(14, size=3)
OPTIONS = {'logprob_chunk': 3, 'attention_block': 4}


def _batch(rows=8):
  return batching.make_batch(
    GROUPS,
    ADVANTAGES,
    row_len=16,
    rows_per_micro_batch=rows,
    min_micro_batches=2,
  )


def _step(sizes, **options):
  """(state before, state after, metrics) of an update of plain descent."""
  mesh = examples.mesh(**sizes)
  optimizer, before = examples.plain_state(mesh)
  step = grpo_step.make_grpo_step(
    examples.CONFIG, optimizer, mesh, **OPTIONS | options
  )
  after, metrics = step(before, _batch())
  return before, after, metrics


@pytest.fixture(scope='module')
def base():
  return _step({})


@pytest.mark.parametrize(
  'sizes',
  [
    {'context': 8},
    {'fsdp': 2, 'context': 2, 'tensor': 2},
    pytest.param(
      {'data': 2, 'context': 2, 'tensor': 2}, marks=pytest.mark.slow
    ),
    {'data': 8},
    {'fsdp': 8},
    {'tensor': 8},
    pytest.param({'data': 2, 'fsdp': 2, 'context': 2}, marks=pytest.mark.slow),
  ],
)
def test_an_update_is_the_same_on_every_mesh(base, sizes):
  _, expected, expected_metrics = base
  before, after, metrics = _step(sizes)
  for name, value in expected_metrics.items():
    np.testing.assert_allclose(
      metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name
    )
  # Descent at rate 1: the parameters differ by the gradient.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    after.params,
    expected.params,
  )
  # The state was given away, and every shard stayed where it was.
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
  for old, new in zip(
    jax.tree.leaves(before), jax.tree.leaves(after), strict=True
  ):
    assert old.sharding == new.sharding


def _gradient(config, mesh, **options):
  """jit(params, micro-batch) -> gradient of the sum of all log-probs."""
  score = micro_batches.make_scorer(config, mesh, **OPTIONS | options)

  def loss(params, micro_batch):
    return jnp.sum(score(params, micro_batch).logprobs * micro_batch.weights)

  return jax.jit(jax.grad(loss))


def test_nothing_is_laid_out_twice(capfd):
  # XLA says so where it can only gather an array whole and cut it again.
  mesh = examples.mesh(2, 2, 2)
  config = dataclasses.replace(examples.CONFIG, num_layers=2)
  params = jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    transformer.param_shapes(config),
    sharding.param_shardings(
      mesh,
      transformer.param_shapes(config),
      transformer.logical_axes(config),
      sharding.TRAIN_TABLE,
    ),
  )
  batch = micro_batches.put_batch(_batch(), mesh)
  micro_batch = jax.jit(micro_batches.take_micro_batch)(batch, 0)
  _gradient(config, mesh).lower(params, micro_batch).compile()
  assert 'rematerialization' not in capfd.readouterr().err


def _largest(program):
  """Elements of the largest array that a printed program names."""
  shapes = re.findall(r'\w\[([\d,]+)\]', program)
  return max(math.prod(map(int, shape.split(','))) for shape in shapes)


@pytest.mark.parametrize(('chunk', 'whole'), [(8, False), (64, True)])
def test_logits_of_a_row_are_never_whole(chunk, whole):
  config = dataclasses.replace(examples.CONFIG, vocab_size=96)
  gradient = _gradient(config, examples.mesh(), logprob_chunk=chunk)
  batch = batching.make_batch(GROUPS, ADVANTAGES, row_len=64)
  micro_batch = micro_batches.take_micro_batch(batch, 0)
  shapes = transformer.param_shapes(config)
  program = str(jax.make_jaxpr(gradient)(shapes, micro_batch))
  assert (_largest(program) >= 64 * 96) == whole


def test_bfloat16_sums_gradients_in_float32():
  # One token 512 times: in bfloat16 a sum of equal terms stands still at 256
  # of them.
  config = dataclasses.replace(examples.CONFIG, tied=False)
  params = transformer.init_params(config, jax.random.key(0))
  batch = batching.make_sft_batch(
    [examples.trajectory([0] + [1] * 16)], row_len=512
  )
  blank = micro_batches.take_micro_batch(batch, 0)
  place = np.arange(512, dtype=np.int32)[None]
  micro_batch = dataclasses.replace(
    blank,
    tokens=0 * blank.tokens,
    targets=0 * blank.targets,
    positions=place % 16,
    segment_ids=place // 16 + 1,
    ends=place // 16 * 16 + 16,
    weights=1 + 0 * blank.weights,
  )
  low, exact = (
    _gradient(
      config,
      examples.mesh(),
      attention_block=64,
      logprob_chunk=16,
      compute_dtype=dtype,
    )(params, micro_batch)
    for dtype in (jnp.bfloat16, jnp.float32)
  )
  for name in ('embedding', 'unembedding', 'final_norm'):
    a, b = np.asarray(low[name]), np.asarray(exact[name])
    assert a.dtype == np.float32
    assert np.linalg.norm(a - b) < 0.03 * np.linalg.norm(b), name


def test_time_must_divide_over_the_devices():
  batch = batching.make_batch(GROUPS, ADVANTAGES, row_len=18)
  with pytest.raises(ValueError, match='18 tokens a row do not divide over 4'):
    micro_batches.put_batch(batch, examples.mesh(context=4))


@pytest.mark.parametrize(('remat', 'grows'), [('block', False), ('none', True)])
def test_layers_are_scanned_unless_a_cpu_has_them_written_out(remat, grows):
  def program(num_layers):
    config = dataclasses.replace(examples.CONFIG, num_layers=num_layers)
    micro_batch = micro_batches.take_micro_batch(_batch(), 0)
    gradient = _gradient(config, examples.mesh(), remat=remat)
    return gradient.lower(transformer.param_shapes(config), micro_batch)

  # Scanned, the step's program is the same, but for sizes, at any depth.
  two, eight = (program(n).as_text().count('\n') for n in (2, 8))
  assert (eight > two) == grows
