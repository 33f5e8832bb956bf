"""The peers of the benchmarks: their scripts, their rows, the ratios.

In: a folder with the peers' scripts (`run_all.sh`), or rows that they wrote.
Out: a table of our rates over theirs.
"""

import json
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

# The cases that their scripts know, of those that ours does.
CASES = ('decode', 'ragged', 'episodes', 'train')
# What we aim at, as ratios to the best peer: (case, batch) -> ratio.
TARGETS = {
  ('decode', 1): 1.5,
  ('decode', 8): 1.5,
  ('decode', 32): 2.0,
  ('ragged', 8): 4.0,
  ('episodes', 8): 4.0,
  ('train', 32): 1.0,
}


def run(folder: str, case: str, preset: str, repeats: int, out: str) -> None:
  """Runs one case of all peers, one after the other; they append to `out`.

  Args:
    folder: holds run_all.sh; TV and HV in the environment name the virtual
      environments of its two peers.
    case: one of CASES.
    preset: the model.
    repeats: quiet samples wanted.
    out: a jsonl file.
  """
  subprocess.run(
    ['bash', 'run_all.sh'],
    cwd=folder,
    check=True,
    env=os.environ
    | {
      'CASES': case,
      'PRESET': preset,
      'R': str(repeats),
      'BENCH_OUT': str(pathlib.Path(out).resolve()),
    },
  )


def read(path: str | os.PathLike) -> list[Row]:
  """The timed rows of a jsonl file, none if it is not there."""
  if not os.path.exists(path):
    return []
  lines = pathlib.Path(path).read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [row for row in rows if 'per_s_median' in row]


def table(ours: Sequence[Row], peers: Sequence[Row]) -> str:
  """A line for each way in which a peer does a case of ours, the best of each.

  Args:
    ours: rows with peer, case, preset, batch and per_s_median.
    peers: the same; a case may have a suffix (episodes-kv), and batch may be
      called slots or agents.
  """
  head = ('case', 'batch', 'ours tok/s', 'peer', 'tok/s', 'ratio', 'target')
  lines = [head]
  for row in ours:
    best: dict[tuple[str, str], Row] = {}
    for peer in peers:
      batch = peer.get('batch') or peer.get('slots') or peer.get('agents')
      same = peer['preset'] == row['preset'] and batch == row['batch']
      if not same or peer['case'].split('-')[0] != row['case']:
        continue
      way = (peer['peer'], peer['case'])
      # A peer runs with several numbers of threads: the better one counts.
      if way not in best or peer['per_s_median'] > best[way]['per_s_median']:
        best[way] = peer
    target = TARGETS.get((row['case'], row['batch']))
    for peer in sorted(best.values(), key=lambda r: -r['per_s_median']):
      lines.append(
        (
          row['case'],
          str(row['batch']),
          f'{row["per_s_median"]:,.0f}',
          f'{peer["peer"]} {peer["case"]}',
          f'{peer["per_s_median"]:,.0f}',
          f'{row["per_s_median"] / peer["per_s_median"]:.2f}',
          f'{target:.1f}' if target else '',
        )
      )
      target = None  # of the best one
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  return '\n'.join(
    '  '.join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)
    )
    for line in lines
  )
