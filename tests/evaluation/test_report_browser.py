"""The page in a browser: it draws, it obeys the keys, and hostile text does not
act. Needs Chromium (Debian's package chromium is enough)."""

import pytest

from tests.evaluation import chromium, test_report_page
from wideseek_jax.evaluation import report_page

pytestmark = pytest.mark.skipif(
  chromium.PATH is None, reason='there is no Chromium on this machine'
)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  folder = test_report_page.workdir(
    tmp_path_factory.mktemp('browser'), steps=20
  )
  report_page.write(folder, folder / 'report.html')
  with chromium.page(folder / 'profile') as page:
    page.size(1200, 800)
    page.open((folder / 'report.html').as_uri())
    yield page
  assert page.errors == []


def chosen(page):
  return page.run("document.querySelector('[aria-selected=true].row')?.hash")


def test_it_shows_the_first_rollout(page):
  assert chosen(page) == '#rollouts/0'
  text = page.run("document.querySelector('.detail').innerText")
  assert 'List every country with area North' in text
  # Two subagents beneath the first turn, side by side.
  boxes = page.run(
    "[...document.querySelectorAll('.turn:first-child > .fan-out > .subagent')]"
    '.map((n) => [n.getBoundingClientRect().x, n.getBoundingClientRect().y])'
  )
  (x0, y0), (x1, y1) = boxes
  assert x0 < x1 and y0 == y1
  cells = page.run(
    "[...document.querySelectorAll('.compared td')].map((n) => n.className)"
  )
  assert cells.count('cell right') == 3 and cells.count('cell wrong') == 1
  assert cells.count('cell extra') == 2


def test_hostile_text_is_inert_and_seen(page):
  page.run("document.querySelectorAll('details').forEach((n) => n.open = true)")
  page.settle()
  assert page.run('typeof hacked') == 'undefined'
  detail = "document.querySelector('.detail')"
  assert (
    page.run(f"{detail}.querySelectorAll('script, img, b > b').length") == 0
  )
  text = page.run(f'{detail}.innerText')
  assert '<img src=x onerror=hacked=1>' in text and '<b>Oslo</b>' in text
  assert 'ESC[2J' in text and 'U+202Edesrever' in text and 'U+200B' in text
  assert not set(text) & set('\x1b\u202e\u2028\u200b\x85\x00')


def test_keys_move_the_choice_and_filters_narrow_it(page):
  page.run("location.hash = 'rollouts/0'")
  page.press('j', 'j')
  assert chosen(page) == '#rollouts/2'
  page.press('k')
  assert chosen(page) == '#rollouts/1'
  page.press('1')
  assert page.run("document.querySelectorAll('figure svg path').length") > 0
  page.press('3')
  assert chosen(page) == '#rollouts/1'
  # 41 rollouts; those without a reward are every other of the training.
  status = "document.querySelector('.status').textContent"
  assert page.run(status) == '41 rollouts'
  page.run("document.querySelector('.rewards input').value = 0.4")
  page.run("document.querySelector('.rewards input').oninput()")
  assert page.run(status) == '21 of 41'
  page.press('j')
  assert chosen(page) == '#rollouts/3'


def test_only_what_is_seen_is_drawn(page):
  drawn = page.run("document.querySelectorAll('.row').length")
  assert 0 < drawn < 21
  assert page.run("document.querySelector('.space').clientHeight") == 21 * 62
