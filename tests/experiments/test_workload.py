import dataclasses

import numpy as np
import pytest

from experiments import workload

# A lead: reads 10; samples 4, reads 2 reports of 3; samples 4, reads 2 reports;
# samples 4. Its four subagents: read 7, of which 5 in common; sample 2, read 6;
# sample 2.
SMALL = workload.Workload(
  rollouts=4,
  group=2,
  lead_prompt=10,
  lead_turns=3,
  lead_turn=4,
  subagents=2,
  report=3,
  sub_prompt=7,
  sub_shared=5,
  sub_turns=2,
  sub_turn=2,
  observation=6,
)


def test_a_rollout_by_hand():
  assert SMALL.num_subagents == 4
  assert SMALL.lead_len == 10 + 3 * 4 + 2 * 2 * 3 == 34
  assert SMALL.sub_len == 7 + 2 * 2 + 6 == 17
  assert SMALL.tokens == 34 + 4 * 17 == 102
  assert SMALL.sampled == 12 + 4 * 4 == 28
  # In a group of two: one lead's prompt, and the start of all but one of eight
  # subagents.
  assert SMALL.shared == (10 + 7 * 5) / 2
  assert SMALL.read == 102 - 28 - 22.5


def test_a_single_agent_reads_its_tools_itself():
  alone = dataclasses.replace(SMALL, subagents=0)
  # Reads 10; samples 4, reads 6; samples 4, reads 6; samples 4.
  assert alone.tokens == alone.lead_len == 10 + 3 * 4 + 2 * 6 == 34
  assert alone.sampled == 12
  assert alone.shared == 10 / 2
  # Its sampled tokens begin at 10, 20 and 30.
  assert alone.context == (10 + 20 + 30) / 3 + 4 / 2


def test_means_are_those_of_the_tokens():
  def agent(prompt, turns, sampled, read):
    mine = [False] * prompt
    for turn in range(turns):
      mine += [True] * sampled + [False] * (read if turn < turns - 1 else 0)
    return np.array(mine)

  lead, sub = agent(10, 3, 4, 6), agent(7, 2, 2, 6)
  agents = [lead, *[sub] * 4]
  places = np.concatenate([np.arange(len(mine)) for mine in agents])
  sampled = np.concatenate(agents)
  # Half a token is what sums and integrals differ by.
  assert SMALL.keys == places.mean() + 0.5
  assert SMALL.context == pytest.approx(places[sampled].mean() + 0.5)


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'report': 0}, 'report=0'),
    ({'subagents': -1}, 'subagents=-1'),
    ({'group': 3}, 'no whole groups of 3'),
    ({'sub_shared': 1201}, 'sub_shared=1201'),
  ],
)
def test_nonsense_is_refused(change, words):
  with pytest.raises(ValueError, match=words):
    workload.Workload(**{'rollouts': 1024, 'group': 8} | change)
