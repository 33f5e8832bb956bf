"""Task files as TensorFlow Datasets, without TensorFlow.

In come the facts world or task files of any form that `released` reads; out go
array_record files with splits, features, citation and licence:

  import wideseek_jax.tasks.tfds_tasks
  found = tfds.data_source('wideseek_tasks/facts', split='train')
  task = tfds_tasks.make_task(found[0])

Files have a config of their own (`files_config`). Needs the extra `data`.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from wideseek_jax import files, types
from wideseek_jax.tasks import datasets, facts, released

_CITATION = """\
@article{xu2026wideseek,
  title={WideSeek-R1},
  author={Xu and others},
  journal={arXiv preprint arXiv:2602.04634},
  year={2026}
}"""
_FACTS_LICENCE = """\
The facts are those of their sources: GeoNames (CC BY 4.0, geonames.org), ISO \
lists of pycountry (LGPL 2.1), airportsdata, countryinfo, us, mendeleev (MIT), \
vega-datasets (BSD 3-clause)."""

# Tasks by split, and the problems of what gave none.
Loaded = tuple[Mapping[str, list[types.Task]], list[str]]


@dataclasses.dataclass(kw_only=True)
class TasksConfig(tfds.core.BuilderConfig):
  """Where tasks come from.

  Attributes:
    load: reads them.
    citation: of who made them.
    licence: of the texts.
  """

  load: Callable[[], Loaded]
  citation: str = _CITATION
  licence: str = ''


def files_config(
  name: str,
  paths: Mapping[str, files.Path],
  *,
  version: str = '1.0.0',
  citation: str = _CITATION,
  licence: str = '',
) -> TasksConfig:
  """The config of files that `released.read_tasks` reads.

  Args:
    name: of the config.
    paths: file of each split.
    version: of the files; another one is prepared anew.
    citation: of who made them.
    licence: of the files.
  """
  return TasksConfig(
    name=name,
    version=version,
    description=', '.join(f'{split}: {p}' for split, p in paths.items()),
    load=functools.partial(_load_files, dict(paths)),
    citation=citation,
    licence=licence,
  )


def _load_files(paths: Mapping[str, files.Path]) -> Loaded:
  found, problems = {}, []
  for split, path in paths.items():
    found[split], more = released.read_tasks(path)
    problems += more
  return found, problems


def _load_facts(num: int = 2000) -> Loaded:
  """Up to so many tasks of each split and kind."""
  world = facts.build_world()
  found = {}
  for split in ('train', 'validation', 'test'):
    kinds = (facts.build_tasks(world, split, k) for k in ('wide', 'deep'))
    found[split] = [task for tasks in kinds for task in tasks[:num]]
  return found, []


class WideseekTasks(tfds.core.GeneratorBasedBuilder):
  """Questions whose answer is a table (wide) or a short text (deep)."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    TasksConfig(
      name='facts',
      description='Questions about 34,356 real things, three types held out.',
      load=_load_facts,
      licence=_FACTS_LICENCE,
    ),
  )

  def _info(self) -> tfds.core.DatasetInfo:
    texts = tfds.features.Sequence(tfds.features.Text())
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'task_id': tfds.features.Text(),
          'question': tfds.features.Text(),
          'kind': tfds.features.ClassLabel(names=['wide', 'deep']),
          # A list of lists has no other form without TensorFlow.
          'table': tfds.features.Text(doc='JSON of the gold; null if deep.'),
          'unique_columns': texts,
          'answers': texts,
          'language': tfds.features.Text(),
          'metadata': tfds.features.Text(doc='JSON'),
        }
      ),
      citation=self.builder_config.citation,
      license=self.builder_config.licence or None,
      homepage='https://arxiv.org/abs/2602.04634',
      metadata=tfds.core.MetadataDict(problems=[]),
    )

  def _split_generators(self, dl_manager: object) -> dict[str, Any]:
    del dl_manager
    found, problems = self.builder_config.load()
    # They stay with the prepared data: metadata.json beside its shards.
    self.info.metadata['problems'] = problems
    return {split: self._generate_examples(t) for split, t in found.items()}

  def _generate_examples(
    self, tasks: list[types.Task]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for task in tasks:
      record = dataclasses.asdict(task)
      for name in ('table', 'metadata'):
        record[name] = json.dumps(record[name], ensure_ascii=False)
      for name in ('unique_columns', 'answers'):
        record[name] = list(record[name])
      yield task.task_id, record


def make_task(example: Mapping[str, Any]) -> types.Task:
  """The task of an example of a data source: as it was before."""
  record = {name: _plain(value) for name, value in example.items()}
  record['kind'] = ('wide', 'deep')[record['kind']]
  for name in ('table', 'metadata'):
    record[name] = json.loads(record[name])
  return datasets.parse_task(record)


def _plain(value: Any) -> Any:
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, np.ndarray | list | tuple):
    return [_plain(item) for item in value]
  return int(value)
