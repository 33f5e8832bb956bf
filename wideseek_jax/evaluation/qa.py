"""Questions with a short answer: the seven sets and how answers are graded.

In come `test.jsonl` of a set as ASearcher-test-data releases it, and answers;
out go deep tasks, what is wrong with the other lines, and three grades an
answer: exact match, token F1 and a judge's verdict.
"""

import collections
import dataclasses
import pathlib
import re
import string
from collections.abc import Sequence

from wideseek_jax import files, types
from wideseek_jax.judge import rules
from wideseek_jax.tasks import judged, lines, released

# Set → its folder in the release; each holds a test.jsonl.
FOLDERS = {
  'nq': 'NQ_rand1000',
  'triviaqa': 'TriviaQA_rand1000',
  'popqa': 'PopQA_rand1000',
  '2wiki': '2WikiMultihopQA_rand1000',
  'hotpotqa': 'HotpotQA_rand1000',
  'bamboogle': 'Bamboogle',
  'musique': 'Musique_rand1000',
}

_ARTICLE = re.compile(r'\b(a|an|the)\b')
_NO_PUNCTUATION = str.maketrans('', '', string.punctuation)


@dataclasses.dataclass(frozen=True)
class Grade:
  """How right an answer is.

  Attributes:
    exact_match: 1.0 if it equals an accepted answer after `normalized`.
    f1: of its tokens and those of the closest accepted answer.
    judge: 1.0 if it means an accepted answer, else 0.0. The judge is asked only
      where neither `exact_match` nor `judge.rules` can tell.
    unread: 1.0 if the reply of the judge held no verdict (and judge is 0.0).
    asked: 1.0 if the judge was asked.
  """

  exact_match: float
  f1: float
  judge: float
  unread: float = 0.0
  asked: float = 0.0


def released_files(path: files.Path) -> dict[str, pathlib.Path]:
  """The test.jsonl of each set, by its name.

  Args:
    path: a folder that holds folders of FOLDERS, not necessarily all; or one
      test.jsonl, whose set has the name of its folder.

  Raises:
    FileNotFoundError: there is no set.
  """
  path = pathlib.Path(path)
  if path.is_file():
    names = {folder: name for name, folder in FOLDERS.items()}
    folder = path.absolute().parent.name
    return {names.get(folder, folder): path}
  found = {
    name: path / folder / 'test.jsonl' for name, folder in FOLDERS.items()
  }
  found = {name: file for name, file in found.items() if file.is_file()}
  if not found:
    raise FileNotFoundError(
      f'{path} is no file and holds none of {", ".join(FOLDERS.values())}'
    )
  return found


def read_questions(
  path: files.Path, name: str
) -> tuple[list[types.Task], list[str]]:
  """The questions of a set.

  Args:
    path: of lines with `question` and `answer` (a text or a list of texts; `gt`
      in some sets), with `aug_answer` maybe: further accepted texts.
    name: of the set, the first part of every task's id; the second is `id`, or
      else the line's number.

  Returns:
    (tasks in the order of the file, problems).

  Raises:
    OSError: the file cannot be read.
  """
  return lines.read(
    path,
    lambda record, number: released.deep_task(
      record, f'{name}/{record.get("id", number)}'
    ),
    key=lambda task: task.task_id,
  )


def grade(
  tasks: Sequence[types.Task],
  answers: Sequence[str | None],
  judge: types.Judge,
) -> list[Grade]:
  """Grades answers, asking for all verdicts at once.

  Args:
    tasks: one an answer.
    answers: short texts, such as the content of \\boxed{}; None for none.
    judge: decides what rules cannot, as it does for rewards.

  Raises:
    types.JudgeUnavailable: there is no judge.
  """
  pairs = list(zip(tasks, answers, strict=True))
  matches = [exact_match(answer, task.answers) for task, answer in pairs]
  found = judged.ask(
    judge,
    [
      # What is right anyway is no question.
      judged.judge_boxed(task.answers[0] if match else answer, task)
      for match, (task, answer) in zip(matches, pairs, strict=True)
    ],
  )
  return [
    Grade(
      match,
      f1(answer, task.answers),
      float(rules.same_as_any(one.boxed, task.answers)),
      float(one.undecided),
      float(one.asked),
    )
    for match, one, (task, answer) in zip(matches, found, pairs, strict=True)
  ]


def normalized(text: str) -> str:
  """Lower case without punctuation, articles and extra blanks (SQuAD's)."""
  text = _ARTICLE.sub(' ', text.lower().translate(_NO_PUNCTUATION))
  return ' '.join(text.split())


def exact_match(answer: str | None, accepted: Sequence[str]) -> float:
  """1.0 if the answer equals an accepted one after `normalized`."""
  if answer is None:
    return 0.0
  return float(normalized(answer) in map(normalized, accepted))


def f1(answer: str | None, accepted: Sequence[str]) -> float:
  """The best F1 of the answer's tokens, as a bag, with an accepted answer's.

  A yes, a no and an answer without tokens are right or wrong as a whole, as in
  HotpotQA's and SQuAD's own scripts.
  """
  if answer is None:
    return 0.0
  return max(_f1(normalized(answer), normalized(a)) for a in accepted)


def _f1(answer: str, accepted: str) -> float:
  a, b = (collections.Counter(text.split()) for text in (answer, accepted))
  if not a or not b or {answer, accepted} & {'yes', 'no'}:
    return float(answer == accepted)
  return 2 * (a & b).total() / (a.total() + b.total())
