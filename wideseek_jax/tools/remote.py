"""The tools of a run that asks a search server (`server`, or the reference's).

In come searches and urls, out go hits and pages; what the server sends is
checked, since it may be anyone's.
"""

import json
from typing import Any

from wideseek_jax import types
from wideseek_jax.tools import web


class RemoteTools:
  """`types.Tools` of a search server; close it after use.

  Args:
    url: of the server, such as http://localhost:8000.
    seconds: deadline of a call, waiting and retries included.
    retries: further tries after a dropped connection or a full queue.
    concurrency: requests in flight.
    snippet_chars: so much of a page a hit shows at most.
  """

  def __init__(
    self,
    *,
    url: str,
    seconds: float = 60.0,
    retries: int = 6,
    concurrency: int = 256,
    snippet_chars: int = 5000,
  ):
    if not url.startswith(('http://', 'https://')):
      raise ValueError(
        f'config.tools.server.url must be a server such as '
        f'http://localhost:8000, not {url!r}'
      )
    self._url, self._snippet_chars = url.rstrip('/'), snippet_chars
    self._web = web.Web(
      seconds=seconds,
      retries=retries,
      concurrency=concurrency,
      max_bytes=64 * 2**20,
    )

  def close(self) -> None:
    """Ends what is in flight."""
    self._web.close()

  def search(self, query: str, count: int) -> list[types.Hit]:
    """The best `count` hits for the query, best first.

    Raises:
      web.WebError: the server did not answer, or with nonsense.
    """
    if count < 1:
      return []
    found = self._ask('retrieve', {'queries': [query], 'topk': count})
    if not isinstance(found, list):
      raise _nonsense()
    pages = [_page(payload) for payload in found[:count]]
    return [
      types.Hit(page.url, page.title, page.contents[: self._snippet_chars])
      for page in pages
    ]

  def access(self, url: str, info: str = '') -> types.Page | None:
    """The page at exactly this url, None if the server has none.

    Raises:
      web.WebError: the server did not answer, or with nonsense.
    """
    found = self._ask('access', {'urls': [url]})
    return None if found is None else _page(found)

  def _ask(self, route: str, body: dict[str, Any]) -> Any:
    """The only entry of the result."""
    answer = self._web.fetch('POST', f'{self._url}/{route}', body=body)
    try:
      (result,) = json.loads(answer.body)['result']
    except (ValueError, LookupError, TypeError, RecursionError):
      raise _nonsense() from None
    return result


def _page(payload: Any) -> types.Page:
  """The reference's payloads have no title, and contents of any length."""
  try:
    texts = payload['url'], payload.get('title') or '', payload['contents']
  except (LookupError, TypeError, AttributeError):
    raise _nonsense() from None
  if not all(isinstance(text, str) for text in texts):
    raise _nonsense()
  return types.Page(*texts)


def _nonsense() -> web.WebError:
  return web.WebError('the search server answered nonsense')
