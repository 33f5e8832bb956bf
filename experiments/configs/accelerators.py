"""What every config for accelerators shares, whatever the size of the policy.

In: a config. Out: the same with the limits of the paper, bfloat16 where it is
computed, and an engine that has as many pages as its memory holds.
"""

import ml_collections

from wideseek_jax.agents import rollout_config


def use_accelerators(config: ml_collections.ConfigDict) -> None:
  """Sets it; rows, memory and context lengths are for the caller to choose."""
  # Ten lead turns, twenty of a subagent, ten subagents, 32,000 tokens …
  paper = rollout_config.RolloutConfig()
  config.rollout.update({name: getattr(paper, name) for name in config.rollout})
  config.engine.update(
    num_pages=0,
    page_size=64,
    chunk_len=32,
    prefill_len=512,
    dtype='bfloat16',
  )
  config.grpo.update(
    logprob_chunk=512,
    # Rows share prefixes, which the kernels do not know.
    attention='blocks',
    attention_block=512,
    compute_dtype='bfloat16',
    remat='block',
  )
  config.optimizer.update(learning_rate=1e-6, b2=0.999, decay='constant')
