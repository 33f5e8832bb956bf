"""An evaluation that goes on where it was killed, and ends the same.

In come a benchmark and a way to make rollouts; out go, in one folder, a line of
`rollouts.jsonl` for every rollout as it ends and a line of `results.jsonl` for
every score. What stands there is not made again: rollouts are addressed, so
that those which are missing are what they would have been. Scores are made in
a thread: the engine never waits for a judge.
"""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wideseek_jax import files, progress, types
from wideseek_jax.evaluation import (
  benchmarks,
  copying,
  rollout_records,
)
from wideseek_jax.evaluation import scorer as scorer_lib
from wideseek_jax.tasks import lines, rewards

ROLLOUTS, RESULTS, SETTINGS = (
  'rollouts.jsonl',
  'results.jsonl',
  'evaluation.json',
)

Place = tuple[types.Task, int]
# Makes the rollouts of places and hands each to the function as it ends.
Roll = Callable[[Sequence[Place], Callable[[types.Rollout], None]], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A whole evaluation.

  Attributes:
    rows: one a rollout: task_id, sample, labels, all numbers; by task and
      sample.
    attempts: the answers, in the same order.
    problems: what was skipped, each with file and line.
  """

  rows: list[benchmarks.Row]
  attempts: list[benchmarks.Attempt]
  problems: list[str]


def claim(folder: files.Path, settings: dict[str, Any]) -> None:
  """Makes the folder for an evaluation, or goes on with the same one.

  Raises:
    FileExistsError: it holds an evaluation with other settings, or something
      else that would be overwritten.
  """
  folder = pathlib.Path(folder)
  path = folder / SETTINGS
  settings = json.loads(json.dumps(settings))
  if path.exists():
    there = json.loads(path.read_text(encoding='utf-8'))
    names = there.keys() | settings.keys()
    for name in sorted(names):
      if there.get(name) != settings.get(name):
        raise FileExistsError(
          f'{folder} holds an evaluation with {name} {there.get(name)!r}, not '
          f'{settings.get(name)!r}; name another --workdir'
        )
    return
  for name in (RESULTS, ROLLOUTS):
    if (folder / name).exists():
      raise FileExistsError(
        f'{folder} holds results already, of an unknown evaluation; name '
        f'another --workdir'
      )
  files.write_text(path, json.dumps(settings, indent=2) + '\n')


def evaluate(
  benchmark: benchmarks.Benchmark,
  folder: files.Path,
  roll: Roll,
  *,
  samples: int,
  reward: dict[str, Any],
  judge: types.Judge | None = None,
  name: str = 'evaluation',
) -> Outcome:
  """Makes and scores what the folder lacks of `samples` rollouts a task.

  Args:
    benchmark: the tasks and their score.
    folder: see `claim`.
    roll: makes rollouts; not called if none is missing.
    samples: rollouts a task.
    reward: arguments of `rewards.score`.
    judge: for scores that need one.
    name: what the progress line calls it.

  Raises:
    BlockingIOError: another process is at it.
    types.JudgeUnavailable: there is no judge; what was done is kept.
  """
  folder = pathlib.Path(folder)
  with _alone(folder):
    return _evaluate(benchmark, folder, roll, samples, reward, judge, name)


def _evaluate(
  benchmark: benchmarks.Benchmark,
  folder: pathlib.Path,
  roll: Roll,
  samples: int,
  reward: dict[str, Any],
  judge: types.Judge | None,
  name: str,
) -> Outcome:
  tasks = {task.task_id: task for task in benchmark.tasks}
  attempts, wrong = _read(folder / ROLLOUTS, lambda r: _attempt(r, tasks))
  rows, more_wrong = _read(folder / RESULTS, lambda r: _row(r, tasks))
  problems = [*benchmark.problems, *wrong, *more_wrong]
  wanted = [(task, i) for task in benchmark.tasks for i in range(samples)]
  missing = [(t, i) for t, i in wanted if (t.task_id, i) not in attempts]
  keys = [(task.task_id, index) for task, index in wanted]
  unscored = [key for key in keys if key in attempts and key not in rows]
  if attempts:
    progress.say(
      f'{folder} has {len(wanted) - len(missing)} of {len(wanted)} rollouts, '
      f'{len(unscored)} of them to be scored'
    )
  started, done = time.monotonic(), itertools.count(1)

  def scored(attempt: benchmarks.Attempt, numbers: benchmarks.Row) -> None:
    row = {'task_id': attempt.task_id, 'sample': attempt.sample}
    row |= benchmarks.labels(tasks[attempt.task_id]) | numbers
    _append(results_file, row)
    rows[attempt.task_id, attempt.sample] = row
    stage.update(next(done), _note(benchmark, rows.values()))

  def ended(rollout: types.Rollout) -> None:
    nonlocal started
    now = time.monotonic()
    # Since the rollout before it: they add up to the time of all of them.
    seconds = {'wall_seconds': now - started}
    started = now
    record = _record(tasks[rollout.task_id], rollout, reward, seconds)
    _append(rollouts_file, record)
    attempt = _attempt(record, tasks)
    key = attempt.task_id, attempt.sample
    attempts[key] = attempt
    if key not in rows:  # It may be there though its rollout was lost.
      scorer.put(attempt)

  with (
    (folder / ROLLOUTS).open('a', encoding='utf-8') as rollouts_file,
    (folder / RESULTS).open('a', encoding='utf-8') as results_file,
    progress.Stage(name, len(missing) + len(unscored), 'rollouts') as stage,
    scorer_lib.Scorer(benchmark, judge, scored) as scorer,
  ):
    for key in unscored:
      scorer.put(attempts[key])
    if missing:
      roll(missing, ended)
  return Outcome([rows[k] for k in keys], [attempts[k] for k in keys], problems)


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
  """Keeps other processes from writing here, as long as this one lives."""
  with (folder / ROLLOUTS).open('a') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise BlockingIOError(
        f'another process writes in {folder}; wait for it or name another '
        f'--workdir'
      ) from None
    yield


def _record(
  task: types.Task,
  rollout: types.Rollout,
  reward: dict[str, Any],
  more: dict[str, float],
) -> rollout_records.Record:
  score = rewards.score(rollout, task, **reward)
  if task.kind == 'wide' and task.unique_columns == task.table.columns[:1]:
    exact, reported = copying.reported_cells(rollout, task)
    more = more | {'exact_cells': exact, 'reported_cells': reported}
  score = dataclasses.replace(score, parts=score.parts | more)
  return rollout_records.make(task, rollout, score)


def _attempt(
  record: rollout_records.Record, tasks: dict[str, types.Task]
) -> benchmarks.Attempt:
  """What a record says, if it is one of these tasks."""
  rollout_records.parse(record)
  task = tasks.get(record['task_id'])
  # The question as the record has it: without lone surrogates.
  if task is None or record['task']['question'] != _plain(task.question):
    raise ValueError(
      f'a rollout of {record["task_id"]!r}, which is not in this task set'
    )
  return benchmarks.Attempt(
    task.task_id,
    record['sample'],
    record['agents'][0]['answer'],
    record['parts'],
  )


def _row(record: dict[str, Any], tasks: dict[str, types.Task]) -> dict:
  task_id = lines.field(record, 'task_id', str)
  lines.field(record, 'sample', int)
  if task_id not in tasks:
    raise ValueError(f'a score of {task_id!r}, which is not in this task set')
  return record


def _plain(text: str) -> str:
  return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def _read(
  path: pathlib.Path, parse: Callable[[dict[str, Any]], Any]
) -> tuple[dict[tuple[str, int], Any], list[str]]:
  """Records of a file that grows, by task and sample."""
  if not path.exists():
    return {}, []
  cut = lines.cut_torn_end(path)
  if cut:
    progress.say(cut)

  def keyed(record: dict[str, Any], _: int) -> tuple[tuple[str, int], Any]:
    found = parse(record)
    return (record['task_id'], record['sample']), found

  pairs, problems = lines.read(path, keyed, key=lambda pair: pair[0])
  return dict(pairs), problems


def _append(file: Any, record: dict[str, Any]) -> None:
  file.write(json.dumps(record, ensure_ascii=False) + '\n')
  file.flush()


def _note(benchmark: benchmarks.Benchmark, rows: Any) -> str:
  """The running score: the first metric that any row has."""
  for name in benchmark.metrics:
    found = [row[name] for row in rows if name in row]
    if found:
      return f'{name} {sum(found) / len(found):.3f}'
  return ''
