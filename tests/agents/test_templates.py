import re
import shutil

import pytest

from tests.agents import helpers
from wideseek_jax import types
from wideseek_jax.agents import rollout, scripted, templates

STYLES = ('compact', 'full')


@pytest.fixture
def folder(tmp_path):
  """A copy of the shipped prompts, to be spoiled."""
  return shutil.copytree(templates.PACKAGED, tmp_path / 'prompts')


def change(path, old, new):
  text = path.read_text(encoding='utf-8')
  assert old in text
  path.write_text(text.replace(old, new), encoding='utf-8')


@pytest.mark.parametrize('language', ['en', 'zh'])
@pytest.mark.parametrize('style', STYLES)
def test_shipped_templates_are_complete(language, style):
  assert templates.load('', language, style).texts


def test_languages_have_the_same_names_and_placeholders():
  for style in STYLES:
    english, chinese = (
      templates.load('', language, style).texts for language in ('en', 'zh')
    )
    assert english.keys() == chinese.keys()
    for name, text in english.items():
      found = set(re.findall(r'\{\w+\}', text))
      assert set(re.findall(r'\{\w+\}', chinese[name])) == found, name


def test_values_are_not_looked_at_again():
  words = templates.load('', 'en', 'compact')
  text = words.fill('chat.subtask', question='{subtask} {x}', subtask='s')
  assert text == 'Task: {subtask} {x}\nSubtask: s'


def test_a_users_folder_takes_their_place(folder):
  change(folder / 'en/compact/lead.txt', 'You are the lead', 'Thou art')
  change(folder / 'en/compact/texts.toml', 'Turn 1 of', 'First of')
  seen = []

  def respond(messages, key):
    seen.extend(messages)
    return 'Done.'

  rollout.rollout_group(
    scripted.ScriptedEngine(helpers.TOKENIZER, respond),
    helpers.TOKENIZER,
    helpers.Tools(),
    helpers.TASK,
    group_size=1,
    prompt_style='compact',
    prompts=str(folder),
  )
  assert seen[0][1].startswith('Thou art agent.')
  assert seen[1][1] == 'Which capitals?\nFirst of 10.'


@pytest.mark.parametrize(
  ('file', 'old', 'new', 'error'),
  [
    (
      *('en/full/lead.txt', '{answer}', '{anwser}'),
      'lead.txt: lacks the placeholder {answer}',
    ),
    (
      *('en/full/texts.toml', '{max_turns}', '{turns}'),
      "texts.toml: 'chat.first_turn' lacks the placeholder {max_turns}",
    ),
    (
      *('en/notices.toml', "no_page = 'There", "page = 'There"),
      "notices.toml: nothing reads the text 'page'",
    ),
    ('en/tools.toml', "query = '", "#'", "tools.toml: the text 'query' is mis"),
    (
      'en/tools.toml',
      "query = '",
      'query = 5 #',
      "the text 'query' is missing",
    ),
    ('en/tools.toml', "query = '", 'query = ', 'tools.toml: not TOML'),
  ],
)
def test_a_broken_template_is_named(folder, file, old, new, error):
  change(folder / file, old, new)
  with pytest.raises(ValueError, match=re.escape(error)):
    templates.load(str(folder), 'en', 'full')


def test_a_missing_file_is_named(folder):
  (folder / 'zh/full/single.txt').unlink()
  with pytest.raises(
    FileNotFoundError, match=r'zh/full/single.txt; start from'
  ):
    templates.load(str(folder), 'zh', 'full')
  (folder / 'en/full/lead.txt').write_bytes(b'\xff')
  with pytest.raises(ValueError, match=r'lead.txt: not UTF-8'):
    templates.load(str(folder), 'en', 'full')
  with pytest.raises(FileNotFoundError, match=r"no prompts for language 'fr'"):
    templates.load(str(folder), 'fr', 'full')


def test_a_language_without_prompts_is_refused_before_anything_runs():
  tasks = [
    types.Task(str(i), 'Q?', 'deep', answers=('a',), language=language)
    for i, language in enumerate(('en', 'fr'))
  ]
  asked = []

  def respond(messages, key):
    asked.append(key)
    return 'Done.'

  with pytest.raises(FileNotFoundError, match="language 'fr'"):
    rollout.rollout_groups(
      scripted.ScriptedEngine(helpers.TOKENIZER, respond),
      helpers.TOKENIZER,
      helpers.Tools(),
      tasks,
    )
  assert not asked
  with pytest.raises(ValueError, match=r'prompts .* is no folder'):
    rollout.RolloutConfig(prompts='/no/such')
