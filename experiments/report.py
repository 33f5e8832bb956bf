"""Writes one HTML page that shows a run: curves, scores, rollouts.

python -m experiments.report --workdir=runs/demo
"""

import pathlib

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax.evaluation import report_page

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run, or of several.', required=True
)
_OUT = flags.DEFINE_string(
  'out', None, 'Where the page goes (default: report.html in the workdir).'
)
_LIMIT = flags.DEFINE_integer(
  'limit', 2000, 'Rollouts on the page; of more, some groups.', lower_bound=1
)


def main() -> None:
  path = pathlib.Path(_OUT.value or f'{_WORKDIR.value}/report.html')
  count, problems = report_page.write(_WORKDIR.value, path, limit=_LIMIT.value)
  size = path.stat().st_size / 1e6
  print(f'{path}: {count} rollouts, {size:.1f} MB. Open it in a browser.')
  experiment_flags.report_skipped(problems)


if __name__ == '__main__':
  experiment_flags.run(main, config_file=None)
