"""What the command lines share: their flags and how they fail.

In: flags. Out: a config, or one line on stderr and exit code 2.
"""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
  'config',
  'experiments/configs/tiny_cpu.py',
  'Config file; --config.loop.num_steps=5 sets one option.',
)

# What a user can mend; anything else is a bug and keeps its traceback.
_MENDABLE = (OSError, ValueError, KeyError, AttributeError, flags.Error)


def run(main: Callable[[], None]) -> None:
  """Parses the flags and runs main; a mendable error is one line.

  Exit codes: 0 done, 1 a bug, 2 bad input, 130 interrupted.
  """

  def parse(argv: Sequence[str]) -> list[str]:
    try:
      return flags.FLAGS(argv)
    except _MENDABLE as error:
      _fail(error)

  def guarded(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      _fail(ValueError(f'what is {argv[1]!r}? options begin with --'))
    try:
      main()
    except (OSError, ValueError) as error:
      _fail(error)
    except KeyboardInterrupt:
      print('interrupted; --resume goes on from here', file=sys.stderr)
      sys.exit(130)

  app.run(guarded, flags_parser=parse)


def _fail(error: BaseException) -> None:
  text = ' '.join(str(error).split())
  print(f'error: {text}', file=sys.stderr)
  sys.exit(2)
