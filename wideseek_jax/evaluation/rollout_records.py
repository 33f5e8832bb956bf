"""Rollouts as lines of JSON: what is kept of them to be counted and looked at.

In comes a scored rollout with its task; out goes a plain dict, a line of a
jsonl file, and `parse` takes it in again. A record stands alone: it holds the
task, too. It holds text, not token ids: nothing can be trained from it.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from wideseek_jax import types
from wideseek_jax.rl import weights as weights_lib
from wideseek_jax.tasks import lines, rewards

Record = dict[str, Any]

_NUMBER = (int, float)


def make(
  task: types.Task,
  rollout: types.Rollout,
  score: types.Score,
  *,
  step: int | None = None,
  advantage: float | None = None,
  trained: Sequence[Sequence[bool]] | None = None,
  weights: Sequence[float] | None = None,
) -> Record:
  """The record of one rollout.

  Args:
    task: what was attempted.
    rollout: the attempt.
    score: what it is worth.
    step: of the training that the policy had behind it; None if unknown.
    advantage: what the rollout was trained with; None if it was not.
    trained: which turns of each trajectory were, see `rewards.trained_turns`.
    weights: what the tokens of each trajectory weighed in all.

  Returns:
    A dict that `json.dumps` takes: texts have no lone surrogates. `sample` is
    the rollout's place in its group, `tokens` are sampled ones.
  """
  agents = []
  for place, t in enumerate(rollout.trajectories):
    agents.append(
      {
        'agent': t.agent,
        'role': t.role,
        'subtask': t.subtask,
        'parent_turn': t.parent_turn,
        'failures': list(t.failures),
        'tokens': t.num_sampled,
        'weight': None if weights is None else float(weights[place]),
        'answer': t.answer,
        'turns': [
          {
            'text': turn.text,
            'tokens': turn.stop - turn.start,
            'finish_reason': turn.finish_reason,
            'trained': None if trained is None else bool(trained[place][i]),
            'tool_names': list(turn.tool_names),
            'error': turn.error,
            'tool_text': turn.tool_text,
          }
          for i, turn in enumerate(t.turns)
        ],
      }
    )
  table = task.table
  return _encodable(
    {
      'task_id': task.task_id,
      'sample': rollout.index,
      'step': step,
      'reward': float(score.reward),
      'advantage': None if advantage is None else float(advantage),
      'parts': {name: float(value) for name, value in score.parts.items()},
      'task': {
        'question': task.question,
        'kind': task.kind,
        'language': task.language,
        'columns': list(table.columns) if table else [],
        'rows': [list(row) for row in table.rows] if table else [],
        'unique_columns': list(task.unique_columns),
        'answers': list(task.answers),
      },
      'agents': agents,
    }
  )


def of_groups(
  tasks: Sequence[types.Task],
  groups: Sequence[Sequence[types.Rollout]],
  scores: Sequence[Sequence[types.Score]],
  *,
  step: int | None = None,
  advantages: Sequence[Sequence[float]] | None = None,
  aggregation: weights_lib.Aggregation = 'dual_level',
  roles: Collection[types.Role] = rewards.ROLES,
) -> Iterator[Record]:
  """The records of groups of rollouts, a group a task.

  Args:
    tasks: what was attempted.
    groups: the attempts at each task.
    scores: of the attempts.
    step: see `make`.
    advantages: of the attempts, if they were trained with. The records then
      have the weights that they have in one batch of all of them.
    aggregation: see `rl.weights.token_weights`.
    roles: see `rewards.trained_turns`.
  """
  weights = None
  if advantages is not None:
    masks = [
      [rewards.trained_mask(*pair, roles) for pair in zip(*both, strict=True)]
      for both in zip(groups, scores, strict=True)
    ]
    weights = weights_lib.token_weights(masks, aggregation)
  for place, (task, *both) in enumerate(
    zip(tasks, groups, scores, strict=True)
  ):
    for i, (rollout, score) in enumerate(zip(*both, strict=True)):
      training = {}
      if weights is not None:
        training = {
          'advantage': advantages[place][i],
          'trained': rewards.trained_turns(rollout, score, roles),
          'weights': [agent.sum() for agent in weights[place][i]],
        }
      yield make(task, rollout, score, step=step, **training)


def parse(record: Record, number: int = 0) -> Record:
  """The record of one line, if it is one; made for `lines.read`.

  Args:
    record: what the line holds; keys that `make` does not write may be there.
    number: of the line.

  Raises:
    ValueError: a field is missing or of another type.
  """
  del number  # The message gets it from `lines.read`.
  field = lines.field
  for name, *kinds in (
    ('task_id', str),
    ('sample', int),
    ('step', int, type(None)),
    ('reward', *_NUMBER),
    ('advantage', *_NUMBER, type(None)),
  ):
    field(record, name, *kinds)
  for value in field(record, 'parts', dict).values():
    if type(value) not in _NUMBER:
      raise ValueError(f'{value!r} among the parts is no number')
  _parse_task(field(record, 'task', dict))
  agents = field(record, 'agents', list)
  if not agents:
    raise ValueError('it has no agents')
  for agent in agents:
    _parse_agent(_dict(agent))
  return record


def key(record: Record) -> tuple[str, int, int | None]:
  """What no two records of a file share: task, sample and step."""
  return record['task_id'], record['sample'], record['step']


def gold_table(record: Record) -> types.Table | None:
  """The gold table of a record's task; None of a deep one."""
  task = record['task']
  if task['kind'] != 'wide':
    return None
  return types.Table(tuple(task['columns']), tuple(map(tuple, task['rows'])))


def _parse_task(task: Record) -> None:
  for name in ('question', 'language'):
    lines.field(task, name, str)
  if lines.field(task, 'kind', str) not in ('wide', 'deep'):
    raise ValueError(f'there is no kind of task {task["kind"]!r}')
  for name in ('columns', 'unique_columns', 'answers'):
    _texts(lines.field(task, name, list))
  unknown = set(task['unique_columns']) - set(task['columns'])
  if unknown:
    raise ValueError(f'{sorted(unknown)} are no columns of the gold table')
  for row in lines.field(task, 'rows', list):
    if len(_texts(row)) != len(task['columns']):
      raise ValueError(
        f'a gold row has {len(row)} cells of {len(task["columns"])}'
      )


def _parse_agent(agent: Record) -> None:
  for name, *kinds in (
    ('agent', int),
    ('role', str),
    ('subtask', str),
    ('parent_turn', int),
    ('tokens', int),
    ('weight', *_NUMBER, type(None)),
    ('answer', str),
  ):
    lines.field(agent, name, *kinds)
  _texts(lines.field(agent, 'failures', list))
  for turn in lines.field(agent, 'turns', list):
    for name, *kinds in (
      ('text', str),
      ('tokens', int),
      ('finish_reason', str),
      ('trained', bool, type(None)),
      ('error', str),
      ('tool_text', str),
    ):
      lines.field(_dict(turn), name, *kinds)
    _texts(lines.field(turn, 'tool_names', list))


def _dict(value: Any) -> Record:
  if not isinstance(value, dict):
    raise ValueError(f'{value!r} is no object')
  return value


def _texts(value: Any) -> list[str]:
  if not isinstance(value, list) or any(type(v) is not str for v in value):
    raise ValueError(f'{value!r} is no list of texts')
  return value


def _encodable(value: Any) -> Any:
  """The value with lone surrogates of its texts spelled out."""
  if isinstance(value, str):
    return value.encode('utf-8', 'backslashreplace').decode('utf-8')
  if isinstance(value, dict):
    return {_encodable(k): _encodable(v) for k, v in value.items()}
  if isinstance(value, list):
    return [_encodable(v) for v in value]
  return value
