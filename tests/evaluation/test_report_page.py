"""The page as a file: what is in it, and what cannot get out of its data."""

import base64
import hashlib
import html.parser
import json

import pytest

from tests.agents import helpers
from tests.experiments import helpers as command
from wideseek_jax import files, testing, types
from wideseek_jax.evaluation import report_page, rollout_records

HOSTILE = (
  '</script><script>window.hacked=1</script><img src=x onerror=hacked=1> '
  '<!-- <script> \x1b[2J\x1b]0;owned\x07 \u202edesrever\u202c \u2028 \x85 \x00 '
  '&lt;b&gt; {{title}} $script ]]> \\u003c \ufeff\u200b'
)


def rollout(text, index=0, failures=()):
  """A lead with a fan-out of two subagents, one of which failed."""
  call = '<tool_call>\n' + json.dumps(
    {
      'name': 'create_sub_agents',
      'arguments': {'sub_agents': [{'prompt': text}] * 2},
    }
  )
  turns = [
    types.Turn(
      *(0, 4, 'stop', f'<think>{text}</think>{call}\n</tool_call>'),
      tool_names=('create_sub_agents',) * 2,
      tool_text=text,
    ),
    types.Turn(5, 9, 'stop', text),
  ]
  answer = (
    f'{text.replace("|", "")}\n```markdown\n| country | capital |\n|---|---|\n'
    '| Norland | Nora |\n| Sorland | <b>Oslo</b> |\n| Eastland | Este |\n```'
  )
  return types.Rollout(
    'countries',
    index,
    (
      helpers.trajectory(answer, failures, turns, agent=0),
      helpers.trajectory(text, (), [types.Turn(0, 3, 'stop', text)], agent=1),
      helpers.trajectory('', ('context_failed',), agent=2),
    ),
  )


def workdir(folder, text=HOSTILE, steps=1):
  """A run of `steps` steps of one group, and an evaluation of one rollout."""
  files.write_jsonl(
    folder / 'run/metrics.jsonl',
    [
      {'step': i, 'rollout/reward': i / 10, f'x/{text}': None}
      | ({'valid/reward': 0.5} if i % 4 == 3 else {})
      for i in range(12)
    ],
  )
  scores = [
    types.Score(
      reward, {'item_f1': reward, 'success': 0.0, 'format_ok': 1.0, text: 0.0}
    )
    for reward in (0.5, 0.0)
  ]
  group = [rollout(text), rollout(text, 1, ('max_turn_limit_failed',))]
  for step in range(steps):
    files.write_jsonl(
      folder / f'run/rollouts/train-{step:06d}.jsonl',
      rollout_records.of_groups(
        [testing.COUNTRIES], [group], [scores],
        step=step, advantages=[[0.7, -0.7]],
      ),
    )  # fmt: skip
  files.write_jsonl(
    folder / 'rollouts/before.jsonl',
    rollout_records.of_groups([testing.COUNTRIES], [group[:1]], [scores[:1]]),
  )
  return folder


class Page(html.parser.HTMLParser):
  """What a browser makes of the file, as far as scripts go."""

  def __init__(self, text):
    super().__init__(convert_charrefs=True)
    self.data, self.scripts, self.tags, self.policy = {}, [], [], ''
    self._script = None
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.append((tag, tuple(attrs)))
    if attrs.get('http-equiv') == 'Content-Security-Policy':
      self.policy = attrs['content']
    self._script = attrs if tag == 'script' else None

  def handle_data(self, text):
    if self._script is None:
      return
    if self._script.get('type') == 'application/json':
      self.data[self._script['id']] = json.loads(text)
    else:
      self.scripts.append(text)

  def handle_endtag(self, tag):
    self._script = None


@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
  folder = workdir(tmp_path_factory.mktemp('hostile'))
  result = report_page.write(folder, folder / 'report.html')
  assert result == (3, [])
  return (folder / 'report.html').read_text('utf-8')


def test_hostile_texts_stay_data(hostile):
  page = Page(hostile)
  (script,) = page.scripts
  assert 'hacked' not in script
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"script-src 'sha256-{digest}'" in page.policy
  assert "default-src 'none'" in page.policy
  # No other element than the page's own, and nothing that acts or loads.
  assert {tag for tag, _ in page.tags} == {
    *('html', 'head', 'meta', 'title', 'style', 'body', 'header', 'h1', 'nav'),
    *('span', 'button', 'main', 'dialog', 'noscript', 'p', 'script'),
  }
  names = {name for _, attrs in page.tags for name in attrs}
  assert not names & {'src', 'href', 'style'}
  assert not any(name.startswith('on') for name in names)
  # A terminal or an editor that shows the file obeys nothing of it.
  assert all(c.isprintable() or c in '\n\t' for c in hostile)


def test_every_text_comes_back(hostile):
  data = Page(hostile).data
  first = data['r0']['agents'][0]['turns']
  assert first[1]['text'] == first[0]['tool_text'] == HOSTILE
  assert HOSTILE in data['r0']['parts']


def test_the_index_tells_what_there_is(hostile):
  data = Page(hostile).data
  index = data['index']
  assert index['sources'] == ['before', 'run/train']
  rows = index['rollouts']
  assert [(r['reward'], r['advantage']) for r in rows] == [
    *((0.5, None), (0.5, 0.7), (0.0, -0.7)),
  ]
  assert rows[2]['failures'] == ['context_failed', 'max_turn_limit_failed']
  assert [r['agents'] for r in rows] == [3, 3, 3]
  (task,) = index['tasks']
  assert task['rows'] == [['Norland', 'Nora'], ['Sorland', 'Sora']]
  assert data['r1']['lines'] == [
    [0, ['Norland', 'Nora'], 'rr'],
    [1, ['Sorland', '<b>Oslo</b>'], 'rw'],
    [-1, ['Eastland', 'Este'], 'xx'],
  ]
  # The lead failed: what it wrote does not count.
  assert [line[2] for line in data['r2']['lines']] == ['mm', 'mm']
  # Of good form: the lead and subagent 1 share the rollout's half.
  assert [a['weight'] for a in data['r1']['agents']] == [0.25, 0.25, 0.0]
  (run,) = index['runs']
  assert run['name'] == 'run' and run['series']['step'] == list(range(12))
  (scored,) = index['scores']
  assert (scored['source'], scored['means']['item_f1']['mean']) == (
    'before',
    0.5,
  )


def test_a_limit_takes_whole_groups_at_even_distances(tmp_path):
  workdir(tmp_path, 'text', steps=8)
  count, _ = report_page.write(tmp_path, tmp_path / 'r.html', limit=9)
  index = Page((tmp_path / 'r.html').read_text()).data['index']
  # 17 rollouts in 9 groups: 9 · 9 // 17 = 4 groups, those at 0, 2, 4 and 6: the
  # evaluation and steps 1, 3 and 5.
  assert (count, index['total']) == (7, 17)
  steps = [r['step'] for r in index['rollouts']]
  assert steps == [None, 1, 1, 3, 3, 5, 5]


def test_numbers_that_json_does_not_know(tmp_path):
  workdir(tmp_path, 'text')
  path = tmp_path / 'rollouts/before.jsonl'
  path.write_text(path.read_text().replace('"reward": 0.5', '"reward": NaN'))
  report_page.write(tmp_path, tmp_path / 'r.html')
  text = (tmp_path / 'r.html').read_text()
  assert Page(text).data['index']['rollouts'][0]['reward'] is None
  assert 'NaN' not in text[text.index('id="r0"') : text.index('id="r1"')]


def test_the_command_names_what_it_skips(tmp_path):
  workdir(tmp_path, 'text')
  path = tmp_path / 'rollouts/before.jsonl'
  record = json.loads(path.read_text())
  record['task']['unique_columns'] = ['nation']
  with path.open('a') as file:
    file.write(json.dumps(record | {'task_id': 'odd'}) + '\n{"task_id": "ha')
  done = command.run('report', f'--workdir={tmp_path}')
  assert done.returncode == 3, done.stderr
  assert 'before.jsonl:2: ' in done.stderr and 'nation' in done.stderr
  assert 'before.jsonl:3: ' in done.stderr
  assert '3 rollouts' in done.stdout
  problems = Page((tmp_path / 'report.html').read_text()).data['index'][
    'problems'
  ]
  assert len(problems) == 2


def test_an_empty_folder_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no metrics'):
    report_page.write(tmp_path, tmp_path / 'report.html')
  assert not list(tmp_path.iterdir())
