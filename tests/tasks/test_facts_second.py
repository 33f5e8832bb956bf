"""The second sources as they are; needs the extra `data`."""

import pytest

from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import second

for _package in ('airports', 'citipy', 'periodictable', 'tzfpy'):
  pytest.importorskip(_package, reason="pip install 'wideseek_jax[data]'")


@pytest.mark.slow
def test_sources_agree_and_disagree_where_they_should():
  world = facts.build_world()
  told, first = second.second_facts(world), second.first_facts(world)
  assert told.keys() <= first.keys()
  assert told['country', 'Peru']['capital'] == 'Lima'
  # GeoNames has the capital since 2019, countryinfo the one before.
  assert first['country', 'Burundi']['capital'] == 'Gitega'
  assert told['country', 'Burundi']['capital'] == 'Bujumbura'
  assert told['us county', 'Autauga County']['fips code'] == '01001'
  assert told['isotope', 'Carbon-14']['mass u'] == '14.003'
  # GeoNames puts Hanoi into Bangkok's zone; the borders agree, the zones'
  # table then says Thailand.
  assert told['city', 'Hanoi']['country'] == 'Thailand'
