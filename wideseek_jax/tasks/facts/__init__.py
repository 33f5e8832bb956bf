"""A closed world of real or random facts, its pages and its questions."""

from wideseek_jax.tasks.facts import sources as _sources
from wideseek_jax.tasks.facts import world as _world
from wideseek_jax.tasks.facts.pages import build_corpus
from wideseek_jax.tasks.facts.questions import build_tasks
from wideseek_jax.tasks.facts.synthetic import build_synthetic_world

__all__ = [
  'build_corpus',
  'build_synthetic_world',
  'build_tasks',
  'build_world',
]


def build_world() -> _world.FactsWorld:
  """The facts inside packages (see `sources`), the same at every call."""
  found = _sources.all_sources()
  return _world.make_world(found, _sources.all_links(found))
