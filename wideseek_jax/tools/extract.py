"""The text of a page of the web.

In come the bytes that a server sent, which may be anything; out go title and
text, tables as Markdown, without navigation and advertisements (trafilatura).
"""

import contextlib

import lxml.etree
import lxml.html
import trafilatura

from wideseek_jax.tools import web

_HTML = ('text/html', 'application/xhtml+xml', '')
_PLAIN = ('application/json', 'application/xml', 'application/ld+json')


def is_readable(content_type: str) -> bool:
  """Whether `read` can do something with a body of this type."""
  return content_type.startswith('text/') or content_type in _HTML + _PLAIN


def read(answer: web.Answer) -> tuple[str, str]:
  """Title and text of a page.

  Raises:
    web.WebError: there is no text in it.
  """
  text = _decoded(answer)
  if '\x00' in text:
    raise web.WebError('the page is no text')
  title = ''
  if answer.content_type in _HTML:
    title, text = _read_html(text, answer.url)
  if not text.strip():
    raise web.WebError('the page has no text')
  return title, text.strip()


def _decoded(answer: web.Answer) -> str:
  if not answer.charset and answer.content_type in _HTML:
    # Pages name their encoding inside, or it shows.
    text = trafilatura.utils.decode_file(answer.body)
    return text.encode('utf-8', 'replace').decode('utf-8')
  # A name that Python does not know is not in use.
  with contextlib.suppress(LookupError):
    return answer.body.decode(answer.charset or 'utf-8', 'replace')
  return answer.body.decode('utf-8', 'replace')


def _read_html(text: str, url: str) -> tuple[str, str]:
  found = trafilatura.extract(
    text,
    url=url,
    output_format='markdown',
    include_comments=False,
    include_tables=True,
    favor_recall=True,
  )
  title = ''
  with contextlib.suppress(lxml.etree.LxmlError, ValueError):
    tree = lxml.html.fromstring(text.encode('utf-8', 'replace'))
    title = ' '.join((tree.findtext('.//title') or '').split())
  return title, found or trafilatura.html2txt(text)
