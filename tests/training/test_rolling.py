from wideseek_jax import types
from wideseek_jax.training import rolling


def test_every_epoch_visits_every_task_once():
  tasks = [types.Task(str(i), 'q', 'deep', answers=('a',)) for i in range(7)]
  # 7 steps of 3 tasks are 3 epochs of 7.
  picked = [
    task.task_id
    for step in range(7)
    for task in rolling.pick_tasks(tasks, step, 3, seed=0)
  ]
  epochs = [picked[i : i + 7] for i in (0, 7, 14)]
  assert all(sorted(epoch) == sorted('0123456') for epoch in epochs)
  assert epochs[0] != epochs[1]
  # A function of the step alone: a resumed run sees the same tasks.
  again = rolling.pick_tasks(tasks, 4, 3, seed=0)
  assert [task.task_id for task in again] == picked[12:15]
  other = rolling.pick_tasks(tasks, 4, 3, seed=1)
  assert [t.task_id for t in other] != picked[12:15]


def test_score_means_cover_those_that_have_the_part():
  scores = [
    [types.Score(1.0, {'item_f1': 0.5}), types.Score(0.0, {'item_f1': 0.0})],
    [types.Score(0.5, {'exact_match': 1.0})],
  ]
  means = rolling.score_means(scores, 'x/')
  # (1 + 0 + 0.5) / 3, (0.5 + 0) / 2 and 1 / 1.
  assert means == {'x/reward': 0.5, 'x/item_f1': 0.25, 'x/exact_match': 1.0}
