import dataclasses

import numpy as np

from wideseek_jax import testing, types
from wideseek_jax.training import finished


def _rollout(index=0, task_id='t'):
  turn = types.Turn(1, 3, 'stop', 'a\n\ud800"', tool_names=('search',))
  lead = dataclasses.replace(
    testing.trajectory([0, 1, 1], failures=(types.CONTEXT_FAILED,)),
    behavior_logprobs=np.float32([0, -1 / 3, -1e-30]),
    turns=(turn,),
  )
  return types.Rollout(task_id, index, (lead, testing.trajectory([0], agent=1)))


def _assert_same(found, expected):
  assert repr(found) == repr(expected)
  for one, other in zip(found.trajectories, expected.trajectories, strict=True):
    for name in ('token_ids', 'sample_mask', 'behavior_logprobs'):
      a, b = getattr(one, name), getattr(other, name)
      assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_what_was_added_is_found_to_the_bit(tmp_path):
  made = finished.Finished(tmp_path)
  assert made.read(3) == {}
  made.add(3, _rollout(0), 2)
  # Another process of the run, another step.
  finished.Finished(tmp_path, process=1).add(3, _rollout(5), 3)
  made.add(4, _rollout(7), 4)
  found = made.read(3)
  assert set(found) == {('t', 0), ('t', 5)}
  assert [weights for _, weights in found.values()] == [2, 3]
  _assert_same(found['t', 0][0], _rollout(0))


def test_a_line_that_a_kill_cut_spoils_no_other(tmp_path):
  made = finished.Finished(tmp_path)
  for index in (0, 1):
    made.add(0, _rollout(index), 0)
  (path,) = (tmp_path / finished.FOLDER).iterdir()
  whole = path.read_bytes()
  for length in (1, len(whole) // 2 - 1, len(whole) - 1):
    path.write_bytes(whole[:length])
    assert ('t', 1) not in made.read(0)
    made.add(0, _rollout(9), 0)
    found = made.read(0)
    assert ('t', 9) in found and ('t', 1) not in found
    assert (('t', 0) in found) == (length == len(whole) - 1)
  # A digit that the disk changed.
  path.write_bytes(whole.replace(b'"agent": 1', b'"agent": 2'))
  assert made.read(0) == {}


def test_forgets_what_a_checkpoint_holds(tmp_path):
  made = finished.Finished(tmp_path)
  for step in (1, 2, 10):
    made.add(step, _rollout(), step)
  assert made.forget(before=2) == 1
  assert [bool(made.read(step)) for step in (1, 2, 10)] == [False, True, True]
  assert made.forget() == 2 and made.read(10) == {}
