"""An endless, resumable stream of wide and deep tasks, by grain.

In come sequences of anything with a length and places (lists of tasks, data
sources of `tfds_tasks`); out goes a grain iterator. Each of them is shuffled
anew every epoch, by a seed of its own; they are mixed by weights. The position
is in `iterator.get_state()`, `set_state` goes on from there, and grain's Orbax
handlers keep it in a checkpoint. Needs the extra `data`.
"""

from collections.abc import Sequence
from typing import Any

import grain


def mixed(
  sources: Sequence[Sequence[Any]],
  weights: Sequence[float],
  *,
  seed: int = 0,
  shuffle: bool = True,
) -> grain.DatasetIterator:
  """Mixes sources without end.

  Args:
    sources: such as (wide tasks, deep tasks); a short one comes round sooner.
    weights: their shares of the stream, such as (3, 1) for wide : deep; each
      stretch of the stream is as close to them as whole numbers are. A source
      of weight 0 is left out.
    seed: decides the orders.
    shuffle: False keeps each source's own order, in every epoch.

  Raises:
    ValueError: not one weight for each source, a negative one, none above 0,
      or a source without anything in it.
  """
  if len(sources) != len(weights) or min(weights) < 0 or not any(weights):
    raise ValueError(
      f'{len(sources)} sources need as many weights, none negative and one '
      f'above 0; they are {list(weights)}'
    )
  parts, shares = [], []
  for place, (source, weight) in enumerate(zip(sources, weights, strict=True)):
    if not weight:
      continue
    if not len(source):
      raise ValueError(f'source {place} is empty; give it the weight 0')
    part = grain.MapDataset.source(source)
    if shuffle:
      # Grain wants 32 bits; sources must not share an order.
      part = part.seed((seed * 1_000_003 + place) % 2**32).shuffle()
    parts.append(part.repeat())
    shares.append(weight / sum(weights))
  stream = grain.MapDataset.mix(parts, shares)
  # Tasks are small: threads would cost more than they save.
  return iter(stream.to_iter_dataset(grain.ReadOptions(num_threads=0)))
