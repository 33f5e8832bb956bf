"""What an agent reads of its tools' results.

In come the calls of a turn and what the tools returned for each; out goes the
text of the tool message. A name, query or url always follows one space or an
opening bracket, so that it has the same tokens wherever it is shown: a small
policy has to copy it.
"""

from collections.abc import Sequence

from wideseek_jax import types
from wideseek_jax.agents import prompts, tool_calls

# A tool that raised stands with its exception among the results.
Result = list[types.Hit] | types.Page | str | None | Exception

URL_NOT_SEEN = (
  'This url was not opened: only urls that a search returned can be opened.'
)
NO_PAGE = 'There is no page at this url.'
NO_HITS = 'Nothing was found.'


def tool_message(
  calls: Sequence[tool_calls.Search | tool_calls.Access],
  results: Sequence[Result],
  notice: str,
  *,
  style: prompts.Style,
  page_chars: int,
  snippet_chars: int,
) -> str:
  """The results of a turn's calls, in the order of the calls.

  Args:
    calls: what was asked.
    results: per call its hits or its page, None for no page, a text that
      stands for the result, or the exception that the tool raised.
    notice: what was dropped, '' if nothing.
    style: 'compact' or 'full'.
    page_chars: what is shown of one page, in characters.
    snippet_chars: what is shown of one hit's snippet, in characters.
  """
  parts = [
    f'{_header(call, style)}\n{_body(result, style, page_chars, snippet_chars)}'
    for call, result in zip(calls, results, strict=True)
  ]
  if notice:
    parts.append(notice)
  return ('\n' if style == 'compact' else '\n\n').join(parts)


def failure_text(error: Exception) -> str:
  """One line on a tool that raised."""
  reason = one_line(str(error)) or type(error).__name__
  return f'Tool execution failed: {reason[:200]}'


def one_line(text: str) -> str:
  return ' '.join(text.split())


def _header(
  call: tool_calls.Search | tool_calls.Access, style: prompts.Style
) -> str:
  if isinstance(call, tool_calls.Search):
    query = one_line(call.query)
    if style == 'compact':
      return f'# Query: {query}'
    return f'# Search query: {query}\n# Result:'
  url = one_line(call.url)
  if style == 'compact':
    return f'# Page: {url}'
  info = one_line(call.info_to_extract)
  return f'# Access URL: {url}\n# Info to extract: {info}\n# Result:'


def _body(
  result: Result, style: prompts.Style, page_chars: int, snippet_chars: int
) -> str:
  if isinstance(result, Exception):
    return failure_text(result)
  if isinstance(result, str):
    return result
  if result is None:
    return NO_PAGE
  if isinstance(result, types.Page):
    return _page(result, style, page_chars)
  if not result:
    return NO_HITS
  name = '' if style == 'compact' else 'Doc '
  return '\n'.join(
    f'[{name}{i + 1}]({hit.url}): {_title(hit.title)}'
    f'{hit.snippet.strip()[:snippet_chars].rstrip()}'
    for i, hit in enumerate(result)
  )


def _page(page: types.Page, style: prompts.Style, page_chars: int) -> str:
  contents = page.contents.strip()
  cut = ''
  if len(contents) > page_chars:
    contents = contents[:page_chars]
    if style == 'full':
      cut = f'\n[page cut at {page_chars} characters]'
  # A small policy is spared what a page's first line says again.
  title = '' if style == 'compact' else f' {_title(page.title)}'
  return f'{title}{contents}{cut}'


def _title(title: str) -> str:
  title = one_line(title)
  return f'{title}. ' if title else ''
