"""Random strings to copy: the first lesson of the warm start.

In: a random generator and the ids that may be drawn. Out: trajectories whose
sampled tokens are copies of earlier ones, so that the only way to predict them
is to look them up. A small policy learns this circuit from uniform random
tokens within minutes, and then has it for entities that it never saw.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from wideseek_jax import types


@dataclasses.dataclass(frozen=True)
class Separators:
  """Ids that stand between the random strings, as in pages and tables."""

  newline: int
  colon: int
  semicolon: int
  bar: int


# strings(rng, ids, how many, most tokens of one)
_Strings = Callable[
  [np.random.Generator, np.ndarray, int, int], list[list[int]]
]


def _strings(
  rng: np.random.Generator, ids: np.ndarray, count: int, longest: int
) -> list[list[int]]:
  """Uniform random strings of 1 to `longest` tokens."""
  sizes = rng.integers(1, longest + 1, size=count)
  return [rng.choice(ids, size=size).tolist() for size in sizes]


def _alike(
  rng: np.random.Generator, ids: np.ndarray, count: int, longest: int
) -> list[list[int]]:
  """Random strings, half of the time with one and the same last token.

  As 'Boron-12' and 'Carbon-12' have: the token before does not tell which of
  them is being copied.
  """
  strings = _strings(rng, ids, count, longest)
  if rng.random() < 0.5:
    return strings
  last = rng.choice(ids)
  return [[*string, last] for string in strings]


def _repeat(rng, ids, sep, strings):
  """A list, then the same list as table rows: 'A; B' → '| A |' '| B |'."""
  items = strings(rng, ids, int(rng.integers(3, 9)), 5)
  tokens, mask = [], []
  for item in items:
    tokens += [*item, sep.semicolon]
    mask += [0] * (len(item) + 1)
  for i, item in enumerate(items):
    tokens += [sep.bar, *item, sep.bar, sep.newline]
    mask += [1 if i else 0] + [1] * (len(item) + 2)
  return tokens, mask


def _look_up(rng, ids, sep, strings):
  """Pages of 'key: value' lines, then some keys again: say their values."""
  tokens, mask, asked = [], [], []
  attributes = strings(rng, ids, int(rng.integers(2, 5)), 2)
  for name in strings(rng, ids, int(rng.integers(1, 4)), 4):
    values = strings(rng, ids, len(attributes), 5)
    tokens += [*name, sep.newline]
    for attribute, value in zip(attributes, values, strict=True):
      tokens += [*attribute, sep.colon, *value, sep.newline]
    asked.append((name, attributes, values))
  mask += [0] * len(tokens)
  picked = rng.permutation(len(attributes))[:2]
  for pick in picked:
    tokens += [*attributes[pick], sep.bar]
    mask += [0] * (len(attributes[pick]) + 1)
  for name, _, values in asked:
    tokens += [sep.newline, sep.bar, *name, sep.bar]
    mask += [0, 0] + [0] * len(name) + [1]
    for pick in picked:
      tokens += [*values[pick], sep.bar]
      mask += [1] * (len(values[pick]) + 1)
  return tokens, mask


def _records(rng, ids, sep, strings):
  """Keys with values, then the keys in another order: say their values."""
  count = int(rng.integers(3, 10))
  keys = strings(rng, ids, count, 3)
  values = strings(rng, ids, count, 4)
  tokens, mask = [], []
  for key, value in zip(keys, values, strict=True):
    tokens += [*key, sep.colon, *value, sep.newline]
  mask += [0] * len(tokens)
  for pick in rng.permutation(count):
    tokens += [*keys[pick], sep.colon, *values[pick], sep.newline]
    mask += [0] * (len(keys[pick]) + 1) + [1] * (len(values[pick]) + 1)
  return tokens, mask


_LESSONS = (_repeat, _look_up, _records)


def copy_trajectory(
  rng: np.random.Generator,
  ids: np.ndarray,
  separators: Separators,
  alike: bool = False,
) -> types.Trajectory:
  """One random lesson: a list to repeat, records or pages to look up in.

  Args:
    rng: source of all randomness.
    ids: int [n], the tokens that random strings are drawn from.
    separators: the tokens between strings; must not be among `ids`.
    alike: many strings end alike.

  Returns:
    a trajectory of about 40 to 150 tokens; sample_mask is True on the copies.
  """
  lesson = _LESSONS[rng.integers(len(_LESSONS))]
  tokens, mask = lesson(rng, ids, separators, _alike if alike else _strings)
  return types.Trajectory(
    agent=0,
    role='single',
    subtask='',
    parent_turn=-1,
    token_ids=np.asarray(tokens, np.int32),
    sample_mask=np.asarray(mask, bool),
    behavior_logprobs=np.zeros(len(tokens), np.float32),
    turns=(),
    answer='',
  )
