"""Tools whose pages are read by a judge first.

In come the tools of a run and a judge; out go the same tools, except that an
agent that says what it wants from a page gets a report on that, of bounded
length, in the page's place.
"""

import dataclasses
import re

from wideseek_jax import types
from wideseek_jax.judge import questions
from wideseek_jax.tasks import tables

_CHINESE = re.compile('[\u4e00-\u9fff]')


@dataclasses.dataclass(frozen=True)
class SummarisingTools:
  """`types.Tools` with a report in place of each page.

  A judge that is not available is no failed tool: `types.JudgeUnavailable`
  goes through.

  Attributes:
    tools: find the pages.
    judge: writes the reports.
    max_chars: a report is cut there.
    page_chars: so much of a page is read.
  """

  tools: types.Tools
  judge: types.Judge
  max_chars: int = 4000
  page_chars: int = 25_000

  def search(self, query: str, count: int) -> list[types.Hit]:
    """The best `count` pages for the query, best first."""
    return self.tools.search(query, count)

  def access(self, url: str, info: str = '') -> types.Page | None:
    """What the page at this url says about `info`.

    The page itself, if nothing is wanted of it or the judge says nothing; None
    if there is no page.
    """
    page = self.tools.access(url, info)
    if page is None or not info:
      return page
    prompt = questions.summary(
      info,
      page.title,
      page.contents,
      # In the language of the agent, which the page may not have.
      language='zh' if _CHINESE.search(info) else 'en',
      max_chars=self.page_chars,
    )
    (reply,) = self.judge([prompt])
    report = tables.after_thought(reply).strip()[: self.max_chars]
    return dataclasses.replace(page, contents=report) if report else page
