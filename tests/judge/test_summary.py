import pytest

from tests.judge import helpers
from wideseek_jax import testing, types
from wideseek_jax.judge import summary

TOOLS = testing.PageTools({'Peru': 'Lima is its capital. ' * 3000, 'Empty': ''})


def tools(reply, **options):
  asked = []

  def judge(prompts):
    asked.extend(prompts)
    return [reply] * len(prompts)

  return summary.SummarisingTools(TOOLS, judge, **options), asked


def test_a_page_becomes_a_report_on_what_is_wanted():
  made, asked = tools('<think>Where?</think>\n- capital: Lima\n')
  page = made.access('facts/0', 'the capital')
  assert page == types.Page('facts/0', 'Peru', '- capital: Lima')
  (prompt,) = asked
  data = helpers.asked(prompt)
  assert data['wanted'] == 'the capital' and data['page']['title'] == 'Peru'
  # 25,000 characters of the page and a mark that there is more.
  assert len(data['page']['contents']) <= 25_001
  assert 'Read the web page' in prompt
  assert made.search('Peru', 3) == TOOLS.search('Peru', 3)


def test_a_chinese_request_is_asked_in_chinese():
  made, asked = tools('利马')
  made.access('facts/0', '秘鲁的首都')
  assert '请阅读' in asked[0]


def test_reports_are_cut():
  made, _ = tools('x' * 10**6, max_chars=50)
  assert made.access('facts/0', 'all').contents == 'x' * 50


@pytest.mark.parametrize(
  'reply', ['', '  \n', '<think>no end', '<think></think>']
)
def test_without_a_report_the_page_stays(reply):
  made, _ = tools(reply)
  assert made.access('facts/0', 'the capital') == TOOLS.access('facts/0')


def test_nobody_is_asked_about_no_page_or_for_nothing():
  made, asked = tools('x')
  assert made.access('facts/9', 'the capital') is None
  assert made.access('facts/0') == TOOLS.access('facts/0')
  assert not asked


def test_a_dead_judge_is_no_failed_tool():
  def dead(prompts):
    raise types.JudgeUnavailable('gone')

  made = summary.SummarisingTools(TOOLS, dead)
  with pytest.raises(types.JudgeUnavailable):
    made.access('facts/0', 'the capital')
