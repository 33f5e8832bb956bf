"""Shows what an agent would read from the tools of a config.

python -m experiments.try_tools "page Peru country"
python -m experiments.try_tools "coast of Peru" --config.tools.kind=online

It searches, opens the first hit and a page that does not exist. Lines that
begin with # are this command's, all others are the agent's.
"""

import time
from typing import Any

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import build, types
from wideseek_jax.agents import format as format_lib
from wideseek_jax.agents import templates, tool_calls, tool_text

_COUNT = flags.DEFINE_integer('count', 3, 'How many hits.', lower_bound=1)
_INFO = flags.DEFINE_string('info', '', 'What is wanted from the page.')
_LANGUAGE = flags.DEFINE_string('language', 'en', "The agent's language.")

_MISSING = 'http://no-such-page.invalid/'


def main(query: str = 'page Peru country') -> None:
  config = experiment_flags.config()
  with build.open_judge(config) as judge:
    start = time.perf_counter()
    tools = build.build_tools(config, judge)
    print(f'# {config.tools.kind}, open in {_milliseconds(start)}')
    hits = _try(config, tools, tool_calls.Search(query, _COUNT.value))
    if isinstance(hits, Exception) or not hits:
      raise ValueError(f'nothing was found for {query!r}; try other words')
    page = _try(config, tools, tool_calls.Access(hits[0].url, _INFO.value))
    if not isinstance(page, types.Page):
      raise ValueError(f'{hits[0].url!r} was found and cannot be opened')
    page = _try(config, tools, tool_calls.Access(_MISSING))
    if isinstance(page, types.Page):
      raise ValueError(f'a page came for {_MISSING!r}, which does not exist')
  print('# the tools work')


def _try(
  config: Any,
  tools: types.Tools,
  call: tool_calls.Search | tool_calls.Access,
) -> Any:
  """Runs a call as an agent's turn would, and shows what the agent reads."""
  rollout = config.rollout
  words = templates.load(rollout.prompts, _LANGUAGE.value, rollout.prompt_style)
  start = time.perf_counter()
  try:
    if isinstance(call, tool_calls.Search):
      result = tools.search(call.query, call.count)
    else:
      result = tools.access(call.url, call.info_to_extract)
  except types.JudgeUnavailable:
    raise
  except Exception as error:  # An agent reads it and goes on.
    result = error
  took = _milliseconds(start)
  result = tool_text.checked(call, result)
  (part,) = tool_text.result_parts(
    [call],
    [result],
    words,
    page_chars=rollout.page_chars,
    snippet_chars=rollout.snippet_chars,
  )
  print(f'# {type(call).__name__.lower()}: {took}, {len(part)} characters')
  print('\n'.join(map(format_lib.inert, part.split('\n'))))
  return result


def _milliseconds(start: float) -> str:
  return f'{1000 * (time.perf_counter() - start):.1f} ms'


if __name__ == '__main__':
  experiment_flags.run(main, max_words=1)
