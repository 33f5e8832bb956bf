"""Small tables to score: gold as CSV lines, answers as Markdown rows."""

from wideseek_jax.evaluation.widesearch import reading, records, scoring


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
