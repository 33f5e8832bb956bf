import json

import pytest

from wideseek_jax import types
from wideseek_jax.tasks import datasets

tfds_tasks = pytest.importorskip(
  'wideseek_jax.tasks.tfds_tasks', reason="pip install 'wideseek_jax[data]'"
)

_WIDE = types.Task(
  task_id='a',
  question='List every läke.',
  kind='wide',
  table=types.Table(('lake', 'depth m'), (('Blue', '3'), ('Grün', '4'))),
  unique_columns=('lake',),
  metadata={'split': 'train', 'names': ['Blue', 'Grün']},
)
_DEEP = types.Task('b', '?', 'deep', answers=('x', 'y'), language='zh')


# tfds opens its shards without closing them.
@pytest.mark.filterwarnings('ignore::ResourceWarning')
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_files_are_served_with_splits_and_what_was_wrong_with_them(tmp_path):
  datasets.save_tasks(tmp_path / 'train.jsonl', [_WIDE, _DEEP])
  (tmp_path / 'test.jsonl').write_text(
    json.dumps({'question': 'Who?', 'answer': 'I', 'id': 7}) + '\n{"half\n'
  )
  config = tfds_tasks.files_config(
    'mine',
    {s: tmp_path / f'{s}.jsonl' for s in ('train', 'test')},
    licence='CC0',
  )
  builder = tfds_tasks.WideseekTasks(
    config=config, data_dir=tmp_path / 'data', file_format='array_record'
  )
  builder.download_and_prepare()
  found = builder.as_data_source()
  served = [tfds_tasks.make_task(example) for example in found['train']]
  assert sorted(served, key=lambda t: t.task_id) == [_WIDE, _DEEP]
  (test,) = map(tfds_tasks.make_task, found['test'])
  assert test == types.Task('7', 'Who?', 'deep', answers=('I',))
  info = builder.info
  assert info.splits['train'].num_examples == 2
  assert (
    'CC0' in info.redistribution_info.license and '2602.04634' in info.citation
  )
  # A bad line is told of beside the data, whoever opens it later.
  note = tmp_path / 'data/wideseek_tasks/mine/1.0.0/metadata.json'
  assert 'test.jsonl:2: ' in note.read_text()


def test_the_facts_are_registered():
  assert 'wideseek_tasks' in tfds_tasks.tfds.list_builders(
    with_community_datasets=False
  )
  assert tfds_tasks.WideseekTasks.builder_configs.keys() == {'facts'}
