"""Makes a data set in three stages: questions, two answers each, filters.

python -m experiments.build_dataset --source=facts --num=20000 --out=runs/data

With --config.judge.base_url and --config.judge.model a model writes and answers
instead; --max_cost bounds what it may cost.
"""

import time

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import build
from wideseek_jax.tasks.pipeline import page, sources, stages
from wideseek_jax.tools import corpus, local, search

_SOURCE = flags.DEFINE_string(
  'source', 'facts', "'facts', 'hybridqa', or a file of topics."
)
_NUM = flags.DEFINE_integer('num', 20_000, 'Tasks in all.', lower_bound=1)
_OUT = flags.DEFINE_string('out', None, 'Folder to fill.', required=True)
_SEED = flags.DEFINE_integer('seed', 0, 'Decides what is asked.')
_KINDS = flags.DEFINE_list('kinds', list(stages.KINDS), 'wide, deep or both.')
_OVERSAMPLE = flags.DEFINE_float(
  'oversample', 1.0, 'Factor of the items that are drawn.', lower_bound=0.01
)
_FOLDER = flags.DEFINE_string('hybridqa_folder', '', 'Tables and passages.')
_MAX_COST = flags.DEFINE_float(
  'max_cost', 0.0, 'Budget of the model; 0 for none.', lower_bound=0.0
)
_PRICE = flags.DEFINE_float(
  'token_price', 0.0, 'Of a million tokens.', lower_bound=0.0
)


def main() -> None:
  started = time.monotonic()
  config = experiment_flags.config()
  if _MAX_COST.value:
    if not _PRICE.value:
      raise ValueError('--max_cost needs the --token_price of a million tokens')
    most = int(_MAX_COST.value / _PRICE.value * 1e6)
    config.judge.max_total_tokens = most
  wanted = stages.quotas(_NUM.value, _KINDS.value)
  with build.open_judge(config) as judge:
    source = sources.open_source(
      _SOURCE.value,
      wanted,
      seed=_SEED.value,
      oversample=_OVERSAMPLE.value,
      hybridqa_folder=_FOLDER.value,
      judge=judge,
    )
    tools = None
    if source.pages:
      tools = local.LocalTools(source.pages, search.SearchIndex(source.pages))
    settings = {
      'source': _SOURCE.value,
      'origin': source.origin,
      'num': _NUM.value,
      'kinds': _KINDS.value,
      'seed': _SEED.value,
      'oversample': _OVERSAMPLE.value,
      'model': (config.judge_policy or config.judge.model) if judge else '',
    }
    manifest = stages.run(_OUT.value, source.back_end, tools, wanted, settings)
    if source.pages:
      corpus.save_jsonl(source.pages, f'{_OUT.value}/corpus.jsonl')
    notes = {'seconds': f'{time.monotonic() - started:.0f}'}
    if judge and config.judge.base_url:
      stats = judge.stats()
      cost = stats.tokens * _PRICE.value / 1e6
      notes['model'] = f'{stats}, cost {cost:.2f}'
  report = page.write(_OUT.value, notes)
  for row in manifest['funnel']:
    print(f'{row["stage"]:12} {row["kind"]} {row["in"]:7} → {row["out"]:7}')
    for reason, count in row['rejected'].items():
      print(f'{count:30} {reason}')
  print(*(f'{name}: {value}' for name, value in notes.items()), sep='\n')
  print(f'{manifest["tasks"]}, fingerprint {manifest["fingerprint"]}: {report}')
  experiment_flags.report_skipped(source.problems)


if __name__ == '__main__':
  experiment_flags.run(main)
