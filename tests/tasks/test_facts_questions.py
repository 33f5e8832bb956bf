"""Questions and gold answers, on a world worked out by hand."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from wideseek_jax import types
from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import world as facts_world


def _value_of_split(split, number=0):
  """The number-th of some words whose hash leads to a split."""
  words = (f'land {i}' for i in range(1000))
  return [w for w in words if facts_world.split_of_value(w) == split][number]


def _world():
  """Lands (train only) and lakes, which are split by land.

  lake   land      depth   found  colour
  Aa     Ardia     1       1900   red
  Bb     Ardia     2       -      red
  Cc     Ardia     3       1902   red
  Dd     Ardia     4       1903   blue
  Ee-Gg  Tesland   5-7     1904   blue
  """
  ardia, tesland = _value_of_split('train'), _value_of_split('test')
  land = facts_world.EntityType(
    'land', 'lands', ('capital', 'coin'), ('coin',), 'train'
  )
  lake = facts_world.EntityType(
    'lake',
    'lakes',
    ('land', 'depth', 'found', 'colour'),
    ('land', 'colour'),
    'shared',
    'land',
  )
  rows = [
    ('Aa', ardia, 1, 1900, 'red'),
    ('Bb', ardia, 2, None, 'red'),
    ('Cc', ardia, 3, 1902, 'red'),
    ('Dd', ardia, 4, 1903, 'blue'),
    ('Ee', tesland, 5, 1904, 'blue'),
    ('Ff', tesland, 6, 1904, 'blue'),
    ('Gg', tesland, 7, 1904, 'blue'),
  ]
  sources = [
    facts_world.Source(
      land,
      [
        (ardia, {'capital': 'Arden', 'coin': 'Aa'}),
        (tesland, {'capital': 'Tes'}),
      ],
    ),
    facts_world.Source(
      lake,
      [
        (name, dict(zip(lake.attributes, row, strict=True)))
        for name, *row in rows
      ],
    ),
  ]
  world = facts_world.make_world(
    sources, [facts_world.Link('lake', 'land', 'land')]
  )
  return world, ardia, tesland


def test_wide_tasks_are_all_that_can_be_asked():
  world, ardia, tesland = _world()
  asked = {
    split: [
      (
        task.metadata['group_attribute'],
        task.metadata['group_value'],
        tuple(sorted(task.table.columns[1:])),
      )
      for task in facts.build_tasks(world, split, 'wide')
    ]
    for split in facts_world.SPLITS
  }
  # 'found' is not known of all lakes of Ardia or of all red ones; blue lakes
  # lie in two splits, so nobody asks for them; three lakes are red.
  assert sorted(asked['train']) == sorted(
    [
      ('land', ardia, columns)
      for columns in (('depth',), ('colour',), ('colour', 'depth'))
    ]
    + [
      ('colour', 'red', columns)
      for columns in (('depth',), ('land',), ('depth', 'land'))
    ]
  )
  assert asked['validation'] == []
  assert sorted(asked['test']) == [
    ('land', tesland, columns)
    for columns in sorted(
      [
        ('depth',),
        ('found',),
        ('colour',),
        ('depth', 'found'),
        ('colour', 'depth'),
        ('colour', 'found'),
        ('colour', 'depth', 'found'),
      ]
    )
  ]


def test_wide_task_has_this_question_and_gold_table():
  world, ardia, _ = _world()
  tasks = facts.build_tasks(
    world, 'train', 'wide', min_rows=4, min_columns=3, max_columns=3
  )
  (task,) = tasks  # Only Ardia has four lakes.
  first, second = task.table.columns[1:]
  assert {first, second} == {'depth', 'colour'}
  assert re.fullmatch(
    r'(List|Find|Make a table of|I need a table of) every lake with land '
    rf'{ardia}\. Columns: lake, {first}, {second}\.',
    task.question,
  )
  depths_first = types.Table(
    ('lake', 'depth', 'colour'),
    (
      ('Aa', '1', 'red'),
      ('Bb', '2', 'red'),
      ('Cc', '3', 'red'),
      ('Dd', '4', 'blue'),
    ),
  )
  colours_first = types.Table(
    ('lake', 'colour', 'depth'),
    tuple((name, colour, deep) for name, deep, colour in depths_first.rows),
  )
  assert task.table == (depths_first if first == 'depth' else colours_first)
  assert task.unique_columns == ('lake',)
  assert task.metadata == {
    'split': 'train',
    'entity_type': 'lake',
    'unseen_type': False,
    'group_attribute': 'land',
    'group_value': ardia,
    'num_rows': 4,
    'names': ['Aa', 'Bb', 'Cc', 'Dd'],
  }


def test_deep_tasks_take_two_hops_within_a_split():
  world, ardia, _ = _world()
  # Lakes of Tesland are for test, the land itself for training: never asked.
  assert facts.build_tasks(world, 'test', 'deep') == []
  tasks = facts.build_tasks(world, 'train', 'deep')
  # The coin Aa bears the name of the lake Aa: that question gives it away.
  assert sorted((task.question, task.answers) for task in tasks) == sorted(
    [
      (f'What is the capital of the land of the lake {lake}?', ('Arden',))
      for lake in ('Aa', 'Bb', 'Cc', 'Dd')
    ]
    + [
      (f'What is the coin of the land of the lake {lake}?', ('Aa',))
      for lake in ('Bb', 'Cc', 'Dd')
    ]
  )
  (task,) = [
    t for t in tasks if t.question.endswith('Bb?') and 'coin' in t.question
  ]
  assert task.metadata == {
    'split': 'train',
    'entity_type': 'lake',
    'hops': [['Bb', 'lake', 'land'], [ardia, 'land', 'coin']],
  }


def test_limits_on_rows_and_columns_hold():
  world = facts.build_synthetic_world(seed=3, num_types=6, entities_per_type=60)
  tasks = facts.build_tasks(
    world,
    'train',
    'wide',
    min_rows=4,
    max_rows=6,
    min_columns=3,
    max_columns=3,
  )
  assert {len(task.table.rows) for task in tasks} == {4, 5, 6}
  assert {len(task.table.columns) for task in tasks} == {3}


def test_questions_differ_and_groups_come_before_repetitions():
  world = facts.build_synthetic_world(seed=4, num_types=6, entities_per_type=60)
  for kind in ('wide', 'deep'):
    tasks = facts.build_tasks(world, 'train', kind)
    assert len({task.question for task in tasks}) == len(tasks) > 100
    assert len({task.task_id for task in tasks}) == len(tasks)
  tasks = facts.build_tasks(world, 'train', 'wide')
  groups = [
    (task.metadata['entity_type'], task.metadata['group_value'])
    for task in tasks
  ]
  number = len(set(groups))
  assert len(set(groups[:number])) == number


def test_same_seed_same_tasks_and_fewer_are_the_first_of_more():
  world = facts.build_synthetic_world(seed=5, num_types=4, entities_per_type=40)
  more = facts.build_tasks(world, 'train', 'wide', num=40, seed=1)
  assert facts.build_tasks(world, 'train', 'wide', num=40, seed=1) == more
  assert facts.build_tasks(world, 'train', 'wide', num=10, seed=1) == more[:10]
  assert facts.build_tasks(world, 'train', 'wide', num=40, seed=2) != more


def test_processes_agree():
  # Hashes of strings differ between processes; nothing may depend on them.
  code = (
    'from wideseek_jax.tasks import facts;'
    'w = facts.build_synthetic_world(6, 6, 40);'
    'print(w.fingerprint, [t.question for k in ("wide", "deep")'
    ' for t in facts.build_tasks(w, "train", k, num=30)])'
  )
  outputs = {
    subprocess.run(
      [sys.executable, '-c', code],
      env={**os.environ, 'PYTHONHASHSEED': seed, 'PYTHONIOENCODING': 'utf-8'},
      check=True,
      capture_output=True,
    ).stdout
    for seed in ('1', '2')
  }
  assert len(outputs) == 1
  assert len(outputs.pop()) > 1000


def test_asking_for_too_many_tells_how_many_exist():
  world, _, _ = _world()
  with pytest.raises(ValueError, match=r'9 wide train tasks .* 6 exist'):
    facts.build_tasks(world, 'train', 'wide', num=9)
  assert len(facts.build_tasks(world, 'train', 'wide', num=6)) == 6
  with pytest.raises(ValueError, match="split 'dev'"):
    facts.build_tasks(world, 'dev', 'wide')
  with pytest.raises(ValueError, match="kind 'tall'"):
    facts.build_tasks(world, 'train', 'tall')


def test_splits_of_synthetic_worlds_share_no_entity():
  world = facts.build_synthetic_world(
    seed=7, num_types=20, entities_per_type=60
  )
  seen = {}
  for split in facts_world.SPLITS:
    wide = facts.build_tasks(world, split, 'wide')
    deep = facts.build_tasks(world, split, 'deep')
    assert wide
    named = {
      (task.metadata['entity_type'], row[0])
      for task in wide
      for row in task.table.rows
    }
    named |= {
      (kind, name) for task in deep for name, kind, _ in task.metadata['hops']
    }
    for name in named:
      assert seen.setdefault(name, split) == split
  assert set(seen.values()) == set(facts_world.SPLITS)


def test_world_is_frozen():
  world, _, _ = _world()
  with pytest.raises(dataclasses.FrozenInstanceError):
    world.fingerprint = ''
