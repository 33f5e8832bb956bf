"""Small tables to score: gold as CSV lines, answers as Markdown rows."""

import pytest

from wideseek_jax.evaluation.widesearch import reading, records, scoring

TEXT = ('norm_str', 'exact_match', None)
NUMBER = ('extract_number', 'number_near', 0.1)
DATE = ('', 'date_near', None)
URL = ('', 'url_match', None)
JUDGE = ('', 'llm_judge', 'same entity')
# A key by this rule is joined as it is; one by TEXT is put to the judge.
KEY = ('norm_str', 'in_match', None)


def block(*rows):
  """A ```markdown block; a row is its cells with bars between them."""
  header, *others = (f'| {row} |' for row in rows)
  width = rows[0].count('|') + 1
  return '\n'.join(
    ['```markdown', header, '|---' * width + '|', *others, '```']
  )


def gold(csv, rules, keys=('name',)):
  """Of lines of CSV; a rule is (preprocess, metric, criterion) in texts."""
  text = '\n'.join(csv) + '\n'
  pipeline = {
    column: {
      'preprocess': preprocess.split(),
      'metric': metric.split(),
      'criterion': criterion,
    }
    for column, (preprocess, metric, criterion) in rules.items()
  }
  evaluation = {
    'required': [reading.column_name(name) for name in csv[0].split(',')],
    'unique_columns': list(keys),
    'eval_pipeline': pipeline,
  }
  return records.make_gold(
    evaluation, lambda required: reading.read_gold(text, required)
  )


def result(gold_, answer, replies=(), *, strict=False, asked=None):
  """Scores with recorded replies by (kind, column); collects the questions."""

  def ask(questions):
    if asked is not None:
      asked.extend(questions)
    return [dict(replies).get((q.kind, q.column)) for q in questions]

  return scoring.run(scoring.steps(gold_, answer, strict=strict), ask)


def reply(text):
  return f'Some thoughts.\n```json\n{text}\n```\nDone.'


def counts(found):
  """(success, right rows / found, / gold, right cells / found, / gold)."""
  for kind in ('row', 'item'):
    p, r, f1 = (
      getattr(found, f'{name}_by_{kind}')
      for name in ('precision', 'recall', 'f1')
    )
    assert f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0.0, abs=1e-12)
  return (
    found.score,
    found.precision_by_row,
    found.recall_by_row,
    found.precision_by_item,
    found.recall_by_item,
  )


def assert_counts(found, success, rows, items, *, n_found, n_gold, width=2):
  """Right rows and cells of n_found and n_gold rows give the seven numbers.

  Precision is right / found, recall right / gold and F1 their harmonic mean;
  cells are counted as rows times columns.
  """
  assert found.status == 'scored', found.error
  assert counts(found) == pytest.approx(
    (
      success,
      rows / n_found,
      rows / n_gold,
      items / (n_found * width),
      items / (n_gold * width),
    ),
    abs=1e-12,
  )


TWO = gold(['Name,V', 'a,10', 'b,20'], {'name': KEY, 'v': NUMBER})
