import json

import pytest

from tests.evaluation.widesearch import helpers as tables
from tests.evaluation.widesearch import test_released as files_of
from wideseek_jax import config, run_benchmark, types
from wideseek_jax.evaluation import benchmarks
from wideseek_jax.evaluation.widesearch import released


def test_what_cannot_be_used_is_named_and_the_rest_is_scored(tmp_path):
  unknown = json.dumps(
    files_of.EVALUATION | {'eval_pipeline': {'v': {'metric': ['near']}}}
  )
  lines = [
    json.dumps(files_of.QUERY),
    json.dumps({'instance_id': 'ws_en_002'}),
    json.dumps(files_of.QUERY | {'instance_id': 'c', 'evaluation': unknown}),
    json.dumps(files_of.QUERY),
    json.dumps(files_of.QUERY)[:60],
  ]
  data = tmp_path / 'test.jsonl'
  data.write_text('\n'.join(lines), encoding='utf-8')
  answers = tmp_path / 'answers.jsonl'
  right = tables.block('Name | V', 'a | 7', 'NA | 1.5')
  released.write_responses(
    answers,
    [
      released.Response('ws_en_001', right, trial_idx=0),
      released.Response('ws_de_001', right, trial_idx=0),
    ],
  )
  for _ in range(2):  # The second time everything is there.
    summary, problems = run_benchmark.score_responses(
      config.default_config(),
      benchmarks.widesearch(data),
      answers,
      tmp_path / 'scores',
    )
    for problem, (path, number, words) in zip(
      problems,
      [
        (data, 2, "'answer' is missing"),
        (data, 3, "no metric 'near'"),
        (data, 4, "the id 'ws_en_001'"),
        (data, 5, 'half of one'),
        (answers, 2, "'ws_de_001'"),
      ],
      strict=True,
    ):
      assert problem.startswith(f'{path}:{number}: ') and words in problem
    assert summary['statuses'] == {'scored': 1}
    text = (tmp_path / 'scores/summary.md').read_text()
    assert '| all | 1 | score | 100.0 [100.0, 100.0] |' in text
    assert '\n1 scored\n' in text
    written = json.loads((tmp_path / 'scores/summary.json').read_text())
    assert written == summary


def test_tasks_with_too_few_answers_are_skipped(tmp_path):
  data = files_of.write(tmp_path / 'test.jsonl', files_of.QUERY)
  answers = tmp_path / 'answers.jsonl'
  released.write_responses(answers, [released.Response('ws_en_001', '')])
  with pytest.raises(ValueError, match="1 of 2 to 'ws_en"):
    run_benchmark.score_responses(
      config.default_config(),
      benchmarks.widesearch(data),
      answers,
      tmp_path / 'scores',
      samples=2,
    )
  assert not (tmp_path / 'scores').exists()


def test_what_is_refused_before_anything_is_written(tmp_path):
  task = types.Task('c', 'Who?', 'deep', answers=('she',))
  options = config.default_config()
  options.policy = 'nowhere'
  with pytest.raises(FileNotFoundError, match='nowhere'):
    run_benchmark.run(options, benchmarks.facts([task]), tmp_path / 'new')
  assert not (tmp_path / 'new').exists()
