import json

import pytest

from tests.judge import helpers
from wideseek_jax import types
from wideseek_jax.evaluation import qa


def task(*answers):
  return types.Task('nq/1', 'Who?', 'deep', answers=answers)


def no_judge(prompts):
  raise AssertionError(f'asked {prompts}')


@pytest.mark.parametrize(
  ('answer', 'accepted', 'exact', 'f1'),
  [
    ('The  Beatles!', ['beatles'], 1.0, 1.0),
    ("St. John's", ['st johns'], 1.0, 1.0),
    # Inside of a word an article stays.
    ('theatre', ['atre'], 0.0, 0.0),
    # Tokens {john, lennon, of, liverpool} and {john, lennon}: 2 · 2 / 6.
    ('John Lennon of Liverpool', ['Paul', 'John Lennon'], 0.0, 2 / 3),
    # Bags, not sets: 2 · 2 / (3 + 2).
    ('new york york', ['york new'], 0.0, 0.8),
    # As words on their own, yes and no are right or wrong.
    ('no', ['no way'], 0.0, 0.0),
    ('yes', ['Yes.'], 1.0, 1.0),
    # Nothing is left of either; then of one.
    ('The', ['a'], 1.0, 1.0),
    ('The', ['b'], 0.0, 0.0),
    ('', ['b'], 0.0, 0.0),
    (None, ['b'], 0.0, 0.0),
  ],
)
def test_exact_match_and_f1(answer, accepted, exact, f1):
  assert qa.exact_match(answer, accepted) == exact
  assert qa.f1(answer, accepted) == pytest.approx(f1)


def test_equal_answers_are_not_put_to_the_judge():
  # As words; as numbers by the rules, though not as words.
  tasks = [task('Lima'), task('1234'), task('x'), task('x')]
  found = qa.grade(tasks, ['the LIMA.', '1,234.0', None, ''], no_judge)
  assert [(g.exact_match, g.judge, g.unread) for g in found] == [
    (1.0, 1.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0),
    (0.0, 0.0, 0.0),
  ]


def test_the_judge_gets_the_others_at_once():
  calls = []

  def judge(prompts):
    calls.append([helpers.asked(prompt) for prompt in prompts])
    return ['Same man.\n{"1": true}', '{"1": false}', 'Correct.']

  # Of two numbers rules know that they differ.
  tasks = [task('x b', 'c'), task('Lima'), task('d'), task('e'), task('7')]
  found = qa.grade(tasks, ['b', 'Lima', 'f', 'g', '8'], judge)
  assert [(g.judge, g.unread) for g in found] == [
    (1.0, 0.0),
    (1.0, 0.0),
    (0.0, 0.0),
    (0.0, 1.0),
    (0.0, 0.0),
  ]
  ((first, *others),) = calls
  assert len(others) == 2
  assert first == {'question': 'Who?', 'answer': 'b', 'gold': ['x b', 'c']}


def test_a_dead_judge_is_no_grade():
  def judge(prompts):
    raise types.JudgeUnavailable('dead')

  with pytest.raises(types.JudgeUnavailable):
    qa.grade([task('a')], ['b'], judge)


def test_released_lines(tmp_path):
  path = tmp_path / 'test.jsonl'
  lines = [
    {'question': 'q1', 'answer': ['a', 'b'], 'aug_answer': ['b', 'c']},
    {'question': 'q1', 'answer': 'a', 'source': 'x', 'aug_answer': None},
    {'question': 'q3', 'gt': 1999, 'id': 'test_7'},
    {'question': 'q4', 'answer': []},
    {'question': 'q5', 'answer': [None]},
    {'question': 'q6'},
    {'answer': 'a'},
    {'question': 'q8', 'answer': 'a', 'id': 'test_7'},
  ]
  text = '\n'.join(map(json.dumps, lines)) + '\n{"question": "q9", "ans'
  path.write_text(text, encoding='utf-8')
  tasks, problems = qa.read_questions(path, 'nq')
  assert [(t.task_id, t.question, t.kind, t.answers) for t in tasks] == [
    ('nq/1', 'q1', 'deep', ('a', 'b', 'c')),
    ('nq/2', 'q1', 'deep', ('a',)),
    ('nq/test_7', 'q3', 'deep', ('1999',)),
  ]
  words = [
    "'answer' is not one text or more",
    "'answer' is not one text or more",
    "'answer' is missing",
    "'question' is missing",
    "the id 'nq/test_7'",
    'half',
  ]
  for number, (problem, word) in enumerate(
    zip(problems, words, strict=True), start=4
  ):
    assert problem.startswith(f'{path}:{number}: ') and word in problem


def test_the_seven_sets():
  assert len(qa.FOLDERS) == 7
  assert sum(name.endswith('_rand1000') for name in qa.FOLDERS.values()) == 6
