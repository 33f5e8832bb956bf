"""The three stages from seeds to a data set (SPEC C.1), and the choice.

In comes a back end; out go, in a folder,

  stages/1_questions.jsonl … 3_filtered.jsonl   every item, rejected ones too
  stages/4_chosen.jsonl                         what became of those that passed
  train.jsonl, validation.jsonl, test.jsonl     tasks (`tasks.datasets`)
  manifest.json                                 settings, counts, fingerprint

A run that was killed goes on where it stopped and ends in the same bytes.
"""

import collections
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wideseek_jax import files, types
from wideseek_jax.tasks import datasets
from wideseek_jax.tasks.pipeline import filters, items

SPLITS = ('train', 'validation', 'test')
KINDS = ('wide', 'deep')
STAGES = ('1_questions', '2_answers', '3_filtered', '4_chosen')
# Of the tasks that are asked for; training gets the others.
HELD_OUT: Mapping[str, float] = {'test': 0.08, 'validation': 0.02}


def quotas(num: int, kinds: Sequence[str] = KINDS) -> dict[tuple, int]:
  """How many tasks of each (split, kind) a data set of `num` has.

  Kinds have equal parts.
  """
  found = {}
  for place, kind in enumerate(kinds):
    share = num // len(kinds) + (place < num % len(kinds))
    for split, part in HELD_OUT.items():
      found[split, kind] = round(share * part)
    held_out = sum(round(share * part) for part in HELD_OUT.values())
    found['train', kind] = share - held_out
  return found


def run(
  folder: files.Path,
  back_end: items.BackEnd,
  tools: types.Tools | None,
  wanted: Mapping[tuple, int],
  settings: Mapping[str, Any],
  batch: int = 256,
) -> dict[str, Any]:
  """Makes a data set, or what is missing of it.

  Args:
    folder: where it goes.
    back_end: writes, answers and compares.
    tools: the offline web that tells whether a question is easy; without it
      none is.
    wanted: how many tasks of each (split, kind).
    settings: what decides on the data set; a folder with other settings is
      refused.
    batch: items that are worked on at once.

  Returns:
    The manifest.

  Raises:
    ValueError: the folder holds another data set, or too few tasks passed.
  """
  folder = pathlib.Path(folder)
  settings = json.loads(json.dumps(dict(settings)))
  _claim(folder / 'settings.json', settings)
  paths = [folder / 'stages' / f'{name}.jsonl' for name in STAGES]
  hardness = tools and filters.Hardness(tools)

  def check(chunk: Sequence[items.Item]) -> list[items.Item]:
    return [_filter(item, hardness) for item in back_end.agree(chunk)]

  items.run_stage(paths[0], back_end.seeds(), back_end.ask, batch)
  items.run_stage(paths[1], items.read(paths[0]), back_end.answer, batch)
  items.run_stage(paths[2], items.read(paths[1]), check, batch)
  chosen = list(choose(items.read(paths[2]), wanted))
  _write_items(paths[3], chosen)
  tasks = {split: [] for split in SPLITS}
  for item in chosen:
    if not item.rejected:
      tasks[item.split].append(make_task(item))
  _check(tasks, wanted, folder)
  for split, found in tasks.items():
    datasets.save_tasks(folder / f'{split}.jsonl', found)
  manifest = {
    'settings': settings,
    'fingerprint': fingerprint(folder),
    'tasks': {
      split: dict(collections.Counter(task.kind for task in found))
      for split, found in tasks.items()
    },
    'funnel': funnel(folder),
  }
  text = json.dumps(manifest, indent=2, ensure_ascii=False)
  files.write_text(folder / 'manifest.json', text + '\n')
  return manifest


def choose(
  found: Iterable[items.Item], wanted: Mapping[tuple, int]
) -> Iterator[items.Item]:
  """Of what passed, what becomes a task; the others get a reason.

  Test chooses first, then validation; what comes later gets nothing that leaks
  from what came before. Of a held-out split there may be fewer than wanted:
  training has more then.
  """
  passed = [item for item in found if not item.rejected]
  seen: set[str] = set()
  taken: collections.Counter[tuple] = collections.Counter()
  guarded: list[types.Task] = []
  for split in (*HELD_OUT, 'train'):
    ours = [item for item in passed if item.split == split]
    leaking = filters.leaks(guarded, map(make_task, ours))
    for item in ours:
      key = filters.question_key(item.question)
      place = (split, item.kind)
      most = wanted.get(place, 0)
      if split == 'train':
        most += sum(
          wanted.get((s, item.kind), 0) - taken[s, item.kind] for s in HELD_OUT
        )
      if key in seen:
        item = item.reject('the question was asked before')
      elif item.item_id in leaking:
        item = item.reject('tells of a held-out answer')
      elif taken[place] >= most:
        item = item.reject('not needed')
      else:
        seen.add(key)
        taken[place] += 1
        if split != 'train':
          guarded.append(make_task(item))
      yield item


def make_task(item: items.Item) -> types.Task:
  """The task of an item that passed; the first answer is its gold."""
  gold = item.answers[0]
  wide = item.kind == 'wide'
  metadata = {
    'split': item.split,
    'intent': item.intent,
    'entities': [list(entity) for entity in item.entities],
    'agreement': round(item.agreement, 4),
  }
  if wide:
    metadata['num_rows'] = len(gold.rows)
  return types.Task(
    task_id=item.item_id,
    question=item.question,
    kind=item.kind,
    table=gold.table if wide else None,
    unique_columns=item.unique_columns,
    answers=() if wide else (gold.text,),
    language=item.seed.get('language', 'en'),
    metadata=metadata,
  )


def fingerprint(folder: files.Path) -> str:
  """sha256 of the three files of tasks, in the order of the splits."""
  digest = hashlib.sha256()
  for split in SPLITS:
    digest.update((pathlib.Path(folder) / f'{split}.jsonl').read_bytes())
  return digest.hexdigest()


def funnel(folder: files.Path) -> list[dict[str, Any]]:
  """What went into each stage, what came out, and why the rest did not."""
  rows = []
  for name in STAGES:
    path = pathlib.Path(folder) / 'stages' / f'{name}.jsonl'
    for kind in KINDS:
      reasons = collections.Counter(
        item.rejected for item in items.read(path) if item.kind == kind
      )
      rows.append(
        {
          'stage': name,
          'kind': kind,
          'in': reasons.total(),
          'out': reasons.pop('', 0),
          'rejected': dict(reasons.most_common()),
        }
      )
  return rows


def _filter(item: items.Item, hardness: filters.Hardness | None) -> items.Item:
  if item.rejected:
    return item
  if item.agreement <= filters.MIN_AGREEMENT:
    return item.reject('the answers disagree', item.detail)
  gold = item.answers[0]
  if item.kind == 'wide' and len(gold.rows) < filters.MIN_ROWS:
    return item.reject(f'fewer than {filters.MIN_ROWS} rows')
  cells = (cell for row in gold.rows for cell in row)
  evidence = filter(None, item.evidence or [gold.text, *cells])
  if hardness and (reason := hardness.easy(item.question, evidence)):
    return item.reject(reason)
  return item


def _claim(path: pathlib.Path, settings: Mapping[str, Any]) -> None:
  if not path.exists():
    files.write_text(path, json.dumps(settings, indent=2) + '\n')
    return
  known = json.loads(path.read_text(encoding='utf-8'))
  if known != settings:
    differ = sorted(
      name
      for name in known.keys() | settings.keys()
      if known.get(name) != settings.get(name)
    )
    raise ValueError(
      f'{path.parent} holds a data set made with other settings '
      f'({", ".join(differ)}); name another folder'
    )


def _write_items(path: pathlib.Path, found: Iterable[items.Item]) -> None:
  files.write_text(path, ''.join(items.dump(item) + '\n' for item in found))


def _check(
  tasks: Mapping[str, Sequence[types.Task]],
  wanted: Mapping[tuple, int],
  folder: pathlib.Path,
) -> None:
  for kind in dict.fromkeys(kind for _, kind in wanted):
    need = sum(count for (_, k), count in wanted.items() if k == kind)
    have = sum(task.kind == kind for found in tasks.values() for task in found)
    if have < need:
      raise ValueError(
        f'{have} of {need} {kind} tasks passed (see {folder}/stages); ask for '
        f'fewer, or for more items a task with a larger oversample'
      )
  held_out = [*tasks['validation'], *tasks['test']]
  if filters.leaks(held_out, tasks['train']) or filters.leaks(
    tasks['test'], tasks['validation']
  ):
    raise AssertionError('a chosen task tells of a held-out answer')
