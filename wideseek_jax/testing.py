"""Small stand-ins that tests and notebooks share: fakes, not mocks.

Each behaves like the real part, only smaller: a byte tokenizer, a random model
of a few thousand parameters, tools over three pages, an engine that follows a
script. The scripted engine itself is `agents.scripted.ScriptedEngine`.
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
