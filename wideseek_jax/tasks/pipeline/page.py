"""The report page of a data set: one HTML file that needs nothing else.

In comes the folder that `stages.run` left; out goes `report.html` with the
funnel, histograms of rows and columns, an example of every reason for which an
item was rejected, and tasks of every split and kind. Questions and answers may
come from a model or from the web: all of them are escaped.
"""

import collections
import html
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wideseek_jax import files, types
from wideseek_jax.tasks import datasets
from wideseek_jax.tasks.pipeline import items, stages

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0; display: block;
  overflow-x: auto }
td, th { border-bottom: 1px solid #ddd; padding: .2rem .7rem; text-align: left;
  vertical-align: top }
.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { background: #3182bd; height: .8rem; min-width: 1px }
"""
_SHOWN_ROWS = 5
_EXAMPLES = 2


def write(folder: files.Path, notes: Mapping[str, str]) -> pathlib.Path:
  """Writes the page of a finished data set.

  Args:
    folder: of `stages.run`.
    notes: what else to tell about this run, such as its cost.

  Returns:
    The path of the page.
  """
  folder = pathlib.Path(folder)
  manifest = json.loads((folder / 'manifest.json').read_text(encoding='utf-8'))
  tasks = {
    split: datasets.load_tasks(path)
    for split in stages.SPLITS
    if (path := folder / f'{split}.jsonl').stat().st_size
  }
  wide = [t for found in tasks.values() for t in found if t.kind == 'wide']
  facts = [
    *manifest['settings'].items(),
    ('fingerprint', manifest['fingerprint']),
    *notes.items(),
  ]
  parts = [
    '<h1>Data set</h1>',
    _table(('', ''), facts),
    '<h2>Tasks</h2>',
    _table(
      ('split', 'kind', 'tasks'),
      [
        (split, kind, count)
        for split, kinds in manifest['tasks'].items()
        for kind, count in kinds.items()
      ],
    ),
    '<h2>Funnel</h2>',
    _table(
      ('stage', 'kind', 'in', 'out', 'rejected because'),
      [
        (
          row['stage'],
          row['kind'],
          row['in'],
          row['out'],
          '; '.join(f'{why}: {n}' for why, n in row['rejected'].items()),
        )
        for row in manifest['funnel']
      ],
    ),
    '<h2>Rows of the wide tasks</h2>',
    _histogram(len(task.table.rows) for task in wide),
    '<h2>Columns of the wide tasks</h2>',
    _histogram((len(task.table.columns) for task in wide), width=1),
    '<h2>What was rejected</h2>',
    _table(('reason', 'question', 'detail'), _rejected(folder)),
    '<h2>Examples</h2>',
    *(
      _example(split, task)
      for split, found in tasks.items()
      for kind in stages.KINDS
      for task in [t for t in found if t.kind == kind][:_EXAMPLES]
    ),
  ]
  page = (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    f'<title>Data set</title><style>{_STYLE}</style>{"".join(parts)}</html>\n'
  )
  files.write_text(folder / 'report.html', page)
  return folder / 'report.html'


def _rejected(folder: pathlib.Path) -> list[tuple[str, str, str]]:
  """Some items of every reason, spread over the kinds."""
  found = collections.defaultdict(list)
  for name in stages.STAGES:
    for item in items.read(folder / 'stages' / f'{name}.jsonl'):
      examples = found[item.rejected, item.kind]
      if item.rejected and len(examples) < _EXAMPLES:
        examples.append((item.rejected, item.question, item.detail))
  return [row for _, rows in sorted(found.items()) for row in rows]


def _histogram(values: Iterable[int], width: int = 5) -> str:
  """Bars, one for `width` values."""
  counts = collections.Counter(value // width for value in values)
  if not counts:
    return '<p>none</p>'
  most = max(counts.values())
  rows = []
  for place in range(min(counts), max(counts) + 1):
    first, last = place * width, place * width + width - 1
    label = str(first) if first == last else f'{first} to {last}'
    length = 30 * counts[place] / most
    bar = f'<div class="bar" style="width:{length:.2f}rem"></div>'
    rows.append(
      f'<tr><td class="n">{label}</td><td>{bar}</td>'
      f'<td class="n">{counts[place]}</td></tr>'
    )
  return f'<table>{"".join(rows)}</table>'


def _example(split: str, task: types.Task) -> str:
  head = f'<h3>{_text(split)}, {_text(task.kind)}</h3>'
  head += f'<p>{_text(task.question)}</p>'
  if task.table is None:
    return f'{head}<p>Answer: {_text(task.answers[0])}</p>'
  more = len(task.table.rows) - _SHOWN_ROWS
  rest = f'<p>and {more} more rows</p>' if more > 0 else ''
  return head + _table(task.table.columns, task.table.rows[:_SHOWN_ROWS]) + rest


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  numeric = ' class=n'

  def line(cells: Sequence[Any], tag: str) -> str:
    found = [
      f'<{tag}{numeric if isinstance(cell, int) else ""}>{_text(cell)}</{tag}>'
      for cell in cells
    ]
    return f'<tr>{"".join(found)}</tr>'

  head = line(columns, 'th') if any(columns) else ''
  return f'<table>{head}{"".join(line(row, "td") for row in rows)}</table>'


def _text(value: object) -> str:
  return html.escape(str(value))
