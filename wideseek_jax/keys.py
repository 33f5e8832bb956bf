"""Keys of services, which live in the environment and nowhere else."""

import os
import re


def read(name: str) -> str:
  """The key in an environment variable, '' if there is none.

  Raises:
    ValueError: it holds what no key holds; an HTTP library would quote it.
  """
  key = os.environ.get(name, '').strip()
  if not re.fullmatch('[!-~]*', key):
    raise ValueError(f'the key in ${name} holds blanks or odd characters')
  return key
