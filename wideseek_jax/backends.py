"""The back ends of the tools, each opened from its node of config.tools.

In: config.tools. Out: what agents search with. A back end's packages are
imported when it is asked for, so that nobody needs those of the others.
"""

import importlib
from typing import Any

from wideseek_jax import types
from wideseek_jax.models import bert
from wideseek_jax.tools import remote, retrieval, text_index

# Which extra of setup.py brings what a module needs.
_EXTRAS = {
  'tools.dense': 'dense',
  'tools.online': 'online',
  'tools.server': 'serve',
}


def open_tools(node: Any) -> types.Tools:
  """The tools of a back end other than the facts.

  Args:
    node: config.tools.

  Raises:
    OSError, ValueError: what it names is not there, or a package is missing.
  """
  if node.kind == 'online':
    return module('tools.online').OnlineTools(**node.online)
  if node.kind == 'server':
    return remote.RemoteTools(**node.server)
  return retrieval.RetrieverTools(open_retriever(node))


def open_retriever(node: Any) -> retrieval.Retriever:
  """The index of a back end that has one: text, dense or hybrid.

  Raises:
    OSError, ValueError: as `open_tools`.
  """
  if node.kind == 'text':
    return text_index.TextIndex(**node.text)
  if node.kind == 'dense':
    return _open_dense(node)
  if node.kind == 'hybrid':
    text = text_index.TextIndex(**node.text)
    return retrieval.HybridIndex(text, _open_dense(node))
  raise ValueError(
    f'config.tools.kind={node.kind!r} has no index; there are facts, text, '
    f'dense and hybrid, and for tools server and online, too'
  )


def _open_dense(node: Any) -> retrieval.Retriever:
  encoder = bert.SentenceEncoder(**node.encoder)
  return module('tools.dense').connect(encoder.queries, **node.dense)


def module(name: str) -> Any:
  """A module of this package that needs more than the package does.

  Raises:
    ValueError: what it needs is not installed; names the extra.
  """
  try:
    return importlib.import_module(f'wideseek_jax.{name}')
  except ImportError as error:
    raise ValueError(
      f'{error}: pip install "wideseek_jax[{_EXTRAS[name]}]" '
      f'brings what {name} needs'
    ) from error
