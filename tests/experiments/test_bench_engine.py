import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import bench_peers, bench_timing

ROOT = pathlib.Path(__file__).parents[2]


def peer(name, case, rate, **more):
  row = {'peer': name, 'case': case, 'preset': 'micro', 'per_s_median': rate}
  return row | more


def test_the_table_shows_each_way_of_a_peer_at_its_best():
  ours = [peer('us', 'episodes', 2000.0, batch=8)]
  peers = [
    peer('torch', 'episodes-kv', 500.0, agents=8, threads='1'),
    peer('torch', 'episodes-kv', 400.0, agents=8, threads='2'),
    peer('tunix', 'episodes-lockstep', 250.0, agents=8),
    peer('tunix', 'episodes-lockstep', 9999.0, agents=4),
    peer('tunix', 'decode', 9999.0, batch=8),
    peer('tunix', 'episodes-lockstep', 9999.0, agents=8) | {'preset': 'small'},
  ]
  head, *lines = bench_peers.table(ours, peers).splitlines()
  assert head.split()[:2] == ['case', 'batch']
  # The target is that of the best peer.
  assert [line.split()[2:] for line in lines] == [
    ['2,000', 'torch', 'episodes-kv', '500', '4.00', '4.0'],
    ['2,000', 'tunix', 'episodes-lockstep', '250', '8.00'],
  ]


def test_peers_are_run_one_case_at_a_time(tmp_path):
  (tmp_path / 'run_all.sh').write_text(
    'echo "{\\"per_s_median\\": $R, \\"case\\": \\"$CASES $PRESET\\"}"'
    ' >> $BENCH_OUT\necho \'{"case": "not timed"}\' >> $BENCH_OUT\n'
  )
  out = tmp_path / 'rows.jsonl'
  assert bench_peers.read(out) == []
  bench_peers.run(str(tmp_path), 'ragged', 'tiny', 7, str(out))
  assert bench_peers.read(out) == [{'per_s_median': 7, 'case': 'ragged tiny'}]


def test_only_quiet_samples_count(monkeypatch):
  prepared = []
  # What others use meanwhile, in seconds of the whole machine.
  busy = iter([0, 100.0, 100, 100, 100, 200.0, 200, 200])
  monkeypatch.setattr(bench_timing, '_machine_seconds', lambda: next(busy))
  samples = bench_timing.timed(
    lambda: len(prepared),
    prepare=lambda: prepared.append(0),
    repeats=2,
    budget_s=100.0,
  )
  assert [sample.result for sample in samples] == [2, 4]


def test_a_spent_budget_takes_the_quietest():
  runs = []
  samples = bench_timing.timed(
    lambda: runs.append(0), prepare=lambda: None, repeats=9, budget_s=0.0
  )
  assert len(samples) >= 3


def test_a_summary_by_hand():
  samples = [bench_timing.Sample(w, 2.0, 0.05, None) for w in (4.0, 1.0, 2.0)]
  found = bench_timing.summary(samples, 100)
  assert (found['min_s'], found['median_s'], found['max_s']) == (1.0, 2.0, 4.0)
  assert (found['per_s_median'], found['per_s_best']) == (50.0, 100.0)


@pytest.mark.timeout(600)
def test_every_case_runs(tmp_path):
  peers = tmp_path / 'peers.jsonl'
  rows = [
    peer('them', 'decode', 0.5, batch=2),
    peer('them', 'ragged', 0.5, slots=8),
  ]
  peers.write_text('\n'.join(map(json.dumps, rows)))
  out = tmp_path / 'ours.jsonl'
  found = subprocess.run(
    [
      *(sys.executable, '-m', 'experiments.bench_engine'),
      *('--preset=micro', '--repeats=1', '--batches=2', '--budget_s=0'),
      *(f'--peers={peers}', f'--out={out}'),
    ],
    cwd=ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stderr[-2000:]
  ours = {(r['case'], r['batch']): r for r in bench_peers.read(out)}
  # Tokens: 2 · 128; 64 turns; 8 agents · 6 turns · 32; 8 · (1 + n) · 4 · 32.
  assert ours['decode', 2]['units'] == 256
  assert 64 <= ours['ragged', 8]['units'] < 64 * 128
  assert ours['episodes', 8]['units'] == 8 * 6 * 32
  assert ours['width', 1]['units'] == 8 * 2 * 128
  assert ours['width', 10]['units'] == 8 * 11 * 128
  for row in ours.values():
    assert row['late_compiles'] == 0
    assert row['recompute_ratio'] == 1.0
    assert 0 <= row['host_share'] <= 1
  assert 'decode' in found.stdout and 'times as long as 1' in found.stdout
