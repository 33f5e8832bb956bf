import dataclasses
import json
import pathlib
import re

import pytest

from experiments import flags
from tests.evaluation.widesearch import helpers
from tests.experiments import helpers as command
from wideseek_jax.evaluation.widesearch import cases, records

ROOT = pathlib.Path(__file__).parents[3]
SHARED = ROOT.parent / 'shared/widesearch_cases/cases.jsonl'

CASE = {
  'id': 'c1',
  'evaluation': {
    'required': ['name', 'v'],
    'unique_columns': ['name'],
    'eval_pipeline': {
      'name': {'metric': ['exact_match']},
      'v': {'metric': ['llm_judge'], 'criterion': 'same'},
    },
  },
  'gold_csv': 'Name,V\na,1\nb,2\n',
  'response': helpers.block('Name | V', 'A | x', 'b | y'),
  'judge_replies': [
    {'kind': 'keys', 'column': 'name', 'reply': helpers.reply('{"A": "a"}')},
    {
      'kind': 'judge',
      'column': 'v',
      'reply': helpers.reply('{"idx_0": 1, "idx_1": 0}'),
    },
  ],
}


def write(path, *records_):
  lines = [r if isinstance(r, str) else json.dumps(r) for r in records_]
  path.write_text('\n'.join(lines), encoding='utf-8')
  return path


def numbers(result):
  return [getattr(result, name) for name in records.NUMBERS]


@pytest.mark.skipif(not SHARED.exists(), reason='../shared is not here')
def test_agreement_with_the_official_scorer():
  found, problems = cases.read_cases(SHARED)
  assert not problems
  lines = SHARED.read_text(encoding='utf-8').splitlines()
  for case, line in zip(found, lines, strict=True):
    official = json.loads(line)
    asked = []
    result = helpers.result(case.gold, case.response, case.replies, asked=asked)
    assert numbers(result) == pytest.approx(
      [official['expected'][name] for name in records.NUMBERS], abs=1e-9
    ), case.id
    assert result.status == official['expected']['status'], case.id
    # Every recorded call is made, with the same pairs of cells.
    for recorded in official['judge_replies']:
      place = recorded['kind'], recorded['column']
      (question,) = [q for q in asked if (q.kind, q.column) == place]
      pairs = re.findall(
        r'"response": ("(?:[^"\\]|\\.)*"), "target": ("(?:[^"\\]|\\.)*")',
        question.prompt,
      )
      assert [[json.loads(a), json.loads(b)] for a, b in pairs] == (
        recorded.get('pairs', [])
      )


def test_recorded_replies_stand_in_for_the_judge(tmp_path):
  silent = CASE | {'id': 'c2', 'judge_replies': []}
  null = [{'kind': 'keys', 'column': 'name', 'reply': None}]
  path = write(
    tmp_path / 'cases.jsonl',
    CASE,
    silent,
    CASE | {'id': 'c3', 'judge_replies': null},
  )
  found, problems = cases.read_cases(path)
  assert not problems
  first, second, third = (cases.score_case(case) for case in found)
  # Both keys and one of two cells.
  assert (first.f1_by_row, first.f1_by_item) == (0.5, 0.75)
  # No reply: A is no row, y is no 2; a call without an entry is as good as
  # one without content. One of 2 · 2 cells is right: b.
  assert second == third
  assert (second.f1_by_row, second.f1_by_item) == (0.0, 0.25)


PROBLEMS = [
  ('{"id": "c9", "gold', 'half'),
  ('[]', 'not a JSON object'),
  ('{"id": "c9", "id": "c9"}', "the key 'id' twice"),
  (CASE, "has the id 'c1', too"),
  (CASE | {'id': 9}, "'id' is int, not str"),
  (CASE | {'id': 'c9', 'gold_csv': 'Name\na\n'}, "no column 'v'"),
  (CASE | {'id': 'c9', 'gold_csv': 'Name,V\na\n'}, 'line 2 has 1 fields'),
  (CASE | {'id': 'c9', 'judge_replies': [{}]}, "'kind' is missing"),
  (CASE | {'id': 'c9', 'judge_replies': ['x']}, 'is no object'),
  (
    CASE | {'id': 'c9', 'judge_replies': CASE['judge_replies'][:1] * 2},
    'twice',
  ),
  (
    json.dumps(CASE | {'id': 'c9'}).replace('llm_judge', 'near'),
    "column 'v': there is no metric 'near'",
  ),
  *(
    ({k: v for k, v in CASE.items() if k != name} | more, f"'{name}' is miss")
    for name, more in [
      ('id', {}),
      *((name, {'id': 'c9'}) for name in CASE if name != 'id'),
    ]
  ),
]


def test_each_bad_line_is_named_and_the_rest_is_read(tmp_path):
  path = write(
    tmp_path / 'cases.jsonl',
    CASE,
    *(line for line, _ in PROBLEMS),
    CASE | {'id': 'c2'},
  )
  found, problems = cases.read_cases(path)
  assert [case.id for case in found] == ['c1', 'c2']
  for number, (problem, (_, words)) in enumerate(
    zip(problems, PROBLEMS, strict=True), start=2
  ):
    assert problem.startswith(f'{path}:{number}: ') and words in problem


def test_bytes_that_are_no_text(tmp_path):
  path = tmp_path / 'cases.jsonl'
  path.write_bytes(b'\xff\xfe\n' + json.dumps(CASE).encode() + b'\n\n')
  found, (problem,) = cases.read_cases(path)
  assert len(found) == 1 and problem.startswith(f'{path}:1: ')


def test_strict_names_what_official_scoring_lets_pass(tmp_path):
  twice = CASE | {'id': 'c2', 'gold_csv': 'Name,V\na,1\na,2\n'}
  path = write(tmp_path / 'cases.jsonl', CASE, twice)
  assert len(cases.read_cases(path)[0]) == 2
  found, (problem,) = cases.read_cases(path, strict=True)
  assert [case.id for case in found] == ['c1']
  assert problem == f"{path}:2: two gold rows have the key ['a']"


def test_the_command(tmp_path):
  path, out = tmp_path / 'cases.jsonl', tmp_path / 'out' / 'scores.jsonl'
  write(path, '{"id": "half', CASE, CASE | {'id': 'c2', 'response': 'none'})
  found = command.run('score_tables', f'--cases={path}', f'--out={out}')
  rows = [json.loads(line) for line in out.read_text().splitlines()]
  case = cases.read_cases(path)[0][0]
  result = cases.score_case(case)
  assert rows[0] == {'id': 'c1', **dataclasses.asdict(result)}
  assert [rows[1][name] for name in records.NUMBERS] == [0.0] * 7
  assert found.returncode == 3
  skipped, last = found.stderr.strip().splitlines()
  assert skipped.startswith(f'skipped: {path}:1: ')
  assert last == 'error: 1 parts of the input skipped'


def test_nothing_skipped_is_no_error(capsys):
  flags.report_skipped([])
  assert capsys.readouterr() == ('', '')
