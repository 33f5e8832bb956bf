"""Makes a data set in three stages: questions, two answers each, filters.

python -m experiments.build_dataset --source=facts --num=20000 --out=runs/data
"""

import time

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import second
from wideseek_jax.tasks.pipeline import offline, stages
from wideseek_jax.tools import local, search

_SOURCE = flags.DEFINE_string('source', 'facts', 'facts.')
_NUM = flags.DEFINE_integer('num', 20_000, 'Tasks in all.', lower_bound=2)
_OUT = flags.DEFINE_string('out', None, 'Folder of the data set.', required=True)
_SEED = flags.DEFINE_integer('seed', 0, 'Decides what is asked.')
_OVERSAMPLE = flags.DEFINE_float('oversample', 1.0, 'Factor of items drawn.', lower_bound=0.01)


def main() -> None:
  started = time.monotonic()
  world = facts.build_world()
  pages = facts.build_corpus(world)
  wanted = stages.quotas(_NUM.value)
  drawn = {
    place: round(count * offline.OVERSAMPLE[place[1]] * _OVERSAMPLE.value)
    for place, count in wanted.items()
  }
  told = second.second_facts(world)
  print(time.monotonic()-started)
  back_end = offline.FactsBackEnd(world, told, drawn, _SEED.value)
  tools = local.LocalTools(pages, search.SearchIndex(pages))
  settings = {'source': _SOURCE.value, 'world': world.fingerprint, 'num': _NUM.value, 'seed': _SEED.value, 'oversample': _OVERSAMPLE.value}
  manifest = stages.run(_OUT.value, back_end, tools, wanted, settings)
  for row in manifest['funnel']:
    print(row['stage'], row['kind'], row['in'], '→', row['out'], row['rejected'])
  print(manifest['tasks'], manifest['fingerprint'])
  print(f'{time.monotonic() - started:.0f} s')


if __name__ == '__main__':
  experiment_flags.run(main, config_file=None)
