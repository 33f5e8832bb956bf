"""A world of facts as a corpus: one page an entity, one list page a group.

Every name, value and label stands behind a single space, as it does in
questions and tables, so that a byte-pair tokenizer has one form of it: what is
to be copied or looked up must not look different in two places.
"""

import hashlib

from wideseek_jax import types
from wideseek_jax.tasks.facts import world as facts_world
from wideseek_jax.tools import corpus


def build_corpus(world: facts_world.FactsWorld) -> corpus.Corpus:
  """Writes the pages of a world.

  Urls are 'facts/<n>' in an order that mixes types and tells nothing: pages
  are sorted by a hash of their titles.
  """
  written = [entity_page(entity) for entity in world.entities]
  written += [list_page(group) for group in facts_world.groups(world)]
  written.sort(key=lambda page: (_shuffle_key(page[0]), page))
  return corpus.Corpus(
    tuple(
      types.Page(url=f'facts/{number}', title=title, contents=contents)
      for number, (title, contents) in enumerate(written)
    )
  )


def entity_page(entity: facts_world.Entity) -> tuple[str, str]:
  """Title and contents of an entity's page."""
  facts = {entity.type: entity.name, **entity.attributes}
  lines = [f'- {key}: {value}' for key, value in facts.items()]
  return f'{entity.name} ({entity.type})', '\n'.join(lines)


def list_page(group: facts_world.Group) -> tuple[str, str]:
  """Title and contents of a group's page."""
  condition = f'with {group.attribute} {group.value}'
  names = '; '.join(entity.name for entity in group.members)
  # Singular in the title, plural in the contents: a search may say either.
  return (
    f'List: every {group.type.name} {condition}',
    f'{group.type.plural} {condition}\nNames: {names}',
  )


def _shuffle_key(title: str) -> bytes:
  return hashlib.blake2b(title.encode(), digest_size=8).digest()
