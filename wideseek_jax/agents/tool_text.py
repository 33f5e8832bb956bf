"""What an agent reads of its tools' results.

In come the calls of a turn and what the tools returned for each; out go the
parts of the tool message. Tools are not trusted: whatever they return, a part
is a text of bounded length. A name, query or url always follows one space or an
opening bracket, so that it has the same tokens wherever it is shown: a small
policy has to copy it.
"""

from collections.abc import Sequence
from typing import Any

from wideseek_jax import types
from wideseek_jax.agents import templates, tool_calls

# A tool that failed stands with its exception among the results.
Result = list[types.Hit] | types.Page | str | Exception | None

# No agent could copy a longer url, and no title says more.
_MAX_URL_CHARS = 2000
_MAX_TITLE_CHARS = 300


def checked(
  call: tool_calls.Search | tool_calls.Access, result: Any
) -> list[types.Hit] | types.Page | Exception | None:
  """What a tool returned, or an error in its place if it is no such thing.

  Of a search at most as many hits are kept as were asked for, and none whose
  url is absurdly long.
  """
  if isinstance(result, Exception):
    return result
  if isinstance(call, tool_calls.Access):
    if result is None or _is_page(result):
      return result
    return TypeError('the tool returned no page')
  if not isinstance(result, list) or not all(map(_is_hit, result)):
    return TypeError('the tool returned no hits')
  return [hit for hit in result if len(hit.url) <= _MAX_URL_CHARS][: call.count]


def result_parts(
  calls: Sequence[tool_calls.Search | tool_calls.Access],
  results: Sequence[Result],
  words: templates.Templates,
  *,
  page_chars: int,
  snippet_chars: int,
) -> list[str]:
  """The results of a turn's calls, a part each, in the order of the calls.

  Args:
    calls: what was asked.
    results: per call its hits or its page, None for no page, a text that
      stands for the result, or the exception with which the tool failed.
    words: the wording.
    page_chars: what is shown of one page, in characters.
    snippet_chars: what is shown of one hit's snippet, in characters.
  """
  parts = []
  for call, result in zip(calls, results, strict=True):
    body = _body(result, words, page_chars, snippet_chars)
    if isinstance(call, tool_calls.Search):
      query = one_line(call.query)
      parts.append(words.fill('results.search', query=query, result=body))
    else:
      url, info = one_line(call.url), one_line(call.info_to_extract)
      parts.append(
        words.fill('results.access', url=url, info=info, result=body)
      )
  return parts


def failure_text(error: Exception, words: templates.Templates) -> str:
  """One line on a tool that failed."""
  try:
    reason = one_line(str(error)[:1000])
  except Exception:  # It is the tool's exception: anything can be in it.
    reason = ''
  reason = reason[:200] or type(error).__name__
  return words.fill('notices.tool_failed', reason=reason)


def one_line(text: str) -> str:
  return ' '.join(text.split())


def _is_hit(value: Any) -> bool:
  return isinstance(value, types.Hit) and all(
    isinstance(text, str) for text in (value.url, value.title, value.snippet)
  )


def _is_page(value: Any) -> bool:
  return isinstance(value, types.Page) and all(
    isinstance(text, str) for text in (value.title, value.contents)
  )


def _body(
  result: Result, words: templates.Templates, page_chars: int, hit_chars: int
) -> str:
  if isinstance(result, Exception):
    return failure_text(result, words)
  if isinstance(result, str):
    return result
  if result is None:
    return words.fill('notices.no_page')
  if isinstance(result, types.Page):
    return _page(result, words, page_chars)
  if not result:
    return words.fill('notices.no_hits')
  return '\n'.join(
    words.fill(
      'results.hit',
      number=i + 1,
      url=hit.url,
      title=_title(hit.title),
      snippet=hit.snippet.strip()[:hit_chars].rstrip(),
    )
    for i, hit in enumerate(result)
  )


def _page(page: types.Page, words: templates.Templates, page_chars: int) -> str:
  contents = page.contents.strip()
  cut = ''
  if len(contents) > page_chars:
    contents = contents[:page_chars]
    cut = words.fill('results.page_cut', limit=page_chars)
  title = _title(page.title)
  return words.fill('results.page', title=title, contents=contents) + cut


def _title(title: str) -> str:
  title = one_line(title[:_MAX_TITLE_CHARS])
  return f'{title}. ' if title else ''
