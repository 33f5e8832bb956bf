from tests.experiments import helpers


def test_the_tools_of_the_facts_work():
  found = helpers.run('check_tools', timeout=200)
  assert found.returncode == 0, found.stderr
  assert found.stdout.splitlines()[-1] == 'the tools work'
  # The page of Peru comes first and is opened.
  assert 'Peru' in found.stdout.splitlines()[1]


def test_a_search_without_hits_is_told():
  found = helpers.run('check_tools', '--query=qqqqqqq', timeout=200)
  assert found.returncode == 2
  assert 'nothing was found' in found.stderr
