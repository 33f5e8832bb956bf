"""Every option of a run, declared once with its default.

Out: a locked `ConfigDict`; each node holds the arguments of one constructor or
function, so an unknown key is refused where it is set and nothing is read with
a second default somewhere else.
"""

import ml_collections

PRESETS = ('tiny',)


def default_config(preset: str = 'tiny') -> ml_collections.ConfigDict:
  """The options of a preset.

  Args:
    preset: 'tiny', the shipped one-million-parameter policy on real facts, made
      for two CPU cores.

  Returns:
    a locked ConfigDict: values may be changed, keys may not be added.

  Raises:
    ValueError: there is no such preset.
  """
  if preset not in PRESETS:
    raise ValueError(f'no preset {preset!r}; there are {PRESETS}')
  config = ml_collections.ConfigDict()
  config.seed = 0
  # A Hugging Face folder, or 'packaged:NAME' for one that is shipped.
  config.policy = 'packaged:tiny'
  config.mesh = (1, 1, 1)  # data, fsdp, tensor

  config.data = ml_collections.ConfigDict(
    {
      'kinds': ('wide',),
      'min_rows': 3,
      'max_rows': 8,
      'min_columns': 2,
      'max_columns': 3,
      'num_train': 800,
      'num_validation': 32,
      'num_test': 128,
      # Tasks of a jsonl file (tasks.datasets) instead of those of the facts.
      'train_file': '',
      'validation_file': '',
      'test_file': '',
    }
  )
  # Arguments of agents.rollout.rollout_groups.
  config.rollout = ml_collections.ConfigDict(
    {
      'workflow': 'multi',
      'prompt_style': 'compact',
      'group_size': 8,
      'max_lead_turns': 4,
      'max_subagent_turns': 4,
      'max_single_turns': 12,
      'max_subagents': 8,
      'max_tool_calls': 3,
      'max_context': 1024,
      'max_turn_tokens': 384,
      'report_tokens': 192,
      'search_count': 2,
      'page_chars': 600,
      'snippet_chars': 32,
      'max_repairs': 1,
      # The index answers within a millisecond: waiting costs nothing, and a
      # resumed run is the uninterrupted one to the bit.
      'overlap_tools': False,
      # A million parameters err in one token of a thousand at 1.0, and then
      # short tables pay: GRPO learned to ask for less. See LOG.md.
      'temperature': 0.5,
      'top_k': 0,
      'top_p': 1.0,
    }
  )
  # Arguments of engine.engine.Engine.
  config.engine = ml_collections.ConfigDict(
    {
      # 0 rows or pages: as many as memory_bytes hold on each device; 0 bytes:
      # nearly all that is free (a CPU does not tell how much that is).
      'num_rows': 32,
      'num_pages': 4096,
      'memory_bytes': 0,
      'page_size': 32,
      'max_context': 1024,
      'chunk_len': 16,
      'prefill_len': 128,
      # 'auto': the kernel of the devices; 'reference' asks for none.
      'attention': 'auto',
    }
  )
  # Arguments of tasks.rewards.score.
  config.reward = ml_collections.ConfigDict(
    {
      'format_reward': 0.1,
      'tool_reward': 0.05,
      'length_penalty': 0.1,
      'length_soft': 3000,
      'length_hard': 5000,
    }
  )
  # Rules judge alone unless there is a judge: an endpoint with a base_url
  # (arguments of judge.client.HttpJudge) …
  config.judge = ml_collections.ConfigDict(
    {
      'base_url': '',
      'model': '',
      'api_key_env': 'WIDESEEK_JUDGE_KEY',
      'max_tokens': 2048,
      'concurrency': 64,
      'connect_timeout': 10.0,
      'read_timeout': 120.0,
      'total_timeout': 300.0,
      'retries': 6,
      'max_calls': 0,
      'max_total_tokens': 0,
      'cache': 'runs/judge.sqlite',
    }
  )
  # … or a policy in this process, named like config.policy, with an engine of
  # its own that takes the prompts (arguments of engine.engine.Engine).
  config.judge_policy = ''
  config.judge_engine = config.engine.copy_and_resolve_references()
  config.judge_engine.max_context = 16384
  # The judge reports on each page in at most so many characters; 0: agents read
  # the page itself.
  config.summary_chars = 0
  # Arguments of training.grpo_step.make_grpo_step.
  config.grpo = ml_collections.ConfigDict(
    {
      'clip_low': 0.2,
      'clip_high': 0.28,
      'dual_clip': 10.0,
      'kl_coef': 0.0,
      'entropy_coef': 0.0,
      'log_ratio_clamp': 20.0,
      'logprob_chunk': 128,
    }
  )
  config.advantage_ddof = 1
  # Arguments of training.train_state.make_optimizer.
  config.optimizer = ml_collections.ConfigDict(
    {
      'learning_rate': 1.2e-4,
      'b1': 0.9,
      'b2': 0.99,
      'eps': 1e-8,
      'weight_decay': 0.0,
      'clip_norm': 1.0,
      'warmup_steps': 0,
      # At a constant rate the parameters wander off within some ten steps.
      'decay': 'linear',
      'total_steps': 0,  # those of the loop, see below
    }
  )
  # Arguments of training.batching.make_batch.
  # As many micro-batches as any step needs here: one compilation.
  config.batch = ml_collections.ConfigDict(
    {'row_len': 1024, 'rows_per_micro_batch': 2, 'min_micro_batches': 128}
  )
  # Arguments of training.loop.LoopConfig.
  config.loop = ml_collections.ConfigDict(
    {
      'num_steps': 12,
      'tasks_per_step': 8,
      'eval_every': 0,
      'eval_samples': 1,
      'checkpoint_every': 4,
    }
  )
  config.optimizer.total_steps = config.loop.get_oneway_ref('num_steps')
  config.keep_checkpoints = 2
  return config.lock()
