"""The floors of the house: a module imports only from below.

A module may import from lower floors, and on its own floor from its own
package. Read off the source with ast, so nothing has to be importable.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / 'wideseek_jax'

# The first prefix that fits a module's dotted name decides.
FLOORS = (
  ('types', -1),
  ('files', -1),
  ('cache', -1),
  ('event_loop', -1),
  ('keys', -1),
  ('config', 0),
  ('tokenizer', 0),
  ('sharding', 0),
  ('progress', 0),
  ('models.config', 0),
  ('engine.sampling', 0),
  ('engine.pages', 0),
  ('rl.', 0),
  ('judge.rules', 0),
  ('judge.questions', 0),
  ('tasks.tables', 0),
  ('tools.corpus', 0),
  ('agents.prompts', 0),
  ('agents.templates', 0),
  ('agents.tool_schemas', 0),
  ('models.', 1),
  ('judge.', 1),
  ('tasks.', 1),
  ('tools.', 1),
  ('agents.tool_calls', 1),
  ('agents.tool_text', 1),
  ('agents.rollout_config', 1),
  ('training.loop', 4),
  ('training.rolling', 4),
  ('training.learning', 4),
  ('training.warm_start', 4),
  ('engine.', 2),
  ('training.', 2),
  ('agents.', 3),
  ('evaluation.', 4),
  ('backends', 5),
  ('build', 5),
  ('run', 5),
  ('testing', 5),
  ('', 5),  # the package itself: the public names
)

# (who, must not import): prefixes of dotted names.
BANNED = (
  ('agents.', ('jax', 'flax', 'wideseek_jax.models', 'wideseek_jax.engine')),
  ('agents.', ('wideseek_jax.rl', 'wideseek_jax.training')),
  ('tools.', ('jax', 'flax', 'optax')),
  ('tasks.', ('jax', 'flax', 'optax', 'wideseek_jax.agents')),
  ('judge.', ('jax', 'flax', 'optax')),
  (
    'engine.',
    (
      'wideseek_jax.tokenizer',
      'wideseek_jax.tools',
      'wideseek_jax.agents',
      'wideseek_jax.tasks',
    ),
  ),
  (
    'training.grpo_step',
    (
      'wideseek_jax.engine',
      'wideseek_jax.agents',
      'wideseek_jax.tools',
      'wideseek_jax.tasks',
    ),
  ),
  ('', ('absl.flags', 'experiments')),
)


def _modules() -> dict[str, pathlib.Path]:
  names = {}
  for path in PACKAGE.rglob('*.py'):
    parts = list(path.relative_to(PACKAGE).with_suffix('').parts)
    if parts[-1] == '__init__':
      parts.pop()
    names['.'.join(parts)] = path
  return names


MODULES = _modules()


def _imports(path: pathlib.Path) -> set[str]:
  """Dotted names of all that a file imports, modules of this package whole."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      for alias in node.names:
        whole = f'{node.module}.{alias.name}'
        inside = whole.removeprefix('wideseek_jax.')
        found.add(whole if inside in MODULES else node.module)
        if node.module == 'absl':
          found.add(whole)
  return found


def _floor(name: str) -> int:
  return next(f for prefix, f in FLOORS if (name + '.').startswith(prefix))


@pytest.mark.parametrize('name', sorted(MODULES))
def test_a_module_imports_only_from_below(name):
  own = name.split('.')[0]
  for imported in _imports(MODULES[name]):
    if not imported.startswith('wideseek_jax.'):
      continue
    other = imported.removeprefix('wideseek_jax.')
    neighbours = '.' in other and other.split('.')[0] == own
    if neighbours and _floor(other) == _floor(name):
      continue
    # Training and evaluation share the flow's floor: validation is a part of
    # training.
    if name == 'training.rolling' and other == 'evaluation.runner':
      continue
    if _floor(name) == 5 and _floor(other) == 5:
      continue
    assert _floor(other) < _floor(name), f'{name} imports {other}'


@pytest.mark.parametrize('name', sorted(MODULES))
def test_banned_imports(name):
  for who, what in BANNED:
    if not (name + '.').startswith(who):
      continue
    for imported in _imports(MODULES[name]):
      for banned in what:
        assert not (imported + '.').startswith(banned + '.'), (
          f'{name} imports {imported}'
        )


def test_only_config_and_build_know_config_dicts():
  users = {
    name
    for name, path in MODULES.items()
    if any(i.split('.')[0] == 'ml_collections' for i in _imports(path))
  }
  assert users <= {'config', 'build'}


def test_the_test_sees_imports():
  assert 'wideseek_jax.types' in _imports(MODULES['tokenizer']) | _imports(
    MODULES['agents.rollout']
  )
  assert _floor('agents.rollout') == 3 and _floor('agents.prompts') == 0
