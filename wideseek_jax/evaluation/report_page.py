"""One HTML file that shows a run: its curves, its scores, its rollouts.

In comes a workdir with metrics.jsonl and rollouts files, wherever they lie in
it; out goes a page that needs nothing beside itself. What agents and web pages
wrote is data there: JSON that no parser of HTML can leave, put on the screen as
text by the page's own script, the only one that its policy lets run.
"""

import base64
import dataclasses
import hashlib
import html
import json
import math
import pathlib
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wideseek_jax import files
from wideseek_jax.evaluation import (
  metrics,
  report_cells,
  rollout_records,
)
from wideseek_jax.tasks import lines

_PAGE = pathlib.Path(__file__).parent / 'page'
_SCRIPTS = ('text', 'charts', 'scores', 'answer', 'rollout', 'list', 'main')
_SCORES = ('reward', 'item_f1', 'row_f1', 'exact_match', 'success', 'format_ok')
# Beside what ends a script element: line ends of old JavaScript, and what a
# terminal or an editor that shows the file would obey.
_UNSAFE = re.compile(
  r'[<>&\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]'
)


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where a rollout stands, and what tables and choices need of it."""

  path: pathlib.Path
  number: int
  step: int | None
  sample: int
  trained: bool
  row: dict[str, Any]

  @property
  def group(self) -> tuple:
    return self.path, self.step, self.row['task_id']


def write(
  workdir: files.Path, path: files.Path, *, limit: int = 2000
) -> tuple[int, list[str]]:
  """Writes the page.

  Args:
    workdir: of a run, or a folder of several.
    path: where the page goes.
    limit: rollouts that it holds at most, give or take a group; of more,
      groups at even distances are taken.

  Returns:
    (rollouts on the page, what could not be read: a sentence each).

  Raises:
    FileNotFoundError: nothing to show lies in the workdir.
  """
  workdir = pathlib.Path(workdir)
  runs, problems = _read_runs(workdir)
  places, more = _read_places(workdir)
  problems += more
  if not places and not runs:
    raise FileNotFoundError(
      f'{workdir} holds no metrics.jsonl and no rollouts: '
      + ('; '.join(problems) or 'name the --workdir of a run')
    )
  script = '\n'.join(
    (_PAGE / f'{name}.js').read_text('utf-8') for name in _SCRIPTS
  )
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  template = string.Template((_PAGE / 'page.html').read_text('utf-8'))
  head, tail = template.substitute(
    title=html.escape(workdir.resolve().name),
    hash=digest,
    style=(_PAGE / 'page.css').read_text('utf-8'),
    script=script,
    data='\0',
  ).split('\0')
  picked = _pick(places, limit)
  index = {
    'title': workdir.resolve().name,
    'runs': runs,
    'scores': _scores(workdir, places),
    'total': len(places),
    'problems': problems,
    'sources': [],
    'tasks': [],
    'rollouts': [],
  }
  with (
    files.replacing(path) as partial,
    partial.open('w', encoding='utf-8') as f,
  ):
    f.write(head)
    for number, (place, record) in enumerate(_reread(picked)):
      f.write(_data(f'r{number}', _enter(index, workdir, place, record)))
    f.write(_data('index', index))
    f.write(tail)
  return len(picked), problems


def _read_runs(workdir: pathlib.Path) -> tuple[list[Any], list[str]]:
  """The series of each metrics.jsonl, by name."""

  def parse(row, number):
    del number
    lines.field(row, 'step', int)
    return row

  runs, problems = [], []
  for path in sorted(workdir.rglob('metrics.jsonl')):
    rows, more = lines.read(path, parse, key=lambda row: row['step'])
    problems += more
    names = dict.fromkeys(name for row in rows for name in row)
    if rows:
      runs.append(
        {
          'name': path.parent.relative_to(workdir).as_posix(),
          'series': {name: [row.get(name) for row in rows] for name in names},
        }
      )
  return runs, problems


def _read_places(workdir: pathlib.Path) -> tuple[list[_Place], list[str]]:
  """Every rollout that can be shown."""
  found, problems = [], []
  paths = {*workdir.rglob('rollouts.jsonl'), *workdir.rglob('rollouts/*.jsonl')}
  for path in sorted(paths):

    def parse(record, number, path=path):
      rollout_records.parse(record)
      _answer(record)  # A gold table that cannot be shown raises here.
      scores = {'reward': record['reward'], **record['parts']}
      return _Place(
        path,
        number,
        record['step'],
        record['sample'],
        record['advantage'] is not None,
        {'task_id': record['task_id']}
        | {name: scores[name] for name in _SCORES if name in scores},
      )

    places, more = lines.read(
      path, parse, key=lambda place: (*place.group, place.sample)
    )
    found += places
    problems += more
  return found, problems


def _pick(places: Sequence[_Place], limit: int) -> list[_Place]:
  """All of them, or whole groups at even distances."""
  groups: dict[tuple, list[_Place]] = {}
  for place in places:
    groups.setdefault(place.group, []).append(place)
  groups = list(groups.values())
  count = len(groups)
  if len(places) > limit:
    count = max(1, count * limit // len(places))
  return [
    place for i in range(count) for place in groups[i * len(groups) // count]
  ]


def _reread(
  picked: Sequence[_Place],
) -> Iterator[tuple[_Place, rollout_records.Record]]:
  """The records again, one at a time: a run's may not fit the memory."""
  by_path: dict[pathlib.Path, dict[int, _Place]] = {}
  for place in picked:
    by_path.setdefault(place.path, {})[place.number] = place
  for path, numbers in by_path.items():
    with path.open('rb') as file:
      for number, line in enumerate(file, start=1):
        if number in numbers:
          yield numbers[number], json.loads(line)


def _enter(
  index: dict[str, Any],
  workdir: pathlib.Path,
  place: _Place,
  record: rollout_records.Record,
) -> dict[str, Any]:
  """Enters a rollout into the index; returns what is read when it is opened."""
  agents = record['agents']
  index['rollouts'].append(
    {
      'task': _number(
        index['tasks'], {'id': record['task_id'], **record['task']}
      ),
      'source': _number(index['sources'], _source(workdir, place.path)),
      'step': record['step'],
      'sample': record['sample'],
      'reward': record['reward'],
      'advantage': record['advantage'],
      'score': place.row.get('item_f1', place.row.get('exact_match')),
      'agents': len(agents),
      'tokens': sum(agent['tokens'] for agent in agents),
      'failures': sorted({f for agent in agents for f in agent['failures']}),
    }
  )
  answer, problem = _answer(record)
  return {
    'parts': record['parts'],
    'agents': agents,
    'lines': [dataclasses.astuple(line) for line in answer],
    'problem': problem,
  }


def _answer(
  record: rollout_records.Record,
) -> tuple[list[report_cells.Line], str]:
  gold, lead = rollout_records.gold_table(record), record['agents'][0]
  if gold is None:
    return [], ''
  table, problem = report_cells.read_answer(lead['answer'], gold.columns)
  if lead['failures']:
    table, problem = None, 'The lead did not end by itself.'
  keys = record['task']['unique_columns']
  return report_cells.compare(table, gold, keys), problem


def _number(known: list[Any], value: Any) -> int:
  """The place of a value in a list that it is added to if it is new.

  Rollouts of a task follow each other, so most are the last one.
  """
  for place in range(len(known) - 1, -1, -1):
    if known[place] == value:
      return place
  known.append(value)
  return len(known) - 1


def _source(workdir: pathlib.Path, path: pathlib.Path) -> str:
  """run/rollouts/train-000003.jsonl is 'run/train'."""
  names = path.relative_to(workdir).with_suffix('').parts
  name = '/'.join(names[:-1])
  own = re.sub(r'-\d+$', '', names[-1])
  folders = [n for n in names[:-1] if n != 'rollouts']
  if own != 'rollouts':
    folders.append(own)
  return '/'.join(folders) or name or own


def _scores(workdir: pathlib.Path, places: Sequence[_Place]) -> list[Any]:
  """Means with intervals of every set of rollouts that was not trained on."""
  sets: dict[tuple, list[dict[str, Any]]] = {}
  for place in places:
    if not place.trained:
      name = _source(workdir, place.path), place.step
      sets.setdefault(name, []).append(place.row)
  return [
    {
      'source': source,
      'step': step,
      'rollouts': len(rows),
      'tasks': len({row['task_id'] for row in rows}),
      'means': {
        name: dataclasses.asdict(metrics.estimate(list(means.values())))
        for name in _SCORES
        if (means := metrics.task_means(rows, name))
      },
    }
    for (source, step), rows in sets.items()
  ]


def _data(name: str, value: Any) -> str:
  """A data block: JSON without anything that HTML or a terminal reads."""
  text = json.dumps(_finite(value), ensure_ascii=False, separators=(',', ':'))
  text = _UNSAFE.sub(lambda match: f'\\u{ord(match[0]):04x}', text)
  return f'<script type="application/json" id="{name}">{text}</script>\n'


def _finite(value: Any) -> Any:
  """The value with null for numbers that JSON has no word for."""
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, dict):
    return {name: _finite(v) for name, v in value.items()}
  if isinstance(value, Iterable) and not isinstance(value, str):
    return [_finite(v) for v in value]
  return value
