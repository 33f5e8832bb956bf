import os
import signal

import pytest

from wideseek_jax.training import preemption


def _terminate():
  os.kill(os.getpid(), signal.SIGTERM)


def test_raises_at_once_and_only_once():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.Notice(60) as notice:
    with pytest.raises(preemption.Preempted) as error:
      _terminate()
    assert error.value.code == 75
    _terminate()  # While what is done is saved.
    with pytest.raises(preemption.Preempted), notice.deferred():
      pass
  assert signal.getsignal(signal.SIGTERM) is before


def test_an_update_is_not_interrupted():
  done = []
  with (
    preemption.Notice(60) as notice,
    pytest.raises(preemption.Preempted),
    notice.deferred(),
  ):
    _terminate()
    done.append('update')
  assert done == ['update']


def test_ends_itself_when_its_time_is_over(monkeypatch):
  codes = []
  monkeypatch.setattr(os, '_exit', codes.append)
  with (
    preemption.Notice(0.0) as notice,
    pytest.raises(preemption.Preempted),
    notice.deferred(),
  ):
    _terminate()
    while not codes:
      pass
  assert codes == [75]
