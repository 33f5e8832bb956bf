"""Makes a data set in three stages: questions, two answers each, filters.

python -m experiments.build_dataset --source=facts --num=20000 --out=runs/data
"""

import time

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax.tasks import facts
from wideseek_jax.tasks.facts import second
from wideseek_jax.tasks.pipeline import offline, page, stages
from wideseek_jax.tools import corpus, local, search

_SOURCE = flags.DEFINE_enum('source', 'facts', ['facts'], 'What to ask about.')
_NUM = flags.DEFINE_integer('num', 20_000, 'Tasks in all.', lower_bound=2)
_OUT = flags.DEFINE_string('out', None, 'Folder to fill.', required=True)
_SEED = flags.DEFINE_integer('seed', 0, 'Decides what is asked.')
_OVERSAMPLE = flags.DEFINE_float(
  'oversample', 1.0, 'Factor of the items that are drawn.', lower_bound=0.01
)


def main() -> None:
  started = time.monotonic()
  world = facts.build_world()
  pages = facts.build_corpus(world)
  wanted = stages.quotas(_NUM.value)
  drawn = {
    place: round(count * offline.OVERSAMPLE[place[1]] * _OVERSAMPLE.value)
    for place, count in wanted.items()
  }
  back_end = offline.FactsBackEnd(
    world, second.second_facts(world), drawn, _SEED.value
  )
  settings = {
    'source': _SOURCE.value,
    'world': world.fingerprint,
    'num': _NUM.value,
    'seed': _SEED.value,
    'oversample': _OVERSAMPLE.value,
  }
  tools = local.LocalTools(pages, search.SearchIndex(pages))
  manifest = stages.run(_OUT.value, back_end, tools, wanted, settings)
  corpus.save_jsonl(pages, f'{_OUT.value}/corpus.jsonl')
  took = time.monotonic() - started
  report = page.write(_OUT.value, {'seconds': f'{took:.0f}'})
  for row in manifest['funnel']:
    print(f'{row["stage"]:12} {row["kind"]} {row["in"]:7} → {row["out"]:7}')
    for reason, count in row['rejected'].items():
      print(f'{count:30} {reason}')
  print(f'{manifest["tasks"]} in {took:.0f} s')
  print(f'fingerprint {manifest["fingerprint"]}: {report}')


if __name__ == '__main__':
  experiment_flags.run(main, config_file=None)
