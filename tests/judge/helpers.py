"""Judges that need no model."""

import json


class Synonyms:
  """Reads the prompts as a judge does, and knows which texts mean the same.

  Args:
    groups: texts of one meaning each.

  Attributes:
    calls: the prompts of every call.
  """

  def __init__(self, *groups):
    self._groups = groups
    self.calls = []

  def __call__(self, prompts):
    self.calls.append(list(prompts))
    return [self._reply(asked(prompt)) for prompt in prompts]

  @property
  def prompts(self):
    return [prompt for call in self.calls for prompt in call]

  def _same(self, a, b):
    return any(a in group and b in group for group in self._groups)

  def _reply(self, data):
    if 'question' in data:
      right = any(self._same(data['answer'], gold) for gold in data['gold'])
      return json.dumps({'1': right})
    if 'pairs' in data:
      return json.dumps(
        {p['id']: self._same(p['answer'], p['gold']) for p in data['pairs']}
      )
    return json.dumps(
      {
        name['id']: next(
          (
            gold['id']
            for gold in data['gold']
            if self._same(name['name'], gold['name'])
          ),
          0,
        )
        for name in data['names']
      }
    )


def asked(prompt):
  """The data of a prompt."""
  (line,) = [li for li in prompt.split('\n') if li.startswith('{"')]
  return json.loads(line)
