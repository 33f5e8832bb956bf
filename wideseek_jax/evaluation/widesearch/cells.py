"""The rules for one cell: what is done to it and what it must be near to.

In come texts (a missing cell is the text nan); out go texts from `PREPROCESS`
and 1.0 or 0.0 from `METRICS`. Both follow the official scorer with all its
oddities and raise where it does; `STRICT_PREPROCESS` and `strict` are what it
seems to have meant.
"""

import datetime
import functools
import re
import urllib.parse
from typing import Any

import dateparser

_NUMBER = re.compile(r'[-+]?(?:\d*\.\d+|\d+\.?\d*)%?')
# $ to _ are ASCII's digits, capitals and most signs, brackets too.
_URL = re.compile('https?://[!$-_a-z]+')
_MISSING = 'nan'
_NO_NUMBER = 'NULL'
_DATE_SETTINGS = {'PREFER_DAY_OF_MONTH': 'first'}
# Longer texts are no dates: dateparser takes 2 s for 100 digits, and minutes
# for thousands.
_MAX_DATE_CHARS = 100
# Dates this far apart still match.
_NEAR_DAYS = 31


def _norm_str(cell: Any) -> str:
  return str(cell).lower().strip().replace(' ', '').replace('*', '')


def _extract_number(cell: Any) -> str:
  """The first number with its percent sign; commas are dropped before."""
  found = _NUMBER.search(str(cell).replace(',', ''))
  return found[0] if found else _NO_NUMBER


def _norm_date(cell: Any) -> Any:
  """ISO date of what can be read as one; a missing cell can: as August."""
  date = _date(cell)
  return cell if date is None else date.strftime('%Y-%m-%d')


PREPROCESS = {
  'norm_str': _norm_str,
  'extract_number': _extract_number,
  'norm_date': _norm_date,
}


def _exact_match(predicted: str, gold: str) -> float:
  return float(predicted.lower() == gold.lower())


def _in_match(predicted: str, gold: str) -> float:
  return float(predicted in gold)


def _url_match(predicted: str, gold: str) -> float:
  """Equal sets of literal hosts; two texts without a url match."""
  return float(_hosts(predicted) == _hosts(gold))


def _number_near(predicted: str, gold: str, criterion: Any) -> float:
  """Relative to the gold number; texts that are none must be equal."""
  a, b = _number(predicted), _number(gold)
  if a is None and b is None:
    return float(predicted == gold)
  if a is None or b is None:
    return 0.0
  return float(abs(a - b) <= abs(b) * criterion)


def _date_near(predicted: Any, gold: Any) -> float:
  """At most 31 whole days apart, rounded down; two texts of no date match."""
  a, b = _date_or_none(predicted), _date_or_none(gold)
  if a is None or b is None:
    return float(a is b)
  return float(abs((a - b).days) <= _NEAR_DAYS)


# Each takes a predicted cell and the gold one.
METRICS = {
  'exact_match': _exact_match,
  'in_match': _in_match,
  'url_match': _url_match,
  'number_near': _number_near,
  'date_near': _date_near,
}
# This one is asked of a judge, a column at a time.
LLM_JUDGE = 'llm_judge'
# Takes how near two numbers must be.
NUMBER_NEAR = 'number_near'


def official(metric: str, predicted: Any, gold: Any, criterion: Any) -> float:
  """The official score of a cell, 0.0 or 1.0.

  Raises:
    TypeError: two dates of which one has a time zone, two numbers without a
      criterion, or a cell that is no text.
    ValueError: a bracket in a url's host.
    AttributeError: a cell that is no text.
  """
  more = (criterion,) if metric == NUMBER_NEAR else ()
  return METRICS[metric](predicted, gold, *more)


def strict(metric: str, predicted: Any, gold: Any, criterion: Any) -> float:
  """As `official`, with a score for every cell.

  Equal texts match. Beyond that a missing cell matches nothing, nor do two
  texts of no date under date_near, two of no url under url_match, or two that
  cannot be compared.
  """
  if predicted == gold:
    return 1.0
  if not isinstance(predicted, str) or _MISSING in (predicted, gold):
    return 0.0
  try:
    if metric == 'url_match' and not _hosts(gold):
      return 0.0
    if metric == 'date_near' and _date(gold) is None:
      return 0.0
    return official(metric, predicted, gold, criterion)
  except (TypeError, ValueError, OverflowError):
    return 0.0


def _strict_number(cell: Any) -> str:
  found = _extract_number(cell)
  return str(cell) if found == _NO_NUMBER else found


def _strict_date(cell: Any) -> Any:
  try:
    return cell if cell == _MISSING else _norm_date(cell)
  except (TypeError, ValueError, OverflowError):
    return cell


# A text without a number or date stays what it is.
STRICT_PREPROCESS = PREPROCESS | {
  'extract_number': _strict_number,
  'norm_date': _strict_date,
}


def _number(cell: str) -> float | None:
  """What Python's float reads, hundredths of it with a percent sign."""
  percent = '%' in cell
  try:
    number = float(cell.replace('%', ''))
  except ValueError:
    return None
  return number / 100.0 if percent else number


def _hosts(cell: str) -> set[str]:
  return {urllib.parse.urlparse(url).netloc for url in _URL.findall(cell)}


@functools.lru_cache(maxsize=65536)
def _date(cell: Any) -> datetime.datetime | None:
  if isinstance(cell, str) and len(cell) > _MAX_DATE_CHARS:
    return None
  return dateparser.parse(cell, settings=_DATE_SETTINGS)


def _date_or_none(cell: Any) -> datetime.datetime | None:
  try:
    return _date(cell)
  except Exception:  # Whatever dateparser meets in a hostile text.
    return None
