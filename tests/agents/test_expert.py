"""The expert in the real agents' loop, with a scripted engine around it."""

import dataclasses

import numpy as np
import pytest

from wideseek_jax import testing
from wideseek_jax.agents import expert as expert_lib
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.tasks import facts, rewards
from wideseek_jax.tools import local, search

OPTIONS = {
  'prompt_style': 'compact',
  'max_context': 1 << 15,
  'max_turn_tokens': 1 << 12,
  'report_tokens': 1 << 12,
  'search_count': 2,
}


def run(task, tools, flaws, group_size=1, seed=0):
  tokenizer = testing.byte_tokenizer()
  expert = expert_lib.Expert(flaws=flaws)
  engine = testing.ScriptedEngine(tokenizer, expert.respond)
  group = rollout_lib.rollout_group(
    engine, tokenizer, tools, task, seed=seed, group_size=group_size, **OPTIONS
  )
  assert engine.num_open == 0
  return [rewards.score(rollout, task) for rollout in group], group


def flawed(**flaws):
  return dataclasses.replace(expert_lib.FLAWLESS, **flaws)


def test_flawless_expert_answers_a_wide_task():
  (score,), (rollout,) = run(
    testing.COUNTRIES, testing.country_tools(), expert_lib.FLAWLESS
  )
  assert score.parts['success'] == 1.0
  # The names first, then their rows, then the table.
  assert len(rollout.lead.turns) == 3
  assert rollout.subagents[0].subtask.startswith('Names of every country')
  assert not any(t.failures for t in rollout.trajectories)


@pytest.mark.parametrize(
  ('flaw', 'part', 'value'),
  [
    # Names alone: 2 of 4 cells are right, '?' is wrong.
    ('names_only', 'item_f1', 0.5),
    # One of two rows: precision 1, recall 1/2, F1 2/3.
    ('under_delegate', 'item_f1', 2 / 3),
    ('drop_row', 'item_f1', 2 / 3),
    ('no_fence', 'format_ok', 0.0),
    ('answer_at_once', 'item_f1', 0.0),
    # '?' instead of what the page says.
    ('no_access', 'item_f1', 0.5),
    ('broken_json', 'item_f1', 0.0),
  ],
)
def test_each_flaw_costs_what_it_should(flaw, part, value):
  (score,), _ = run(
    testing.COUNTRIES, testing.country_tools(), flawed(**{flaw: 1.0})
  )
  assert score.parts[part] == pytest.approx(value)


def test_mistakes_are_addressed():
  half = expert_lib.Flaws()
  tools = testing.country_tools()
  first, _ = run(testing.COUNTRIES, tools, half, group_size=20)
  again, _ = run(testing.COUNTRIES, tools, half, group_size=20)
  other, _ = run(testing.COUNTRIES, tools, half, group_size=20, seed=1)
  rewards_of = lambda scores: [score.reward for score in scores]  # noqa: E731
  assert rewards_of(first) == rewards_of(again)
  assert rewards_of(first) != rewards_of(other)
  assert len(set(rewards_of(first))) > 2


def test_expert_answers_wide_and_deep_tasks_of_a_random_world():
  world = facts.build_synthetic_world(3, 7, 30)
  corpus = facts.build_corpus(world)
  tools = local.LocalTools(corpus, search.SearchIndex(corpus))
  wide = facts.build_tasks(world, 'train', 'wide', 8, max_rows=8, max_columns=3)
  deep = facts.build_tasks(world, 'train', 'deep', 4)
  scores = [run(t, tools, expert_lib.FLAWLESS)[0][0] for t in wide + deep]
  assert np.mean([s.parts['item_f1'] for s in scores[:8]]) > 0.9
  assert np.mean([s.parts['exact_match'] for s in scores[8:]]) > 0.9


def test_a_question_it_cannot_read_is_an_error():
  expert = expert_lib.Expert()
  with pytest.raises(ValueError, match='cannot read the question'):
    expert.respond([('system', ''), ('user', 'Who are you?')], (0, 0))
