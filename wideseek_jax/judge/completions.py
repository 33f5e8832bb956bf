"""The wire format of OpenAI's chat completions.

In come a prompt or what a server sent; out go the bytes of a request, or reply
and cost. A server's answer may be anything.
"""

import datetime
import email.utils
import json
import re


def request(prompt: str, model: str, max_tokens: int) -> bytes:
  """The body of a request for the most likely reply to one user message."""
  return json.dumps(
    {
      'model': model,
      'messages': [{'role': 'user', 'content': prompt}],
      'temperature': 0,
      'max_tokens': max_tokens,
    }
  ).encode()


def read(answer: bytes) -> tuple[str, int | None]:
  """Reply and tokens, read and written, of an answer's body.

  Returns:
    (reply, tokens); None for tokens that the server does not tell. The reply
    of a model that declines is ''.

  Raises:
    ValueError: it is no chat completion.
  """
  try:
    found = json.loads(answer)
    reply = found['choices'][0]['message']['content']
  except (ValueError, LookupError, TypeError, RecursionError):
    raise ValueError('the answer is no chat completion') from None
  if not isinstance(reply, str | None):
    raise ValueError('the answer is a chat completion without text')
  usage = found.get('usage')
  tokens = usage.get('total_tokens') if isinstance(usage, dict) else None
  if type(tokens) is not int or tokens < 0:
    tokens = None
  # Half a surrogate pair is legal JSON and no text.
  return (reply or '').encode('utf-8', 'replace').decode('utf-8'), tokens


def retry_after(value: str) -> float:
  """Seconds that a Retry-After header asks for, 0 if it says nothing."""
  if re.fullmatch(r'[0-9]{1,9}(\.[0-9]{1,9})?', value):
    return float(value)
  try:
    date = email.utils.parsedate_to_datetime(value)
  except (ValueError, TypeError, OverflowError):
    return 0.0
  if date.tzinfo is None:
    date = date.replace(tzinfo=datetime.UTC)
  return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
