"""WideSeek-R1-4B on the seven sets of short questions.

  python -m experiments.evaluate --workdir=runs/qa-musique --samples=4 \\
    --config=experiments/configs/qa_eval.py \\
    --config.data.test_file=musique.jsonl --config.data.num_test=1000

NQ, TriviaQA, PopQA, 2WikiMultihopQA, HotpotQA and MuSiQue have 1,000 questions
each, Bamboogle 125. Weights and judge as in widesearch_eval.py.

PLAN

Score to expect (arXiv 2602.04634, its judge and corpus): average 59.0; NQ 56.1,
TriviaQA 78.5, PopQA 48.5, 2Wiki 75.0, HotpotQA 64.2, Bamboogle 61.8, MuSiQue
28.9. Nobody has run this yet.
"""

import ml_collections

from experiments.configs import laptop, widesearch_eval


def get_config(size: str = widesearch_eval.SLICE) -> ml_collections.ConfigDict:
  """The config of a slice, or 'runlocal'.

  Raises:
    ValueError: there is no such size.
  """
  if size == 'runlocal':
    return laptop.shrink(get_config())
  config = widesearch_eval.get_config(size).unlock()
  config.data.update(test_file='bamboogle.jsonl', num_test=125)
  return config.lock()
