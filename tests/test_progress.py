import io

from wideseek_jax import progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_seconds_are_readable():
  assert progress.format_seconds(41.6) == '42 s'
  assert progress.format_seconds(185) == '3 min 05 s'
  assert progress.format_seconds(2 * 3600 + 7 * 60 + 29) == '2 h 07 min'


def test_lines_without_a_terminal():
  stream = io.StringIO()
  with progress.Stage(
    'train', 4, 'steps', stream=stream, line_every_s=0.0
  ) as stage:
    stage.update(2, 'rollouts')
    stage.update(4)
  lines = stream.getvalue().splitlines()
  assert lines[0] == 'train: 0/4 steps'
  assert lines[1].startswith('train: 2/4 steps, about ')
  assert lines[1].endswith('left (rollouts)')
  assert lines[-1].startswith('train: 4/4 steps, took ')
  assert '\x1b' not in stream.getvalue()


def test_lines_are_rare_without_a_terminal():
  stream = io.StringIO()
  with progress.Stage('x', 1000, stream=stream, line_every_s=60.0) as stage:
    for done in range(1000):
      stage.update(done)
  assert len(stream.getvalue().splitlines()) == 2  # the first and the last


def test_a_bar_on_a_terminal_ends_its_line():
  stream = Terminal()
  with progress.Stage('x', 2, stream=stream):
    pass
  assert stream.getvalue().startswith('\r')
  assert stream.getvalue().endswith('\n')
