"""The plan of a run: the whole of it on simulated devices, and on paper."""

import jax
import pytest
from jax.experimental import topologies

from experiments import plan_pod, pod, roofline, workload
from experiments.configs import qwen3_4b_pod
from tests.experiments import helpers
from wideseek_jax import config as config_lib
from wideseek_jax.engine import memory
from wideseek_jax.models import config as model_config

MICRO = model_config.ModelConfig(64, 32, 64, 2, 4, 2, 8)
TOKENS = workload.Workload(
  rollouts=8,
  group=4,
  lead_prompt=16,
  lead_turns=2,
  lead_turn=8,
  subagents=2,
  report=4,
  sub_prompt=12,
  sub_shared=8,
  sub_turns=2,
  sub_turn=4,
  observation=8,
)


def micro_config(**engine):
  config = config_lib.default_config()
  config.mesh.update(fsdp=4, tensor=2)
  config.batch.update(row_len=64, rows_per_micro_batch=4, min_micro_batches=2)
  config.grpo.update(attention_block=16, logprob_chunk=16, remat='block')
  config.rollout.max_context = 64
  sizes = {
    'num_rows': 8,
    'num_pages': 64,
    'page_size': 8,
    'max_context': 64,
    'chunk_len': 4,
    'prefill_len': 8,
    'prefill_rows': 2,
  }
  config.engine.update(sizes | engine)
  return config


def plan(config, hbm_bytes=10**9, **more):
  return pod.plan(config, MICRO, jax.devices(), hbm_bytes, TOKENS, **more)


@pytest.fixture(scope='module')
def micro():
  return plan(micro_config())


def test_what_a_chip_holds(micro):
  layers, output = roofline.matrix_params(MICRO)
  numbers = layers + output
  held = micro.held
  # Every matrix is dealt out over all eight; norms over the four of fsdp, or
  # not at all.
  norms = 2 * (2 * 32 + 2 * 8) + 32
  assert 4 * numbers / 8 < held.params <= 4 * (numbers / 8 + norms)
  # Two moments, and a count or two.
  assert 2 * held.params <= held.moments <= 2 * held.params + 16
  # Room for 4 micro-batches of a row a device: eight arrays, three scalars.
  assert held.batch == 4 * 64 * 8 * 4 + 3 * 4
  # At least the gradients.
  assert held.step > held.params
  # 16 pages and a scratch page of 8 tokens; one of two kv heads of 8 numbers,
  # keys and values, 2 layers, float32.
  assert held.pages == 17 * 8 * (2 * 8 * 2 * 4)


def test_what_a_step_computes(micro):
  # 16 + 2·8 + 8 = 40 of a lead, 12 + 2·4 + 8 = 28 of each subagent: 96 a
  # rollout, 32 sampled, (3·16 + 7·8) / 4 = 26 known from others.
  train, prefill, decode = micro.phases.values()
  assert train.tokens == 8 * (96 - 26)
  assert prefill.tokens == 8 * (96 - 32 - 26)
  assert decode.tokens == 8 * 32
  # 560 tokens in rows of 4 · 64 that are 95 % full; 4 rows of 8 tokens in a
  # call, 8 rows sample.
  assert (train.calls, prefill.calls, decode.calls) == (3, 304 / 32, 32)
  for phase in micro.phases.values():
    assert phase.work.sent_bytes > 0
    assert phase.work.hbm_bytes > 0


def test_an_engine_alone_takes_what_there_is():
  config = micro_config(num_pages=0)
  found = plan(config, hbm_bytes=2 * 10**6, train=False)
  assert found.engine.num_pages > 64
  assert list(found.phases) == ['prefill', 'decode']
  assert found.held.params == 0
  assert found.held.most <= 2 * 10**6


@pytest.mark.parametrize(
  ('hbm_bytes', 'engine', 'train', 'words'),
  [
    # The state alone is too large, the engine is, or what it was given is.
    (1000, {}, True, r'does not fit: params .* but a chip has'),
    (1000, {}, False, r'the engine does not fit: .* a chip of .* holds params'),
    (1000, {'memory_bytes': 10**9}, False, r'does not fit: .* \+ pages .* has'),
  ],
)
def test_what_does_not_fit_is_refused(hbm_bytes, engine, train, words):
  with pytest.raises(ValueError, match=words):
    plan(micro_config(**engine), hbm_bytes=hbm_bytes, train=train)


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'grpo.kl_coef': 0.1}, 'kl_coef'),
    ({'rollout.max_context': 39}, 'an agent of 40 tokens'),
  ],
)
def test_what_is_not_planned_for(change, words):
  config = micro_config()
  config.update_from_flattened_dict(change)
  with pytest.raises(ValueError, match=words):
    plan(config)


def test_the_table_by_hand():
  # Ten calls: 4 s of operations, 2 s of memory, 3 s of links; one of 60 s.
  chip = roofline.Chip(
    flops=1e12, hbm_bytes=9 * 10**9, hbm_rate=1e9, link_rate=1e9
  )
  train = pod.Phase(
    800, 10, roofline.Work(4e12, 2e9, 6e9), 1e12, {'all-to-all': 6e9}
  )
  decode = pod.Phase(600, 1, roofline.Work(1e12, 60e9, 0), 2e12, {})
  held = pod.Held(
    *(int(size * 1e9) for size in (1, 2, 0.25, 1.25, 0.5, 3, 0.125))
  )
  assert held.most == 8 * 10**9
  engine = memory.Plan(8, 64, 8, 4, 1, 1, 1, None)
  text = plan_pod.table(
    pod.Plan(held, engine, 8.0, {'train': train, 'decode': decode}),
    chip,
    2,
    432,
  )
  rows = [line.split() for line in text.splitlines()]
  assert [float(x) for x in rows[1]] == [1, 2, 0.25, 1.25, 0.5, 3, 0.12, 8, 9]
  assert [
    'train',
    *('4.0000', '1.0000', '2.00000', '6.00000'),
    *('4.00000', '2.00000', '3.00000'),
  ] in rows
  assert ['train', '10', '800', '40.0', '20'] in rows
  assert ['decode', '1', '600', '60.0', '10'] in rows
  assert 'train sends 6.000 by all-to-all' in text
  # 432 steps of 100 s are half a day.
  assert 'a step 100 s, 432 steps 0.50 days' in text
  assert 'that speed 1.25 days' in text


def test_a_policy_is_known_by_its_name(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert plan_pod.shape_of('x/Qwen3-4B') == model_config.QWEN3['4b']
  assert plan_pod.shape_of('packaged:tiny').vocab_size == 2048
  with pytest.raises(FileNotFoundError):
    plan_pod.shape_of('x/other')


@pytest.mark.parametrize('name', ['v5e-16', 'v5p-16', 'v6e-16'])
def test_the_config_is_the_papers(name):
  config = qwen3_4b_pod.get_config(name)
  assert config.loop.tasks_per_step * config.rollout.group_size == 1024
  assert (config.rollout.max_lead_turns, config.rollout.max_context) == (
    10,
    32_000,
  )
  assert config.batch.row_len >= config.rollout.max_context
  assert config.engine.max_context >= config.rollout.max_context


def test_a_slice_that_there_is_not():
  with pytest.raises(ValueError, match=r"no slice 'v7-1'.*v5e-16"):
    qwen3_4b_pod.get_config('v7-1')


@pytest.mark.slow
def test_a_refusal_is_one_line():
  found = helpers.run('plan_pod', '--topology=v5e-16')
  assert found.returncode == 2, found.stderr
  assert 'v5e:4x4 (sold as v5e-16)' in found.stderr.splitlines()[-1]


@pytest.mark.slow
def test_chips_that_are_not_there(monkeypatch):
  reason = 'needs libtpu: pip install jax[tpu]'
  pytest.importorskip('libtpu', reason=reason)
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  shape = model_config.ModelConfig(2048, 512, 1024, 2, 8, 4, 128)
  config = micro_config(page_size=64, max_context=2048, prefill_len=128)
  config.mesh.update(fsdp=2, tensor=2)
  config.batch.update(row_len=2048, rows_per_micro_batch=2)
  config.grpo.update(attention_block=512, compute_dtype='bfloat16')
  config.engine.update(num_pages=0, dtype='bfloat16')
  chips = topologies.get_topology_desc('v5e:2x2', 'tpu').devices
  chip, _ = roofline.parse_topology('v5e:2x2')
  found = pod.plan(config, shape, chips, chip.hbm_bytes, TOKENS)
  assert found.held.most < chip.hbm_bytes
  for phase in found.phases.values():
    assert phase.work.sent_bytes > 0
    assert phase.compiled_flops > 0
