import collections
import json

import numpy as np
import pytest
from absl.testing import flagsaver

from experiments import bench_engine, bench_peers, bench_timing
from tests.experiments import helpers
from wideseek_jax import types


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


class FullTurnsEngine:
  """Every turn has all the tokens it may have."""

  def __init__(self):
    self._ended = []
    self.held = collections.Counter()

  def open(self):
    return len(self.held)

  def submit(self, sequence, token_ids, sampling, key):
    new = np.zeros(sampling.max_tokens, np.int32)
    self.held[sequence] += len(token_ids) + len(new)
    generation = types.Generation(new, new.astype(np.float32), 'length')
    self._ended.append((sequence, generation))

  def step(self):
    ended, self._ended = self._ended, []
    return ended

  def close(self, sequence):
    pass


# Tokens sampled: 2 of 128; 64 of 128; 8 agents, 6 turns of 32; 8 leads and
# their subagents, 4 turns of 32.
@pytest.mark.parametrize(
  ('name', 'units'),
  [
    ('decode', [256]),
    ('ragged', [64 * 128]),
    ('episodes', [8 * 6 * 32]),
    ('width', [8 * 2 * 4 * 32, 8 * 11 * 4 * 32]),
  ],
)
def test_a_case_has_the_size_it_says(name, units):
  with flagsaver.as_parsed(batches='2'):
    made = bench_engine.cases(name, 64)
  for case, expected in zip(made, units, strict=True):
    engine = FullTurnsEngine()
    assert bench_engine.drive(case.agents(), engine) == expected
    # All contexts fit.
    assert max(engine.held.values()) <= case.sizes['max_context']


# Compiles dozens of programs.
@pytest.mark.parametrize(
  'names',
  [
    ('decode',),
    pytest.param(('ragged', 'episodes', 'width'), marks=pytest.mark.slow),
  ],
)
def test_every_case_runs(names, tmp_path):
  peers = tmp_path / 'peers.jsonl'
  rows = [
    peer('them', 'decode', 0.5, batch=2),
    peer('them', 'ragged', 0.5, slots=8),
  ]
  peers.write_text('\n'.join(map(json.dumps, rows)))
  out = tmp_path / 'ours.jsonl'
  found = helpers.run(
    'bench_engine',
    *('--preset=micro', '--repeats=1', '--batches=2', '--budget_s=0'),
    *(f'--peers={peers}', f'--out={out}'),
    *(f'--cases={name}' for name in names),
  )
  assert found.returncode == 0, found.stderr[-2000:]
  ours = {(r['case'], r['batch']): r for r in bench_peers.read(out)}
  assert {case for case, _ in ours} == set(names)
  for row in ours.values():
    assert row['late_compiles'] == 0
    assert row['recompute_ratio'] == 1.0
    assert 0 <= row['host_share'] <= 1
  if 'decode' in names:
    assert ours['decode', 2]['units'] == 256
    assert 'them' in found.stdout
  else:
    assert 64 <= ours['ragged', 8]['units'] < 64 * 128
    assert 'times as long as 1' in found.stdout
