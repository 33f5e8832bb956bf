"""Runs a command line of experiments/ as a user does."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(module, *args, timeout=None):
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{module}', *args],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=timeout,
  )
