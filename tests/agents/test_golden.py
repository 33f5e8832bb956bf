"""What agents read in style 'compact', English, to the byte.

The shipped policy was trained on these texts: whoever changes one has to train
it again. The golden file is the agents' histories, markers included.
"""

import pathlib

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import rollout, scripted

GOLDEN = pathlib.Path(__file__).parents[1] / 'data' / 'compact_rollouts.txt'
DEEP = types.Task('deep', 'Which one?', 'deep', answers=('a',))


class Tools(helpers.Tools):
  def search(self, query, count):
    if query == 'nothing':
      return []
    if query == 'broken':
      raise ConnectionError('no\nnetwork')
    return super().search(query, count)


def respond(messages, key):
  turn = sum(role == 'assistant' for role, _ in messages)
  if 'Which one?' in messages[1][1]:
    return 'Done.'
  script = {
    0: [helpers.fan_out('one', 'two', 'three', 'four'), helpers.ANSWER],
    1: [
      helpers.search('Paris', 'nothing', 'broken', 'fourth', count=3),
      helpers.access('facts/Paris/0', 'facts/Paris/2', 'facts/unseen'),
      helpers.fan_out('x'),
      '<think>thought</think>\n' + 'report ' * 9,
    ],
    2: [helpers.search('a')] * 4,
    3: ['<tool_call>{"name": }</tool_call>'] * 2,
    4: ['x' * 300],
  }
  return script[key[4]][turn]


def team(task, **options):
  engine = scripted.ScriptedEngine(helpers.TOKENIZER, respond)
  (made,) = rollout.rollout_group(
    engine, helpers.TOKENIZER, Tools(), task, group_size=1, **options
  )
  return made


def single_respond(messages, key):
  turn = sum(role == 'assistant' for role, _ in messages)
  call = helpers.call('search', query='a') + helpers.call('access', url='b')
  return [call, 'Done.'][turn]


def single(task):
  engine = scripted.ScriptedEngine(helpers.TOKENIZER, single_respond)
  (made,) = rollout.rollout_group(
    engine,
    helpers.TOKENIZER,
    Tools(),
    task,
    group_size=1,
    workflow='single',
    prompt_style='compact',
  )
  return made


def histories():
  options = {
    'prompt_style': 'compact',
    'max_lead_turns': 4,
    'max_subagent_turns': 4,
    'max_subagents': 4,
    'max_tool_calls': 3,
    'max_turn_tokens': 240,
    'report_tokens': 60,
    'search_count': 2,
    'page_chars': 30,
    'snippet_chars': 8,
    'partial_reports': False,
  }
  rollouts = [team(helpers.TASK, **options), team(DEEP, **options)]
  rollouts += [single(helpers.TASK), single(DEEP)]
  return '\n======\n'.join(
    helpers.TOKENIZER.decode(t.token_ids)
    for made in rollouts
    for t in made.trajectories
  )


def test_compact_texts_are_those_that_the_policy_was_trained_on():
  assert histories() == GOLDEN.read_text(encoding='utf-8')
