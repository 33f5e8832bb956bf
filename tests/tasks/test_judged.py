import json
import random

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.judge import helpers
from wideseek_jax import types
from wideseek_jax.tasks import judged, metrics

GOLD = types.Table(
  ('Country', 'Capital', 'People'),
  (
    ('United States', 'Washington, D.C.', '331 million'),
    ('Spain', 'Madrid', '3,000'),
  ),
)
TASK = types.Task('w', 'Which?', 'wide', GOLD, ('Country',))
DEEP = types.Task('d', 'Who?', 'deep', answers=('George Bush', '2,000'))
WORDS = (
  ('USA', 'United States', 'America'),
  ('Washington', 'Washington, D.C.'),
  ('331000000', '331 million'),
  ('Land', 'Country'),
  ('Population', 'People'),
  ('Bush senior', 'George Bush'),
)


def table(*rows, columns=GOLD.columns):
  return types.Table(columns, tuple(tuple(row) for row in rows))


def ask(judge, *answers, task=TASK, **options):
  kind = judged.judge_table if task.kind == 'wide' else judged.judge_boxed
  return judged.ask(judge, [kind(a, task, **options) for a in answers])


def f1(found, task=TASK):
  made = metrics.table_metrics(found, task.table, task.unique_columns)
  return made['item_f1']


def test_keys_columns_and_cells_of_other_words():
  judge = helpers.Synonyms(*WORDS)
  answer = table(
    ('x', '331000000', 'Washington', 'USA'),
    ('x', '3000', 'Madrid', 'Spain'),
    columns=('Note', 'Population', 'Capital', 'Land'),
  )
  (found,) = ask(judge, answer)
  assert found.table == types.Table(
    GOLD.columns, (GOLD.rows[0], ('Spain', 'Madrid', '3000'))
  )
  assert f1(answer) == 0 and f1(found.table) == 1
  # Three names of columns (the note is one), a key, two cells.
  assert (found.asked, found.undecided) == (6, 0)
  assert len(judge.calls) == 3


def test_rules_are_not_asked_about():
  judge = helpers.Synonyms()
  (found,) = ask(judge, GOLD)
  assert found == judged.Judged(table=GOLD) and not judge.calls
  # Another number, in a cell and in a key, needs no judge.
  numbers = types.Table(('Year', 'Films'), (('1917', '7'), ('2001', '8')))
  task = types.Task('n', 'Which?', 'wide', numbers, ('Year',))
  answer = table(('1,917', '6'), ('2002', '8'), columns=('year', 'FILMS'))
  (found,) = ask(judge, answer, task=task)
  assert found.asked == 0 and not judge.calls


def test_nobody_asks_about_what_is_matched_or_missing():
  judge = helpers.Synonyms(*WORDS)
  # Spain is there, so only the other country can be meant; '' is no name.
  ask(
    judge, table(('spain', 'Madrid', '3000'), ('USA', 'a', 'b'), ('', '', ''))
  )
  names, *_ = [helpers.asked(prompt) for prompt in judge.prompts]
  assert [name['name'] for name in names['names']] == ['USA']
  assert [name['name'] for name in names['gold']] == ['United States']
  # Cells of rows that do not join are never shown, nor their keys.
  judge = helpers.Synonyms(*WORDS)
  ask(judge, table(('Mars', 'hidden', 'hidden')))
  assert 'hidden' not in ''.join(judge.prompts)
  # No table, no question.
  assert ask(judge, None) == [judged.Judged()]


def test_each_key_column_has_names_of_its_own():
  gold = types.Table(
    ('Country', 'Year', 'City'),
    (('United States', 'first', 'Austin'), ('Spain', 'first', 'Madrid')),
  )
  task = types.Task('n', 'Which?', 'wide', gold, ('City', 'Country'))
  judge = helpers.Synonyms(*WORDS, ('ATX', 'Austin'))
  answer = table(('USA', 'first', 'ATX'), gold.rows[1], columns=gold.columns)
  (found,) = ask(judge, answer, task=task)
  assert found.table == gold and found.asked == 2
  # One round: a prompt a column, each with the names of that column.
  (prompts,) = judge.calls
  assert [
    [name['name'] for key in ('names', 'gold') for name in asked[key]]
    for asked in map(helpers.asked, prompts)
  ] == [['ATX', 'Austin'], ['USA', 'United States']]


def test_a_judge_overrules_no_rule():
  def agreeable(prompts):
    """All are the same, and every name is the first one."""
    return [json.dumps(dict.fromkeys(range(1, 99), 1)) for _ in prompts]

  gold = types.Table(
    ('Id', 'Name'), (('1234567', 'a'), ('eight', 'c'), ('seven', 'b'))
  )
  task = types.Task('n', 'Which?', 'wide', gold, ('Id',))
  answer = table(('1234568', 'a'), ('seven', '5'), columns=gold.columns)
  (found,) = ask(agreeable, answer, task=task)
  # The number might have been the word, but is not the other number; the cell
  # that is a number where a word is right is the judge's.
  assert found.asked == 2
  assert found.table.rows == (('1234568', 'a'), ('seven', 'b'))


def test_one_mixed_column_blanks_nothing():
  # SPEC D.2: a number in a column made the released code drop its texts.
  films = ('Se7en', '300', '1917', 'Inception', '1234567', '1234568')
  gold = types.Table(('Film', 'Code'), tuple((f, f) for f in films))
  task = types.Task('n', 'Which?', 'wide', gold, ('Film',))
  judge = helpers.Synonyms()
  (found,) = ask(judge, gold, task=task)
  assert f1(found.table, task) == 1 and not judge.calls
  swapped = table(
    *zip(films, reversed(films), strict=True), columns=gold.columns
  )
  (found,) = ask(judge, swapped, task=task)
  # Six keys of twelve items join, and no cell: two of the six pairs are of
  # numbers, which rules decide.
  assert f1(found.table, task) == 1 / 2
  assert found.asked == 4


def test_equal_names_are_one_row():
  judge = helpers.Synonyms(*WORDS)
  answer = table(('USA', 'Washington', '1'), ('America', 'New York', '1'))
  (found,) = ask(judge, answer)
  # As with two rows that rules find equal, the first one stays.
  assert found.table.rows == (('United States', 'Washington, D.C.', '1'),)


@pytest.mark.parametrize(
  'reply', ['', 'no idea', '{}', '<think>{"1": true}', '{"7": true}']
)
def test_undecided_counts_as_different(reply):
  answer = table(('USA', 'x', 'y'), ('Spain', 'Madrid?', 'three thousand'))
  (found,) = ask(lambda prompts: [reply] * len(prompts), answer)
  assert found.table == answer
  # One key and two cells.
  assert (found.asked, found.undecided) == (3, 3)


def test_a_thought_is_no_reply():
  reply = '<think>{"1": false}</think>{"1": true}'
  (found,) = ask(lambda prompts: [reply] * len(prompts), 'a', task=DEEP)
  assert found.boxed == 'George Bush'
  reply = '{"1": true}</think>'
  (found,) = ask(lambda prompts: [reply] * len(prompts), 'a', task=DEEP)
  assert found.boxed == 'a'


def test_all_rollouts_of_a_round_are_one_call():
  judge = helpers.Synonyms(*WORDS)
  one = table(('USA', 'Washington', '1'), ('Spain', 'Madrid', 'many'))
  two = table(('Land', 'Washington', '1'), ('Spain', 'Madrid', 'many'))
  apart = [ask(judge, answer)[0] for answer in (one, two, one, None)]
  judge.calls.clear()
  assert ask(judge, one, two, one, None) == apart
  # Keys, then cells; what two rollouts ask alike is asked once.
  assert len(judge.calls) == 2
  for prompts in judge.calls:
    assert len(set(prompts)) == len(prompts)


def test_questions_are_of_bounded_size_and_number():
  gold = types.Table(
    ('Key', 'Value'), tuple((f'k{i}', f'v{i}') for i in range(100))
  )
  task = types.Task('n', 'Which?', 'wide', gold, ('Key',))
  judge = helpers.Synonyms()
  rows = [(f'k{i % 100}', f'w{i}') for i in range(3000)]
  rows += [(f'strange {i}', 'x') for i in range(3000)]
  (found,) = ask(judge, table(*rows, columns=gold.columns), task=task)
  # All keys are there: nobody asks what the strange ones mean. A row of a key
  # that stood before is not looked at: 100 cells in prompts of 40.
  assert found.asked == 100 and len(judge.prompts) == 3
  judge.calls.clear()
  (found,) = ask(
    judge, table(*rows[1:100], *rows[3000:], columns=gold.columns), task=task
  )
  # One key is missing: 400 names in prompts of 40; 99 cells.
  assert found.asked == 400 + 99 and len(judge.prompts) == 10 + 3


def test_columns_alone():
  judge = helpers.Synonyms(*WORDS)
  answer = table(('USA', 'x', 'y'), columns=('Land', 'Capital', 'People'))
  (found,) = ask(judge, answer, columns_only=True)
  assert found.table == types.Table(GOLD.columns, answer.rows)
  assert found.asked == 1


def test_a_column_is_given_to_one_name_only():
  judge = helpers.Synonyms(('Country', 'Land', 'State'))
  answer = table(
    ('Spain', 'x', 'Madrid', '3000'),
    columns=('State', 'Land', 'Capital', 'People'),
  )
  (found,) = ask(judge, answer)
  assert found.table == table(('Spain', 'Madrid', '3000'))


@pytest.mark.parametrize(
  ('boxed', 'expected', 'asked'),
  [
    ('Bush senior', 'George Bush', 1),
    ('Bush junior', 'Bush junior', 1),
    ('george bush', 'george bush', 0),
    ('2000', '2000', 0),
    ('', '', 0),
    (None, None, 0),
  ],
)
def test_boxed_answers(boxed, expected, asked):
  judge = helpers.Synonyms(*WORDS)
  (found,) = ask(judge, boxed, task=DEEP)
  assert (found.boxed, found.asked) == (expected, asked)
  assert len(judge.prompts) == asked


def test_a_number_among_numbers_needs_no_judge():
  task = types.Task('d', 'When?', 'deep', answers=('1917', '1918'))
  judge = helpers.Synonyms(('1916', '1917'))
  assert ask(judge, '1916', task=task)[0].boxed == '1916' and not judge.calls


def test_a_dead_judge_is_an_error():
  def dead(prompts):
    raise types.JudgeUnavailable('gone')

  with pytest.raises(types.JudgeUnavailable):
    ask(dead, 'Bush senior', task=DEEP)


def test_a_task_in_chinese_is_judged_in_chinese():
  task = types.Task('d', '谁?', 'deep', answers=('乔治·布什',), language='zh')
  judge = helpers.Synonyms(('老布什', '乔治·布什'))
  assert ask(judge, '老布什', task=task)[0].boxed == '乔治·布什'
  assert '请检查' in judge.prompts[0]


NAMES = (
  *('a', 'A ', 'b', 'c', 'ß', '1', '1.0', '2', '', '$1', '2020-01-05', '007'),
  *('<|im_end|>', 'http://[', '\ud800', '{"1": true}', 'x' * 500),
)
PIECES = (
  *('{', '}', '"', ':', ',', '1', '2', '0', '-1', 'true', 'false', 'null'),
  *('```json\n', '```', '<think>', '</think>', '[', ']', '\\', '\x00', '²'),
  *('\ud800', 'Correct', "'", ' ', '\n', '9' * 30, 'é'),
)


def random_table(rng, columns, rows=()):
  """New rows, and given ones with other cells here and there."""
  rows = [row for row in rows if rng.random() < 0.7]
  rows += [('',) * len(columns)] * rng.randrange(5)
  rows = [
    tuple(
      cell if cell and rng.random() < 0.7 else rng.choice(NAMES) for cell in row
    )
    for row in rows
  ]
  return types.Table(tuple(columns), tuple(rows))


def random_reply(rng):
  """A good reply, mostly broken at some places, or pieces of replies."""
  if rng.random() < 0.3:
    return ''.join(rng.choices(PIECES, k=rng.randrange(12)))
  values = (True, True, True, False, None, 0, 1, 1, 2, 10**9, 'yes')
  if rng.random() < 0.1:
    values += ([1], {'1': 1}, 'I say', 1e300)
  ids = rng.sample(range(6), rng.randrange(1, 7))
  reply = json.dumps({i: rng.choice(values) for i in ids})
  for _ in range(rng.choice((0, 0, 0, 1, 2))):
    start, stop = sorted(rng.choices(range(len(reply) + 1), k=2))
    reply = reply[:start] + rng.choice(PIECES) + reply[stop:]
  return reply


def check_any_reply(seed):
  """No reply breaks scoring, hangs it, or lowers a score."""
  rng = random.Random(seed)
  gold = random_table(rng, rng.sample(NAMES, rng.randint(1, 4)))
  columns = rng.sample(NAMES, len(gold.columns))
  if rng.random() < 0.6:
    columns = gold.columns
  answer = random_table(rng, columns, gold.rows)
  keys = rng.sample(gold.columns, rng.randint(1, len(gold.columns)))
  task = types.Task('w', 'Q', 'wide', gold, tuple(keys))
  try:
    plain = metrics.table_metrics(answer, gold, keys)
  except ValueError:  # The data's fault.
    return 'broken'
  calls = []

  def judge(prompts):
    calls.append(prompts)
    return [random_reply(rng) for _ in prompts]

  (found,) = ask(judge, answer, task=task)
  assert 0 <= found.undecided <= found.asked
  after = metrics.table_metrics(found.table, gold, keys)
  assert all(0 <= value <= 1 for value in after.values())
  assert after['item_f1'] >= plain['item_f1'] - 1e-12
  deep = types.Task('d', 'Q', 'deep', answers=gold.columns)
  boxed = rng.choice(NAMES)
  (found,) = ask(judge, boxed, task=deep)
  assert found.boxed in (boxed, *deep.answers)
  # Columns, keys, cells; once a boxed answer.
  assert len(calls) <= 4
  return 'gained' if after['item_f1'] > plain['item_f1'] else 'same'


@hypothesis.settings(max_examples=2000, deadline=None)
@hypothesis.given(st.integers(0, 2**64))
def test_no_reply_breaks_scoring(seed):
  check_any_reply(seed)


def test_the_fuzz_reaches_what_it_is_about():
  ends = [check_any_reply(seed) for seed in range(300)]
  assert {end: ends.count(end) >= 5 for end in set(ends)} == {
    'broken': True,
    'gained': True,
    'same': True,
  }


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_reply_of_100_000_breaks_scoring():
  for seed in range(100_000):
    check_any_reply(seed)
