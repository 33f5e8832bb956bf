"""Small stand-ins that tests and notebooks share: fakes, not mocks.

Each behaves like the real part, only smaller: a byte tokenizer, a random model
of a few thousand parameters, tools over three pages, an engine that follows a
script, rollouts of random tokens with the lengths of real ones. The scripted
engine itself is `agents.scripted.ScriptedEngine`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from wideseek_jax import tokenizer as tokenizer_lib
from wideseek_jax import types
from wideseek_jax.agents import scripted
from wideseek_jax.models import config as model_config
from wideseek_jax.models import transformer

ScriptedEngine = scripted.ScriptedEngine

COUNTRIES = types.Task(
  task_id='countries',
  question='List every country with area North. Columns: country, capital.',
  kind='wide',
  table=types.Table(
    ('country', 'capital'), (('Norland', 'Nora'), ('Sorland', 'Sora'))
  ),
  unique_columns=('country',),
)


@functools.cache
def byte_tokenizer() -> tokenizer_lib.Tokenizer:
  """One id a byte, one a marker: 265 ids."""
  return tokenizer_lib.train_tokenizer([], 256 + len(tokenizer_lib.MARKERS))


def small_model(
  seed: int = 0, **changes: Any
) -> tuple[model_config.ModelConfig, Any]:
  """A random Qwen3 of about 30,000 parameters over the byte tokenizer's ids.

  Args:
    seed: of the parameters.
    **changes: fields of `ModelConfig` to change.
  """
  fields = {
    'vocab_size': byte_tokenizer().vocab_size,
    'embed_dim': 32,
    'mlp_dim': 64,
    'num_layers': 2,
    'num_heads': 4,
    'num_kv_heads': 2,
    'head_dim': 8,
    'max_context': 512,
  }
  config = model_config.ModelConfig(**(fields | changes))
  return config, transformer.init_params(config, jax.random.key(seed))


class PageTools:
  """Tools over given pages: a search finds the pages whose title it names.

  Args:
    pages: title → contents; a page's url is 'facts/<place>'.
  """

  def __init__(self, pages: dict[str, str]):
    self._pages = [
      types.Page(f'facts/{place}', title, contents)
      for place, (title, contents) in enumerate(pages.items())
    ]

  def search(self, query: str, count: int) -> list[types.Hit]:
    found = [page for page in self._pages if page.title in query]
    return [
      types.Hit(page.url, page.title, page.contents[:40])
      for page in found[:count]
    ]

  def access(self, url: str, info: str = '') -> types.Page | None:
    return next((page for page in self._pages if page.url == url), None)


def country_tools() -> PageTools:
  """Pages that answer `COUNTRIES`."""
  return PageTools(
    {
      'every country with area North': (
        'countries with area North\nNames: Norland; Sorland'
      ),
      'Norland country': '- country: Norland\n- capital: Nora',
      'Sorland country': '- country: Sorland\n- capital: Sora',
    }
  )


def trajectory(
  sample_mask: Sequence[int],
  *,
  agent: int = 0,
  failures: tuple[str, ...] = (),
) -> types.Trajectory:
  """A trajectory of tokens 1, 2, 3 … with the given mask, without turns."""
  return types.Trajectory(
    agent=agent,
    role='subagent' if agent else 'lead',
    subtask='',
    parent_turn=0 if agent else -1,
    token_ids=np.arange(1, len(sample_mask) + 1, dtype=np.int32),
    sample_mask=np.asarray(sample_mask, bool),
    behavior_logprobs=np.zeros(len(sample_mask), np.float32),
    turns=(),
    answer='',
    failures=failures,
  )


def wideseek_groups(
  num_tasks: int = 1,
  *,
  seed: int = 0,
  group_size: int = 8,
  shrink: float = 1.0,
  vocab_size: int = 256,
  max_context: int = 32_000,
) -> list[list[types.Rollout]]:
  """Groups of rollouts shaped like those of WideSeek-R1, of random tokens.

  A lead agent has 2–4 turns and 6–14 subagents, a subagent 2–10 turns, within
  the limits of the released code (arXiv 2602.04634). Lengths are log-normal: a
  lead's turn has 800 tokens on average and 300 are reported by each subagent, a
  subagent's turn has 300 and its tools answer 1,200. Prompts are a system text
  a role (1,100 and 900 tokens), the task's question (400) and a subagent's own
  subtask (100): what agents of a role, a task and a rollout have in common.

  Args:
    num_tasks: groups.
    seed: equal arguments give equal groups.
    group_size: G.
    shrink: all lengths are divided by it.
    vocab_size: ids are below it.
    max_context: no agent has more tokens than this divided by shrink.
  """
  rng = np.random.default_rng(seed)
  systems = [_tokens(rng, vocab_size, size / shrink) for size in (1100, 900)]
  limit = int(max_context / shrink)

  def ragged(mean):
    spread = rng.lognormal(-0.125, 0.5)  # mean 1
    return _tokens(rng, vocab_size, mean / shrink * spread)

  def agent(index, prompt, turn_mean, answer_means):
    """One more turn than answers, unless the context ends before."""
    pieces, masks = [prompt], [np.zeros(len(prompt), bool)]
    room = limit - len(prompt)
    for mean, sampled in [
      (turn_mean, True),
      *((m, s) for a in answer_means for m, s in ((a, 0), (turn_mean, 1))),
    ]:
      piece = ragged(mean)[:room]
      room -= len(piece)
      pieces.append(piece)
      masks.append(np.full(len(piece), sampled, bool))
    mask = np.concatenate(masks)
    logprobs = np.where(mask, -rng.exponential(size=len(mask)), 0)
    return types.Trajectory(
      agent=index,
      role='subagent' if index else 'lead',
      subtask='',
      parent_turn=0 if index else -1,
      token_ids=np.concatenate(pieces),
      sample_mask=mask,
      behavior_logprobs=logprobs.astype(np.float32),
      turns=(),
      answer='',
    )

  def rollout(task, index, question):
    fan_outs = int(rng.integers(1, 4))
    created = rng.multinomial(rng.integers(6, 15), [1 / fan_outs] * fan_outs)
    prompt = np.concatenate([systems[0], question])
    agents = [agent(0, prompt, 800, 300 * created)]
    for subagent in range(1, int(created.sum()) + 1):
      prompt = np.concatenate([systems[1], question, ragged(100)])
      answers = [1200] * int(rng.integers(1, 10))
      agents.append(agent(subagent, prompt, 300, answers))
    return types.Rollout(f'task {task}', index, tuple(agents))

  groups = []
  for task in range(num_tasks):
    question = ragged(400)
    groups.append([rollout(task, i, question) for i in range(group_size)])
  return groups


def _tokens(
  rng: np.random.Generator, vocab_size: int, size: float
) -> np.ndarray:
  """Random ids, at least one."""
  return rng.integers(0, vocab_size, max(1, round(size)), np.int32)
