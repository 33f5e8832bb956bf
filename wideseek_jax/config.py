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
  # The same for the subagents alone: weights of their own, with the tokenizer
  # of config.policy, and a second engine like the first.
  config.subagent_policy = ''
  # Arguments of sharding.make_mesh; one size may be -1: all other devices.
  config.mesh = ml_collections.ConfigDict(
    {'data': 1, 'fsdp': 1, 'context': 1, 'tensor': 1}
  )

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
  # Where searches and pages come from: 'facts', 'text', 'dense', 'hybrid' (both
  # of them), 'server' or 'online'; see backends.py.
  config.tools = ml_collections.ConfigDict(
    {
      'kind': 'facts',
      # Arguments of tools.text_index.TextIndex.
      'text': {'folder': '', 'head_boost': 1.0, 'pair_boost': 1.0},
      # Arguments of tools.dense.connect.
      'dense': {
        'url': 'http://localhost:6333',
        'collection': 'wiki_collection_m32_cef512',
        'hnsw_ef': 256,
        'api_key_env': 'QDRANT_API_KEY',
        'seconds': 60.0,
      },
      # Arguments of models.bert.SentenceEncoder; a Hugging Face folder such as
      # that of intfloat/e5-base-v2, whose prefixes these are.
      'encoder': {
        'folder': '',
        'query_prefix': 'query: ',
        'passage_prefix': 'passage: ',
        'max_tokens': 256,
        'dtype': 'float32',
      },
      # Arguments of tools.remote.RemoteTools.
      'server': {
        'url': 'http://localhost:8000',
        'seconds': 60.0,
        'retries': 6,
        'concurrency': 256,
        'snippet_chars': 5000,
      },
      # Arguments of tools.online.OnlineTools; keys are in the environment.
      'online': {
        'search_url': 'https://google.serper.dev/search',
        'search_key_env': 'SERPER_API_KEY',
        # 'https://r.jina.ai/' lets that service read pages.
        'reader_url': '',
        'reader_key_env': 'JINA_API_KEY',
        'seconds': 60.0,
        'retries': 2,
        'concurrency': 20,
        'per_second': 10.0,
        'max_bytes': 4 * 2**20,
        'max_chars': 200_000,
        'cache': 'runs/web.sqlite',
        'max_days': 30.0,
        'allowed': (),
      },
    }
  )
  # Arguments of agents.rollout.rollout_groups.
  config.rollout = ml_collections.ConfigDict(
    {
      'workflow': 'multi',
      'prompt_style': 'compact',
      'prompts': '',  # a folder like wideseek_jax/prompts instead of it
      'group_size': 8,
      'max_lead_turns': 4,
      'max_subagent_turns': 4,
      'max_single_turns': 12,
      # 0 or, of the fraction, 1: no limit.
      'subagent_tokens': 0,
      'subagent_seconds': 0.0,
      'tail_fraction': 1.0,
      'tail_turns': 1,
      'max_subagents': 8,
      'max_tool_calls': 3,
      'lead_searches': False,
      'check_urls': True,
      'max_context': 1024,
      'max_turn_tokens': 384,
      'report_tokens': 192,
      # The shipped policy never saw one.
      'partial_reports': False,
      'search_count': 2,
      'page_chars': 600,
      'snippet_chars': 32,
      'max_repairs': 1,
      # The index answers within a millisecond: waiting costs nothing, and a
      # resumed run is the uninterrupted one to the bit.
      'overlap_tools': False,
      'tool_threads': 16,
      'tool_seconds': 600.0,
      'max_open_rollouts': 0,
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
      'prefill_rows': 8,
      # Of weights, activations and cache; 'bfloat16' on TPU and GPU.
      'dtype': 'float32',
      # 'auto': the kernel of the devices; 'reference' asks for none.
      'attention': 'auto',
      # A run that is killed within a step then goes on as if it had not been,
      # to the last bit; otherwise log-probs agree to about 1e-5.
      'fixed_shapes': False,
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
  # Arguments of models.lora.Lora; rank 0 trains all parameters.
  config.lora = ml_collections.ConfigDict(
    {
      'rank': 0,
      'alpha': 32.0,
      'targets': ('query', 'key', 'value', 'out', 'gate', 'up', 'down'),
      # 'bfloat16' halves what the frozen parameters take.
      'base_dtype': 'float32',
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
      # 'sequence' is GSPO; it wants bounds of about 3e-4 and 4e-4.
      'ratio_level': 'token',
      # Truncated importance sampling, 'token' or 'sequence': needs
      # loop.rescore.
      'tis_level': 'off',
      'tis_cap': 2.0,
      # An update with a mean ratio above this is skipped.
      'max_ratio': 5.0,
      # Rows are forwarded in chunks of logits and blocks of attention; the
      # kernels of TPU and GPU choose their own blocks.
      'logprob_chunk': 128,
      'attention': 'auto',
      'attention_block': 64,
      # 'bfloat16' on TPU and GPU; parameters, their gradients and the
      # optimiser's moments stay float32.
      'compute_dtype': 'float32',
      # 'dots' and 'block' hold less and compute more (transformer.REMAT).
      'remat': 'none',
    }
  )
  # Arguments of rl.advantages.group_advantages.
  config.advantage = ml_collections.ConfigDict(
    {'estimator': 'grpo', 'level': 'rollout', 'ddof': 1, 'eps': 1e-6}
  )
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
      'total_steps': 0,  # updates of the loop, see below
    }
  )
  # Arguments of training.batching.make_batch.
  # As many micro-batches as any step needs here: one compilation.
  config.batch = ml_collections.ConfigDict(
    {
      'row_len': 1024,
      'rows_per_micro_batch': 2,
      'min_micro_batches': 128,
      # 'token_mean' lets every trained token count the same.
      'aggregation': 'dual_level',
      # Agents that begin alike have one copy of it in a row.
      'share_prefixes': True,
    }
  )
  # Arguments of training.parts.LoopConfig.
  config.loop = ml_collections.ConfigDict(
    {
      'num_steps': 12,
      'tasks_per_step': 8,
      'epochs': 1,
      'minibatches': 1,
      'rescore': False,
      # Rollouts of a step overlap the update of the one before.
      'asynchronous': False,
      # Or 'lead', 'subagent', 'none'; of two policies only one is trained.
      'trained_roles': 'both',
      'eval_every': 0,
      'eval_samples': 1,
      'checkpoint_every': 4,
      # Kept as text, for experiments.report; 0 keeps none.
      'rollouts_every': 1,
    }
  )
  config.optimizer.total_steps = (
    config.loop.get_oneway_ref('num_steps')
    * config.loop.get_oneway_ref('epochs')
    * config.loop.get_oneway_ref('minibatches')
  )
  config.keep_checkpoints = 2
  return config.lock()
