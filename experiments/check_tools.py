"""Tries the tools of a config: does search find, and does access open?

python -m experiments.check_tools --query='page Peru country'
"""

import time
from collections.abc import Callable
from typing import Any

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import build
from wideseek_jax.agents import format as format_lib
from wideseek_jax.agents import tool_calls, tool_text

_QUERY = flags.DEFINE_string('query', 'page Peru country', 'What to search.')
_COUNT = flags.DEFINE_integer('count', 3, 'How many hits.', lower_bound=1)


def main() -> None:
  tools = build.build_tools(experiment_flags.config())
  call = tool_calls.Search(_QUERY.value, _COUNT.value)
  found = _timed('search', lambda: tools.search(call.query, call.count))
  hits = _checked(call, found)
  if not hits:
    raise ValueError(f'nothing was found for {call.query!r}; try a --query')
  for hit in hits:
    print(f'  {format_lib.inert(f"{hit.url}  {hit.title}: {hit.snippet}")}')
  call = tool_calls.Access(hits[0].url)
  page = _checked(call, _timed('access', lambda: tools.access(call.url)))
  if page is None:
    raise ValueError(f'{call.url!r} was found and cannot be opened')
  print(
    f'  {len(page.contents)} characters: {format_lib.inert(page.contents[:70])}'
  )
  missing = tool_calls.Access('no/such/page')
  page = _checked(missing, _timed('missing', lambda: tools.access(missing.url)))
  if page is not None:
    raise ValueError(f'a page came for {missing.url!r}, which does not exist')
  print('the tools work')


def _timed(name: str, call: Callable[[], Any]) -> Any:
  start = time.perf_counter()
  result = call()
  print(f'{name}: {1000 * (time.perf_counter() - start):.1f} ms')
  return result


def _checked(call: tool_calls.Search | tool_calls.Access, result: Any) -> Any:
  """The result; what is none is an error here."""
  result = tool_text.checked(call, result)
  if isinstance(result, Exception):
    raise ValueError(f'{call}: {result}')
  return result


if __name__ == '__main__':
  experiment_flags.run(main)
