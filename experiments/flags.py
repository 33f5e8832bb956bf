"""What the command lines share: the config flag and how they fail.

In: flags. Out: a config, or one line on stderr and exit code 2.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags


def config() -> ml_collections.ConfigDict:
  """The config with what the flags changed in it."""
  return flags.FLAGS.config


def run(
  main: Callable[..., None],
  config_file: str | None = 'experiments/configs/tiny_cpu.py',
  max_words: int = 0,
) -> None:
  """Parses the flags and runs main; an error that a user can mend is one line.

  Exit codes: 0 done, 1 a bug (with its traceback), 2 bad input, 3 done but for
  some of the input (`report_skipped`), 75 asked to end or another host is lost
  (`training.preemption`; what was done is kept), 130 interrupted.

  Args:
    main: the entry point.
    config_file: the config to use unless --config names another; None for a
      command without a config.
    max_words: how many words beside the options main takes at most.
  """

  # JAX tells at INFO which back ends are not there.
  logging.set_verbosity(logging.WARNING)

  def parse(argv: Sequence[str]) -> list[str]:
    try:
      # Reads the overrides in argv already, hence not on import.
      if config_file:
        config_flags.DEFINE_config_file(
          'config',
          config_file,
          'Config file; --config.loop.num_steps=5 sets one option.',
        )
      return flags.FLAGS(argv)
    except AttributeError as error:
      name = str(error).strip('\'"')
      _fail(f'the config has no option {name!r}; see wideseek_jax/config.py')
    except (OSError, ValueError, flags.Error) as error:
      _fail(error)

  def guarded(argv: Sequence[str]) -> None:
    words = argv[1:]
    if len(words) > max_words:
      _fail(f'what is {words[max_words]!r}? options begin with --')
    try:
      main(*words)
    except (OSError, ValueError) as error:
      _fail(error)
    except KeyboardInterrupt:
      print(
        'interrupted; started again it goes on (train: with --resume)',
        file=sys.stderr,
      )
      sys.exit(130)

  app.run(guarded, flags_parser=parse)


def report_skipped(problems: Sequence[str]) -> None:
  """Names what could not be used of the input and leaves with code 3.

  To be called when everything else is done; without problems it returns.
  """
  for problem in problems:
    print('skipped:', *problem.split(), file=sys.stderr)
  if problems:
    print(f'error: {len(problems)} parts of the input skipped', file=sys.stderr)
    sys.exit(3)


def _fail(error: object) -> NoReturn:
  print('error:', *str(error).split(), file=sys.stderr)
  sys.exit(2)
