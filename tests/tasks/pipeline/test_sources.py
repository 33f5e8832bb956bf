import pytest

from wideseek_jax.tasks.pipeline import sources, stages

_WANTED = stages.quotas(10)


def _judge(prompts):
  return ['{"intent": "Compare lakes."}'] * len(prompts)


def test_topics_of_a_file_need_a_model(tmp_path):
  path = tmp_path / 'topics.jsonl'
  path.write_text('{"text": "lakes"}\n')
  with pytest.raises(ValueError, match=r'config\.judge\.base_url'):
    sources.open_source(str(path), _WANTED)
  with pytest.raises(ValueError, match='hybridqa_folder'):
    sources.open_source('hybridqa', _WANTED)


def test_topics_take_turns_and_bad_lines_are_told_of(tmp_path):
  path = tmp_path / 'topics.jsonl'
  lines = [f'{{"intent": "topic {n}"}}' for n in range(12)]
  path.write_text('\n'.join([*lines[:6], '{"half', '{}', *lines[6:]]))
  source = sources.open_source(str(path), _WANTED, judge=_judge)
  assert [p.split(':')[1] for p in source.problems] == ['7', '8']
  drawn = list(source.back_end.seeds())
  assert drawn == list(source.back_end.seeds())
  assert {item.kind for item in drawn} == {'wide', 'deep'}
  texts = [item.seed['text'] for item in drawn]
  assert len(set(texts)) == len(texts) >= 6
  # A text has one split, whatever stands around it.
  path.write_text('\n'.join(lines[::-1]))
  again = sources.open_source(str(path), stages.quotas(100), judge=_judge)
  splits = {i.seed['text']: i.split for i in again.back_end.seeds()}
  assert {i.seed['text']: i.split for i in drawn}.items() <= splits.items()
