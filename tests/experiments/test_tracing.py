import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import tracing


@pytest.fixture
def parsed():
  with flagsaver.flagsaver():
    flags.FLAGS(['test'])
    yield flags.FLAGS


def work():
  jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))


def traces(folder):
  return list(folder.glob('trace/plugins/profile/*/*.xplane.pb'))


def test_nothing_is_written_unless_asked_for(parsed, tmp_path):
  ended = tracing.step_by_step(tmp_path)
  for step in range(3):
    work()
    ended(step)
  with tracing.whole(tmp_path):
    work()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('chosen', [0, 2])
def test_one_step_is_traced(parsed, tmp_path, chosen):
  parsed.trace_step = chosen
  ended = tracing.step_by_step(tmp_path)
  found = []
  for step in range(4):
    work()
    ended(step)
    found.append(len(traces(tmp_path)))
  # There as soon as the step has ended, and only then.
  assert found == [int(step >= chosen) for step in range(4)]


def test_an_evaluation_is_traced(parsed, tmp_path):
  parsed.trace_step = 0
  with tracing.whole(tmp_path):
    work()
  assert len(traces(tmp_path)) == 1
