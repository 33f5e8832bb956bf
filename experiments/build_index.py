"""Builds an index of pages: of their words, or of their meaning.

python -m experiments.build_index --corpus=pages.jsonl --out=runs/index
python -m experiments.build_index --corpus=pages.jsonl --dense \
  --config.tools.encoder.folder=e5-base-v2

Pages are JSON lines {"id", "url", "title", "contents"}; without --corpus they
are those of the facts. --dense fills the collection of config.tools.dense and
goes on with one that was begun; with --plan it says what that would take
instead, going by a sample of the corpus and the encoder's speed here.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Iterator

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import backends, build, progress, types
from wideseek_jax.models import bert
from wideseek_jax.tools import corpus, text_index

_CORPUS = flags.DEFINE_string('corpus', '', "JSON lines; '': the facts.")
_OUT = flags.DEFINE_string('out', '', 'New folder of a full-text index.')
_DENSE = flags.DEFINE_bool('dense', False, 'Index vectors in Qdrant.')
_PLAN = flags.DEFINE_bool('plan', False, 'Only say what --dense would take.')
_PASSAGES = flags.DEFINE_integer(
  'plan_passages', 0, 'For so many passages; 0: those of the corpus.'
)
_SAMPLE = 256


def main() -> None:
  if _DENSE.value == bool(_OUT.value):
    raise ValueError('say --out=FOLDER for a full-text index, or --dense')
  if not _DENSE.value:
    _build_text(pathlib.Path(_OUT.value))
  elif _PLAN.value:
    _plan()
  else:
    _build_dense()


def _pages(start: int = 0) -> Iterator[types.Page]:
  if _CORPUS.value:
    return corpus.iter_jsonl(_CORPUS.value, start)
  pages = build.facts_corpus().pages
  return itertools.islice(iter(pages), start, None)


def _count() -> int:
  if not _CORPUS.value:
    return len(build.facts_corpus().pages)
  with open(_CORPUS.value, 'rb') as file:
    return sum(1 for _ in file)


def _build_text(out: pathlib.Path) -> None:
  total = _count()
  start = time.perf_counter()
  with progress.Stage('index', total, 'pages') as stage:

    def watched() -> Iterator[types.Page]:
      for number, page in enumerate(_pages(), start=1):
        yield page
        stage.update(number)

    count = text_index.build(watched(), out)
  took = time.perf_counter() - start
  size = sum(f.stat().st_size for f in out.iterdir())
  start = time.perf_counter()
  text_index.TextIndex(str(out))
  opened = time.perf_counter() - start
  print(
    f'{out}: {count:,} pages in {took:.1f} s, {size / 1e6:.1f} MB, opens in '
    f'{1000 * opened:.0f} ms; search it with --config.tools.kind=text '
    f'--config.tools.text.folder={out}'
  )


def _build_dense() -> None:
  dense = backends.module('tools.dense')
  config = experiment_flags.config().tools
  encoder = bert.SentenceEncoder(**config.encoder)
  node = config.dense
  client = dense.open_client(node.url, node.api_key_env, node.seconds)
  with progress.Stage('vectors', _count(), 'passages') as stage:
    count = dense.build(
      client,
      node.collection,
      _pages,
      encoder.passages,
      encoder.width,
      on_batch=stage.update,
    )
  client.close()
  print(f'{node.collection} at {node.url} holds {count:,} passages')


def _plan() -> None:
  dense = backends.module('tools.dense')
  encoder = bert.SentenceEncoder(**experiment_flags.config().tools.encoder)
  sample = list(itertools.islice(_pages(), _SAMPLE))
  if not sample:
    raise ValueError('the corpus is empty')
  texts = [page.contents for page in sample]
  encoder.passages(texts)  # compiles
  start = time.perf_counter()
  encoder.passages(texts)
  seconds = (time.perf_counter() - start) / len(sample)
  size = sum(len(json.dumps(vars(page))) for page in sample) / len(sample)
  print(dense.plan(_PASSAGES.value or _count(), size, encoder.width, seconds))


if __name__ == '__main__':
  experiment_flags.run(main)
