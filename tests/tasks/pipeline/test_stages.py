import dataclasses
import json

import pytest

from wideseek_jax.tasks import datasets
from wideseek_jax.tasks.pipeline import items, page, stages


class Fake:
  """Numbers as questions; every seventh answer is disputed."""

  def __init__(self, count=200, dies_at=None):
    self.count, self.dies_at, self.calls = count, dies_at, 0

  def seeds(self):
    for n in range(self.count):
      split = ('train', 'train', 'train', 'validation', 'test')[n % 5]
      kind = stages.KINDS[n % 2]
      yield items.Item(f'i{n}', kind, split, {'n': n})

  def _work(self, batch, fill):
    self.calls += 1
    if self.calls == self.dies_at:
      raise KeyboardInterrupt
    return [fill(item) for item in batch]

  def ask(self, batch):
    def fill(item):
      n = item.seed['n']
      if n % 11 == 0:
        return item.reject('no unique answer', '<b>')
      # Two seeds give one question.
      return dataclasses.replace(
        item, question=f'What is {n - (n == 119) * 10}?'
      )

    return self._work(batch, fill)

  def answer(self, batch):
    def fill(item):
      n = item.seed['n']
      rows = tuple((f'{n}-{r}', 'x') for r in range(2 if n % 13 == 0 else 4))
      answer = items.Answer(('k', 'v'), rows, '')
      if item.kind == 'deep':
        answer = items.Answer(text=str(n))
      # 4 and 9 tell of one thing, in test and in train.
      return dataclasses.replace(
        item,
        answers=(answer, answer),
        unique_columns=('k',) if item.kind == 'wide' else (),
        entities=(('n', '4' if n in (4, 90) else str(n)),),
      )

    return self._work(batch, fill)

  def agree(self, batch):
    return self._work(
      batch,
      lambda item: dataclasses.replace(
        item, agreement=0.9 if item.seed['n'] % 7 == 0 else 0.91
      ),
    )


_WANTED = stages.quotas(60)


def _run(folder, back_end):
  return stages.run(folder, back_end, None, _WANTED, {'num': 60}, batch=8)


def _contents(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_quotas_add_up():
  assert sum(stages.quotas(20_000).values()) == 20_000
  # 10,000 of a kind: 8 % and 2 % are held out.
  assert stages.quotas(20_000)['train', 'deep'] == 9000
  assert stages.quotas(7, ['wide']) == {
    ('test', 'wide'): 1,
    ('validation', 'wide'): 0,
    ('train', 'wide'): 6,
  }


def test_what_comes_out_is_what_was_asked_for(tmp_path):
  manifest = _run(tmp_path, Fake())
  loaded = {
    split: datasets.load_tasks(tmp_path / f'{split}.jsonl')
    for split in stages.SPLITS
  }
  assert sum(map(len, loaded.values())) == 60
  assert len({t.question for found in loaded.values() for t in found}) == 60
  assert len(loaded['test']) == 4 and len(loaded['validation']) == 2
  # Exactly 0.9 is not more than 0.9, and two rows are too few.
  numbers = [int(t.task_id[1:]) for f in loaded.values() for t in f]
  assert not [n for n in numbers if n % 7 == 0 or n % 11 == 0]
  assert not [n for n in numbers if n % 13 == 0 and n % 2 == 0]
  rows = {(r['stage'], r['kind']): r for r in manifest['funnel']}
  first = rows['1_questions', 'wide']
  # 100 even numbers below 200, of which 0, 22 … 198 are multiples of 11.
  assert first == {
    'stage': '1_questions',
    'kind': 'wide',
    'in': 100,
    'out': 90,
    'rejected': {'no unique answer': 10},
  }
  for row in manifest['funnel']:
    assert row['in'] == row['out'] + sum(row['rejected'].values())


def test_held_out_answers_stay_out_of_training():
  def item(n, split, thing):
    return items.Item(
      f'i{n}',
      'deep',
      split,
      {},
      question=f'{n}?',
      answers=(items.Answer(text='x'),) * 2,
      entities=(('thing', thing),),
    )

  found = [item(0, 'train', 'a'), item(1, 'test', 'a'), item(2, 'train', 'b')]
  wanted = {('test', 'deep'): 1, ('train', 'deep'): 1}
  reasons = {i.item_id: i.rejected for i in stages.choose(found, wanted)}
  assert reasons == {'i0': 'tells of a held-out answer', 'i1': '', 'i2': ''}


@pytest.mark.parametrize('dies_at', [1, 2, 9, 30, 48, 60])
def test_killed_anywhere_it_ends_in_the_same_bytes(tmp_path, dies_at):
  _run(tmp_path / 'whole', Fake())
  folder = tmp_path / 'killed'
  with pytest.raises(KeyboardInterrupt):
    _run(folder, Fake(dies_at=dies_at))
  for partial in folder.rglob('*.partial'):
    with partial.open('a') as file:
      file.write('{"item_id": "half')
  _run(folder, Fake())
  assert _contents(folder) == _contents(tmp_path / 'whole')


def test_a_finished_data_set_is_not_made_again(tmp_path):
  manifest = _run(tmp_path, Fake())
  again = Fake()
  assert _run(tmp_path, again) == manifest and again.calls == 0


def test_another_data_set_is_refused(tmp_path):
  _run(tmp_path, Fake())
  with pytest.raises(ValueError, match=r'other settings \(num\)'):
    stages.run(tmp_path, Fake(), None, _WANTED, {'num': 61})


def test_another_input_is_refused(tmp_path):
  path = tmp_path / 'stage.jsonl'
  (tmp_path / 'stage.jsonl.partial').write_text('{"item_id": "x"}\n')
  with pytest.raises(ValueError, match='its input has changed'):
    items.run_stage(path, Fake().seeds(), list, 8)


def test_too_few_is_an_error_that_keeps_the_stages(tmp_path):
  with pytest.raises(ValueError, match='of 30 wide tasks passed'):
    _run(tmp_path, Fake(count=40))
  assert (tmp_path / 'stages' / '4_chosen.jsonl').exists()


def test_the_page_stands_alone_and_escapes(tmp_path):
  _run(tmp_path, Fake())
  text = page.write(tmp_path, {'note': '<script>'}).read_text()
  assert '<script' not in text and '&lt;script&gt;' in text
  assert '&lt;b&gt;' in text and 'src=' not in text
  assert 'no unique answer: 10' in text and len(text) < 100_000
  manifest = json.loads((tmp_path / 'manifest.json').read_text())
  assert manifest['fingerprint'] in text
