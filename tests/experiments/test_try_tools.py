import pytest

from tests.experiments import helpers


def test_the_tools_of_the_facts_work():
  found = helpers.run('try_tools', timeout=200)
  assert found.returncode == 0, found.stderr
  lines = found.stdout.splitlines()
  assert lines[-1] == '# the tools work'
  # The page of Peru comes first and is opened.
  assert lines[1].startswith('# search') and 'Peru' in lines[2]


@pytest.mark.parametrize(
  ('args', 'what'),
  [
    (['qqqqqqq'], 'nothing was found'),
    (
      ['--config.tools.kind=text', '--config.tools.text.folder=/none', 'a'],
      'experiments.build_index',
    ),
  ],
)
def test_what_fails_is_told_in_a_line(args, what):
  found = helpers.run('try_tools', *args, timeout=200)
  assert found.returncode == 2
  assert what in found.stderr and 'Traceback' not in found.stderr
