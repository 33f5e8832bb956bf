"""Scores a predicted table against the gold one: item F1, row F1, success.

In come two tables and the key columns; out go numbers in [0, 1]. Rows are
joined by their keys; a key cell that joins counts as right, every other cell is
compared by the rules of `judge.rules` (the method of WideSearch, arXiv
2508.07999 §4). Where a judge has a say, `tasks.judged` has written its verdicts
into the table before.
"""

from collections.abc import Sequence

from wideseek_jax import types
from wideseek_jax.judge import rules

ZERO = {
  'item_precision': 0.0,
  'item_recall': 0.0,
  'item_f1': 0.0,
  'row_precision': 0.0,
  'row_recall': 0.0,
  'row_f1': 0.0,
  'success': 0.0,
}


def align_columns(
  predicted: types.Table, required: Sequence[str]
) -> types.Table | None:
  """The required columns of a table, in their order and by their names.

  Names are matched without case and spaces; columns beyond the required ones
  are dropped.

  Returns:
    The table, or None if a required column is missing or stands there twice.

  Raises:
    ValueError: two of the required columns have the same name.
  """
  wanted = _column_keys(required)
  found = [rules.column_key(name) for name in predicted.columns]
  if any(found.count(name) != 1 for name in wanted):
    return None
  places = [found.index(name) for name in wanted]
  rows = tuple(tuple(row[i] for i in places) for row in predicted.rows)
  return types.Table(tuple(required), rows)


def table_metrics(
  predicted: types.Table | None,
  gold: types.Table,
  unique_columns: Sequence[str],
) -> dict[str, float]:
  """Precision, recall and F1 of items and rows, and success.

  Args:
    predicted: the table of an answer; None if there is none.
    gold: what is right; all of its columns are required.
    unique_columns: the columns of gold that name a row.

  Returns:
    The names of `ZERO`: success is 1.0 if nothing is wrong, missing or too
    much. All are 0 if a required column is missing.

  Raises:
    ValueError: the gold table has no row, no key column, or two columns of the
      same name: errors of the data, never of the answer.
  """
  unknown = set(unique_columns) - set(gold.columns)
  if not gold.rows or not unique_columns or unknown:
    raise ValueError(
      f'a gold table needs rows and key columns of its own; it has '
      f'{len(gold.rows)} rows, keys {tuple(unique_columns)!r} and columns '
      f'{gold.columns!r}'
    )
  _column_keys(gold.columns)
  if predicted is not None:
    predicted = align_columns(predicted, gold.columns)
  if predicted is None:
    return dict(ZERO)
  keys = [gold.columns.index(name) for name in unique_columns]
  others = [i for i in range(len(gold.columns)) if i not in keys]
  gold_rows = rows_by_key(gold, keys)
  predicted_rows = rows_by_key(predicted, keys)
  right_items = right_rows = 0
  for key, row in predicted_rows.items():
    if key not in gold_rows:
      continue
    wrong = sum(not rules.same(row[i], gold_rows[key][i]) for i in others)
    right_items += len(gold.columns) - wrong
    right_rows += wrong == 0
  width, n_pred, n_gold = len(gold.columns), len(predicted_rows), len(gold_rows)
  return {
    'item_precision': right_items / (n_pred * width) if n_pred else 0.0,
    'item_recall': right_items / (n_gold * width),
    # 2PR / (P + R) with P and R over the same right items.
    'item_f1': 2 * right_items / ((n_pred + n_gold) * width),
    'row_precision': right_rows / n_pred if n_pred else 0.0,
    'row_recall': right_rows / n_gold,
    'row_f1': 2 * right_rows / (n_pred + n_gold),
    'success': float(right_rows == n_pred == n_gold),
  }


def rows_by_key(
  table: types.Table, keys: Sequence[int]
) -> dict[tuple, tuple[str, ...]]:
  """The rows by their canonical keys; the first of equal keys stays."""
  rows: dict[tuple, tuple[str, ...]] = {}
  for row in table.rows:
    rows.setdefault(tuple(rules.canonical(row[i]) for i in keys), row)
  return rows


def _column_keys(required: Sequence[str]) -> list[str]:
  keys = [rules.column_key(name) for name in required]
  if len(set(keys)) < len(keys):
    raise ValueError(f'two of the columns {tuple(required)!r} are the same')
  return keys
