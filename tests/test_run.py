"""Whole runs of the shipped policy, shrunk: the real loop on real facts."""

import dataclasses
import json
import socket
import weakref

import jax
import numpy as np
import pytest

import wideseek_jax as ws
from tests.judge import server
from wideseek_jax import build, run, testing, types
from wideseek_jax.evaluation import rollout_records
from wideseek_jax.tasks import lines
from wideseek_jax.training import metrics_log


def small_config():
  config = ws.default_config('tiny')
  # Small tables, which the shipped policy often gets right.
  config.data.update(num_train=6, num_validation=2, num_test=4)
  config.data.update(max_rows=4, max_columns=2)
  config.rollout.group_size = 4
  # Four rows: fewer shapes to compile than for more.
  config.engine.update(num_rows=4, num_pages=2048)
  config.loop.update(
    num_steps=2, tasks_per_step=2, checkpoint_every=1, eval_every=2
  )
  return config


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """An uninterrupted run of two steps."""
  workdir = tmp_path_factory.mktemp('whole')
  return workdir, run.train(small_config(), workdir)


def rows_without_times(workdir):
  return [
    {
      name: value
      for name, value in row.items()
      if not name.startswith(('time/', 'engine/'))
    }
    for row in metrics_log.read_metrics(workdir)
  ]


def test_a_run_leaves_what_it_should(whole):
  workdir, policy = whole
  rows = metrics_log.read_metrics(workdir)
  assert [row['step'] for row in rows] == [0, 1]
  assert 'valid/item_f1' in rows[1] and 'valid/item_f1' not in rows[0]
  # Equal weights of all tasks: what is trained sums to at most 1.
  assert all(0 < row['rollout/reward'] <= 1.15 for row in rows)
  assert any(row['train/grad_norm'] > 0 for row in rows)
  assert list(workdir.glob('tensorboard/events.*')), 'no TensorBoard file'
  assert_rollouts_were_kept(workdir, rows)
  # The only validation was after the last step.
  best = json.loads((workdir / 'best/validation.json').read_text())
  assert best['step'] == 2
  assert best['valid/reward'] == rows[1]['valid/reward']
  weights = [
    workdir / name / 'model.safetensors' for name in ('best', 'policy')
  ]
  assert weights[0].read_bytes() == weights[1].read_bytes()
  config = small_config()
  config.policy = str(workdir)
  loaded, tokenizer = build.build_policy(config)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, policy.params)
  original, _ = build.build_policy(small_config())
  assert tokenizer.vocab_size == loaded.config.vocab_size
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), original.params, policy.params
  )
  assert any(jax.tree.leaves(changed)), 'training changed nothing'


def assert_rollouts_were_kept(workdir, rows):
  sums = []
  for name in ('train-000000', 'train-000001', 'valid-000002'):
    records, problems = lines.read(
      workdir / f'rollouts/{name}.jsonl',
      rollout_records.parse,
      key=rollout_records.key,
    )
    assert not problems
    sums.append(sum(r['reward'] for r in records) / len(records))
    trained = [r['advantage'] is not None for r in records]
    assert all(trained) if 'train' in name else not any(trained)
  assert sums == pytest.approx(
    [*(row['rollout/reward'] for row in rows), rows[1]['valid/reward']]
  )


def test_a_resumed_run_is_the_uninterrupted_one(whole, tmp_path):
  """Bit for bit: killed after step 1 and resumed, metrics and parameters."""
  config = small_config()
  config.loop.num_steps = 1
  config.optimizer.total_steps = small_config().loop.num_steps
  run.train(config, tmp_path)
  # What a kill may leave behind: a row beyond the checkpoint, cut short.
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 1, "rollout/rew')
  resumed = run.train(small_config(), tmp_path, resume=True)
  workdir, policy = whole
  ours, theirs = rows_without_times(tmp_path), rows_without_times(workdir)
  assert [row['step'] for row in ours] == [0, 1]
  assert json.dumps(ours[1]) == json.dumps(theirs[1])
  jax.tree.map(np.testing.assert_array_equal, resumed.params, policy.params)


@pytest.mark.slow
def test_adapters_are_trained_taken_up_again_and_merged(tmp_path):
  config = small_config()
  config.loop.update(num_steps=1, eval_every=0)
  config.optimizer.total_steps = 2
  config.lora.update(rank=2, targets=('query', 'up'), base_dtype='bfloat16')
  config.grpo.kl_coef = 0.01
  run.train(config, tmp_path)
  config.loop.num_steps = 2
  trained = run.train(config, tmp_path, resume=True)
  first, second = metrics_log.read_metrics(tmp_path)
  # Fresh adapters are the reference, those of the second step are not.
  assert first['train/ref_kl'] == pytest.approx(0, abs=1e-7)
  assert second['train/ref_kl'] > 1e-7
  # The engine sampled with the merged weights.
  assert second['train/ratio_max'] == pytest.approx(1, abs=1e-3)
  base, _ = build.build_policy(config)
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), base.params, trained.params
  )
  assert {name for name, x in changed['layers'].items() if x} == {'query', 'up'}
  config.policy = str(tmp_path / 'policy')
  config.lora.base_dtype = 'float32'
  loaded, _ = build.build_policy(config)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, trained.params)
  assert (tmp_path / 'adapters/adapter_model.safetensors').is_file()


@pytest.mark.slow
def test_every_option_of_an_update_in_one_run(tmp_path):
  """Epochs, minibatches, rescoring, reference: config to metrics."""
  config = small_config()
  config.loop.update(
    num_steps=1, epochs=2, minibatches=2, rescore=True, eval_every=0
  )
  config.grpo.update(
    kl_coef=0.01, entropy_coef=1e-3, tis_level='token', ratio_level='sequence'
  )
  config.advantage.update(estimator='rloo', level='turn')
  config.batch.aggregation = 'token_mean'
  run.train(config, tmp_path)
  (row,) = metrics_log.read_metrics(tmp_path)
  # The policy left its reference after the first of four updates.
  assert row['train/ref_kl'] > 0 and row['train/entropy'] > 0
  # Engine and trainer agree, so that nothing is corrected.
  assert row['train/tis_mean'] == pytest.approx(1, abs=1e-3)
  assert 0 <= row['train/mismatch_kl'] < 1e-5
  assert row['train/tis_capped'] == row['train/skipped'] == 0


@pytest.mark.parametrize('kl_coef', [0.0, 0.1])
def test_a_reference_is_kept_only_if_it_is_read(kl_coef, tmp_path, monkeypatch):
  config = small_config()
  config.grpo.kl_coef = kl_coef
  original, _ = build.build_policy(config)
  held = {}

  def train(state, parts, loop_config, *, ref_params, **kwargs):
    del parts, loop_config, kwargs
    held['ref_params'] = ref_params
    held['given'] = loaded()
    return state

  # Seen by the collector only: what is dropped is gone.
  def build_policy(config):
    policy, tokenizer = build_original(config)
    nonlocal loaded
    loaded = weakref.ref(policy.params['embedding'])
    return policy, tokenizer

  loaded, build_original = None, build.build_policy
  monkeypatch.setattr(build, 'build_policy', build_policy)
  monkeypatch.setattr(run.loop, 'train', train)
  run.train(config, tmp_path)
  if kl_coef:
    jax.tree.map(
      np.testing.assert_array_equal, held['ref_params'], original.params
    )
  else:
    assert held['ref_params'] is None and held['given'] is None


@pytest.mark.parametrize('trained', ['lead', 'subagent'])
def test_the_other_policy_has_an_engine_of_its_own(
  trained, tmp_path, monkeypatch
):
  config = small_config()
  policy, tokenizer = build.build_policy(config)
  zeros = jax.tree.map(np.zeros_like, policy.params)
  run.save_policy(
    tmp_path / 'zeros', dataclasses.replace(policy, params=zeros), tokenizer
  )
  config.subagent_policy = str(tmp_path / 'zeros')
  config.loop.trained_roles = trained
  held = {}

  def train(state, parts, loop_config, **kwargs):
    held.update(parts=parts, loop=loop_config)
    return state

  monkeypatch.setattr(run.loop, 'train', train)
  saved = run.train(config, tmp_path / 'run')
  assert held['loop'].trained_roles == trained
  frozen = {'lead': 'subagent', 'subagent': 'lead'}[trained]
  assert list(held['parts'].frozen_engines) == [frozen]
  engines = held['parts'].engines
  assert engines[trained] is engines['single'] is held['parts'].engine
  # The trained policy is the one that is saved.
  assert bool(saved.params['embedding'].any()) == (trained == 'lead')
  # A policy of zeros finds all tokens equally likely.
  engine = engines['subagent']
  one = types.Sampling(max_tokens=1)
  engine.submit(engine.open(), np.ones(1, np.int32), one, (0,))
  while not (ended := engine.step()):
    pass
  ((_, generation),) = ended
  np.testing.assert_allclose(
    generation.logprobs, -np.log(policy.config.vocab_size), rtol=1e-5
  )


def test_two_policies_need_one_tokenizer(tmp_path):
  config = small_config()
  policy, _ = build.build_policy(config)
  run.save_policy(tmp_path / 'other', policy, testing.byte_tokenizer())
  config.subagent_policy = str(tmp_path / 'other')
  with pytest.raises(ValueError, match=r'the tokenizers of .*other.* differ'):
    run.evaluate(config)


@pytest.mark.parametrize(
  ('node', 'name', 'value', 'message'),
  [
    ('advantage', 'estimator', 'ppo', "'grpo' or 'rloo'"),
    ('advantage', 'level', 'token', "'rollout' or 'turn'"),
    ('batch', 'aggregation', 'mean', "'dual_level' or 'token_mean'"),
    ('grpo', 'tis_level', 'token', 'set loop.rescore=True'),
    ('loop', 'asynchronous', True, "grpo.tis_level='token' to weigh"),
    ('lora', 'rank', -1, 'lora.rank=-1 is below 1'),
    ('loop', 'minibatches', 3, 'does not divide over loop.minibatches 3'),
    ('', 'subagent_policy', 'packaged:tiny', 'a run trains one policy'),
    ('', 'subagent_policy', 'nowhere', 'no policy at nowhere'),
  ],
)
def test_bad_options_are_refused_before_anything_is_written(
  node, name, value, message, tmp_path
):
  config = small_config()
  (config[node] if node else config)[name] = value
  with pytest.raises((OSError, ValueError), match=message):
    run.train(config, tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


@pytest.mark.parametrize(
  'changes', [{'subagent_policy': 'a'}, {'loop.trained_roles': 'subagent'}]
)
def test_a_single_agent_has_no_subagents(changes, tmp_path):
  config = small_config()
  config.rollout.workflow = 'single'
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match='there are no subagents'):
    run.train(config, tmp_path / 'new')


def test_resume_refuses_another_model(whole, tmp_path):
  workdir, _ = whole
  config = small_config()
  smaller, tokenizer = build.build_policy(config)
  params = dict(smaller.params)
  params['layers'] = jax.tree.map(lambda x: x[:1], params['layers'])
  shape = dataclasses.replace(smaller.config, num_layers=1)
  other = dataclasses.replace(smaller, config=shape, params=params)
  run.save_policy(tmp_path / 'other', other, tokenizer)
  config.policy = str(tmp_path / 'other')
  with pytest.raises(ValueError, match='checkpoint'):
    run.train(config, workdir, resume=True)


def test_the_ten_lines_of_the_readme():
  cfg = small_config()
  policy, tokenizer = ws.build_policy(cfg)
  engine = ws.build_engine(cfg, policy)
  tools, tasks = ws.build_tools(cfg), ws.build_tasks(cfg, split='train')
  group = ws.rollout_group(
    engine, tokenizer, tools, tasks[0], seed=0, **cfg.rollout
  )
  scores = [ws.score(rollout, tasks[0], **cfg.reward) for rollout in group]
  assert 'lead' in ws.format_rollout(group[0], scores[0])
  advantages = ws.group_advantages([score.reward for score in scores])
  assert abs(float(advantages.mean())) < 1e-5
  batch = ws.make_batch([group], [advantages], **cfg.batch)
  state, metrics = ws.build_train_step(cfg, policy)(
    ws.init_train_state(cfg, policy), batch
  )
  assert int(state.step) == 1 and np.isfinite(float(metrics['loss']))


def test_engine_logprobs_are_those_of_the_training_program():
  """Fresh from the engine, the first update's ratios are 1."""
  cfg = small_config()
  policy, tokenizer = ws.build_policy(cfg)
  engine = ws.build_engine(cfg, policy)
  tools, tasks = ws.build_tools(cfg), ws.build_tasks(cfg, split='train')
  group = ws.rollout_group(engine, tokenizer, tools, tasks[0], **cfg.rollout)
  batch = ws.make_batch([group], [np.linspace(-1, 1, len(group))], **cfg.batch)
  _, metrics = ws.build_train_step(cfg, policy)(
    ws.init_train_state(cfg, policy), batch
  )
  assert float(metrics['ratio_max']) == pytest.approx(1, abs=1e-3)
  assert float(metrics['ratio_mean']) == pytest.approx(1, abs=1e-4)


def test_a_judge_in_this_process(tmp_path):
  config = small_config()
  config.judge_policy = 'packaged:tiny'
  config.judge_engine.update(num_rows=2, num_pages=32, max_context=256)
  config.judge.update(max_tokens=8, cache=str(tmp_path / 'judge.sqlite'))
  config.summary_chars = 100
  prompts = ['Is 5 the same as five?', 'Is it?', 'x' * 10_000]
  with build.open_judge(config) as judge:
    replies = judge(prompts)
    assert judge(prompts[::-1]) == replies[::-1]
    assert replies[2] == '' and any(replies)
    tools = build.build_tools(config, judge)
    # The page is too long for this judge.
    (hit,) = tools.search('Peru', 1)
    assert tools.access(hit.url) == build.build_tools(config).access(hit.url)


@pytest.mark.slow
def test_a_run_without_its_judge_is_resumed_with_it(tmp_path):
  """The judge is dead, then there: the run ends like one that had it."""
  config = small_config()
  # Rollouts enough that both steps have a wrong cell, which rules leave to the
  # judge.
  config.data.update(max_rows=8, max_columns=3)
  config.loop.update(tasks_per_step=4, eval_every=0)
  whole = run.train(config, tmp_path / 'whole')
  config.judge.update(
    model='m', retries=0, cache=str(tmp_path / 'judge.sqlite')
  )
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
    config.judge.base_url = f'http://127.0.0.1:{port}/v1'
    with pytest.raises(types.JudgeUnavailable, match=f':{port} .*--resume'):
      run.train(config, tmp_path / 'run')
    # Resumed too early, it dies as it did.
    with pytest.raises(types.JudgeUnavailable):
      run.train(config, tmp_path / 'run', resume=True)

  def no(handler, prompt, number):
    """Nothing means the same: as rules say of what they cannot decide."""
    ids = {str(i): 0 for i in range(1, 41)}
    return 200, server.completion(json.dumps(ids), tokens=9)

  with server.serving(no) as (url, requests):
    config.judge.base_url = url
    policy = run.train(config, tmp_path / 'run', resume=True)
  assert requests
  ours = rows_without_times(tmp_path / 'run')
  theirs = rows_without_times(tmp_path / 'whole')
  for row in ours:
    row.pop('rollout/judge_asked'), row.pop('rollout/judge_undecided')
  assert json.dumps(ours) == json.dumps(theirs)
  jax.tree.map(np.testing.assert_array_equal, policy.params, whole.params)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'judge.base_url': 'http://a', 'judge_policy': 'b'}, 'not both'),
    ({'summary_chars': 9}, 'needs a judge'),
    ({'judge.base_url': 'http://a'}, 'judge.model'),
    ({'judge_policy': 'nowhere'}, 'nowhere'),
  ],
)
def test_a_judge_that_cannot_be_is_refused_first(changes, words, tmp_path):
  config = small_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises((OSError, ValueError), match=words):
    run.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
