"""Rules that say whether two cells mean the same.

In come two short texts; out goes True, False, or None where rules cannot tell
(two different wordings, a date against a month). Each text is brought into one
canonical form, which is also what rows are joined by. The comparison is exact:
1234567 is not 1234568, and a text is never read as an empty number.
"""

import datetime
import decimal
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable

# Longer texts are compared as they are: no cell needs more, and normalising
# is not linear in the number of combining characters.
_MAX_CHARS = 4096

_MONTHS = (
  *('january', 'february', 'march', 'april', 'may', 'june', 'july'),
  *('august', 'september', 'october', 'november', 'december'),
)
_MONTH_NUMBERS = {
  name: number
  for number, month in enumerate(_MONTHS, 1)
  for name in (month, month[:3])
} | {'sept': 9}

# A leading zero makes a code, not a number: 007 is not 7.
_NUMBER = re.compile(
  r'([$€£¥]?)([+-]?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|0|[1-9][0-9]{0,300})'
  r'(?:\.[0-9]{1,300})?)(%?)'
)
_DATES = (
  re.compile(r'(?P<y>\d{4})([-/.])(?P<m>\d{1,2})(?:\2(?P<d>\d{1,2}))?'),
  re.compile(r'(?P<y>\d{4}) ?年 ?(?P<m>\d{1,2}) ?月(?: ?(?P<d>\d{1,2}) ?日)?'),
  re.compile(
    r'(?:(?P<d>\d{1,2})(?:st|nd|rd|th)? )?(?P<m>[a-z]{3,9})\.?,? (?P<y>\d{4})'
  ),
  re.compile(
    r'(?P<m>[a-z]{3,9})\.? (?P<d>\d{1,2})(?:st|nd|rd|th)?,? (?P<y>\d{4})'
  ),
)


def decide(predicted: str, gold: str) -> bool | None:
  """Whether two cells are the same; None if rules cannot tell."""
  return compare(canonical(predicted), canonical(gold))


def compare(a: tuple, b: tuple) -> bool | None:
  """`decide` of two cells in canonical form."""
  if a == b:
    return True
  if a[0] == b[0] != 'text':
    return False
  return None


def same(predicted: str, gold: str) -> bool:
  """Whether rules find two cells to be the same."""
  return decide(predicted, gold) is True


def same_as_any(predicted: str | None, accepted: Iterable[str]) -> bool:
  """Whether rules find an answer, if there is one, to be an accepted one."""
  return predicted is not None and any(same(predicted, a) for a in accepted)


def canonical(cell: str) -> tuple:
  """A hashable form that is equal for cells that mean the same.

  The first entry is the kind: 'text', 'url', 'date', 'month', or 'number' with
  the currency sign or percent sign that belongs to it. Of two cells of one
  kind other than 'text' rules know whether they are equal.
  """
  if len(cell) > _MAX_CHARS:
    return 'text', cell
  # Spaces are collapsed first; emphasis is decoration.
  text = unicodedata.normalize('NFKC', cell).casefold().replace('*', '')
  text = ' '.join(text.split())
  # NFKC leaves the minus sign apart from the hyphen.
  number = _NUMBER.fullmatch(text.replace('\u2212', '-').replace(' ', ''))
  # A space between digits parts two numbers.
  if number and not re.search(r'[0-9] [0-9]', text):
    currency, value, percent = number.groups()
    value = decimal.Decimal(value.replace(',', ''))
    return f'number{currency}{percent}', value
  return _date(text) or _url(text) or ('text', _without_spaces(text))


def column_key(name: str) -> str:
  """A column's name without its case and spaces."""
  name = unicodedata.normalize('NFKC', name[:_MAX_CHARS]).casefold()
  return ''.join(name.replace('*', '').split())


def _date(text: str) -> tuple | None:
  for pattern in _DATES:
    match = pattern.fullmatch(text)
    if match is None:
      continue
    year, month, day = match['y'], match['m'], match['d']
    number = _MONTH_NUMBERS.get(month) or (month.isdigit() and int(month))
    if not number:
      continue
    try:
      date = datetime.date(int(year), number, int(day or 1))
    except ValueError:  # No such day.
      continue
    return ('date' if day else 'month'), date
  return None


def _url(text: str) -> tuple | None:
  if not text.startswith(('http://', 'https://', 'www.')):
    return None
  if text.startswith('www.'):
    text = f'http://{text}'
  try:
    parts = urllib.parse.urlsplit(text)
    host, port = parts.hostname or '', parts.port
  except ValueError:  # Not a url after all, such as http://[.
    return None
  path = parts.path.rstrip('/')
  return 'url', (host.removeprefix('www.'), port, path, parts.query)


def _without_spaces(text: str) -> str:
  """Drops single spaces, except between digits: 5 10 is not 510."""
  return re.sub(r'(?<![0-9]) | (?![0-9])', '', text)
