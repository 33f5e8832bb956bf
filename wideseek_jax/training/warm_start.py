"""Fits a fresh policy to demonstrations, so that RL has something to reward.

In: worlds of facts, the scripted expert, a tokenizer. Out: parameters that
speak the chat format and copy what they read. Two lessons: first random
strings (`tasks.copying`), until looking things up works at all; then
trajectories of the imperfect expert in the real agents' loop, half of them in
synthetic worlds whose every name is a random string, so that nothing but
copying helps.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wideseek_jax import tokenizer as tokenizer_lib
from wideseek_jax import types
from wideseek_jax.agents import expert as expert_lib
from wideseek_jax.agents import rollout as rollout_lib
from wideseek_jax.agents import scripted
from wideseek_jax.tasks import copying, facts
from wideseek_jax.tools import local, search
from wideseek_jax.training import batching, train_state


def demonstrate(
  world: Any,
  tasks: Sequence[types.Task],
  tokenizer: tokenizer_lib.Tokenizer,
  expert: expert_lib.Expert,
  *,
  seed: int,
  rollout: Mapping[str, Any],
  progress: Callable[[int, int], None] | None = None,
) -> list[list[types.Rollout]]:
  """Rollouts of the expert on tasks of a world, in the policy's own format.

  Args:
    world: where the tasks come from; its corpus is what the tools serve.
    tasks: what to demonstrate.
    tokenizer: the policy's.
    expert: who acts.
    seed: of the expert's mistakes.
    rollout: arguments of `rollout_groups`, group_size among them.
    progress: called with (rollouts finished, rollouts in all).

  Returns:
    a group of rollouts a task.
  """
  corpus = facts.build_corpus(world)
  return rollout_lib.rollout_groups(
    scripted.ScriptedEngine(
      tokenizer, expert.respond, max_context=rollout['max_context']
    ),
    tokenizer,
    local.LocalTools(corpus, search.SearchIndex(corpus)),
    tasks,
    seed=seed,
    progress=progress,
    **rollout,
  )


def demonstration_set(
  world: Any,
  tokenizer: tokenizer_lib.Tokenizer,
  expert: expert_lib.Expert,
  *,
  seed: int,
  num_real: int,
  num_worlds: int,
  num_per_world: int,
  deep_share: float,
  types_per_world: int,
  entities_per_type: int,
  wide: Mapping[str, Any],
  rollout: Mapping[str, Any],
  pieces: Sequence[str] = (),
  progress: Callable[[int, int], None] | None = None,
) -> list[types.Trajectory]:
  """Trajectories of the expert: training tasks of the real and random worlds.

  Args:
    world: the real facts; only its train split is used.
    tokenizer: the policy's.
    expert: who acts.
    seed: of everything.
    num_real: tasks of the real world.
    num_worlds: synthetic worlds.
    num_per_world: tasks of each.
    deep_share: how many of the tasks are deep ones.
    types_per_world: entity types of a synthetic world.
    entities_per_type: entities of each.
    wide: arguments of `facts.build_tasks` for wide tasks.
    rollout: arguments of `rollout_groups`.
    pieces: what names of the synthetic worlds are made of, see
      `facts.build_synthetic_world`.
    progress: called with (worlds done, worlds in all).
  """
  trajectories = []
  rollout = dict(rollout, group_size=1)
  for index in range(num_worlds + 1):
    if index == 0:
      current, count = world, num_real
    else:
      current = facts.build_synthetic_world(
        seed + index, types_per_world, entities_per_type, pieces
      )
      count = num_per_world
    deep = round(count * deep_share)
    tasks = facts.build_tasks(
      current, 'train', 'wide', count - deep, seed=seed, **wide
    ) + facts.build_tasks(current, 'train', 'deep', deep, seed=seed)
    groups = demonstrate(
      current, tasks, tokenizer, expert, seed=seed + index, rollout=rollout
    )
    trajectories += [t for group in groups for t in group[0].trajectories]
    if progress is not None:
      progress(index + 1, num_worlds + 1)
  return trajectories


def abridge(
  trajectories: Sequence[types.Trajectory],
) -> list[types.Trajectory]:
  """The last turns alone: the question, the last tool message, the answer.

  Looking a value up on a page and writing it into a row is the hardest step,
  and a whole trajectory is mostly other things. Cut down to what the last turn
  needs, a batch holds several times as many such steps.

  Args:
    trajectories: of agents that ended by themselves; those of a single turn
      are left out.
  """
  abridged = []
  for trajectory in trajectories:
    if len(trajectory.turns) < 2 or trajectory.failures:
      continue
    first, before, last = (trajectory.turns[i] for i in (0, -2, -1))
    kept = np.r_[: first.start, before.stop : last.stop]
    mask = np.zeros(len(kept), bool)
    mask[-(last.stop - last.start) :] = True
    abridged.append(
      dataclasses.replace(
        trajectory,
        token_ids=trajectory.token_ids[kept],
        sample_mask=mask,
        behavior_logprobs=trajectory.behavior_logprobs[kept],
        turns=(),
      )
    )
  return abridged


def train_chat_tokenizer(
  world: Any,
  tasks: Sequence[types.Task],
  *,
  vocab_size: int,
  seed: int,
  rollout: Mapping[str, Any],
) -> tokenizer_lib.Tokenizer:
  """A tokenizer that knows the facts' pages and the chat format.

  The merges are learned from the pages and from a few conversations, which a
  tokenizer of bare bytes makes first.
  """
  raw = tokenizer_lib.train_tokenizer([], 256 + len(tokenizer_lib.MARKERS))
  # A byte each: every limit that counts tokens has to be wider.
  wide = dict(rollout, max_context=1 << 15, max_turn_tokens=1 << 12)
  wide = dict(wide, report_tokens=1 << 12, group_size=1)
  expert = expert_lib.Expert(max_subagents=wide['max_subagents'])
  groups = demonstrate(world, tasks, raw, expert, seed=seed, rollout=wide)
  chats = [
    text
    for group in groups
    for trajectory in group[0].trajectories
    for text in _between_markers(raw.decode(trajectory.token_ids))
  ]
  pages = [page.contents for page in facts.build_corpus(world).pages]
  return tokenizer_lib.train_tokenizer([*pages, *chats], vocab_size)


def _between_markers(text: str) -> list[str]:
  """The pieces of a conversation, so that no merge spans a marker."""
  for marker in tokenizer_lib.MARKERS:
    text = text.replace(marker, '\0')
  return text.split('\0')


def word_pieces(tokenizer: tokenizer_lib.Tokenizer) -> list[str]:
  """The ids that are letters alone, as text without spaces; sorted, distinct.

  A policy with tied embeddings learns never to say an id that it was never
  asked for, though it could copy it. In worlds with names made of these, it is
  asked for every one of them.
  """
  texts = (tokenizer.decode([id]).strip() for id in range(tokenizer.vocab_size))
  return sorted({text for text in texts if text.isalpha()})


def copy_separators(
  tokenizer: tokenizer_lib.Tokenizer,
) -> tuple[copying.Separators, np.ndarray]:
  """The tokens between random strings, and those that strings are made of."""
  newline, colon, semicolon, bar = (
    tokenizer.encode_untrusted(text)[0] for text in ('\n', ':', ';', ' |')
  )
  separators = copying.Separators(newline, colon, semicolon, bar)
  kept = {tokenizer.special(marker) for marker in tokenizer_lib.MARKERS}
  kept |= {newline, colon, semicolon, bar}
  ids = np.setdiff1d(np.arange(tokenizer.vocab_size), list(kept))
  return separators, ids


def copy_batch(
  tokenizer: tokenizer_lib.Tokenizer,
  step: int,
  *,
  seed: int,
  size: int,
  batch: Mapping[str, Any],
  alike: bool = False,
) -> batching.Batch:
  """The packed batch of random strings that belongs to a step.

  Args:
    tokenizer: tells the ids.
    step: equal steps give equal batches.
    seed: of the run.
    size: trajectories.
    batch: arguments of `make_sft_batch`.
    alike: see `copying.copy_trajectory`.
  """
  rng = np.random.default_rng([seed, step])
  separators, ids = copy_separators(tokenizer)
  return batching.make_sft_batch(
    [copying.copy_trajectory(rng, ids, separators, alike) for _ in range(size)],
    **batch,
  )


def demonstration_batch(
  trajectories: Sequence[types.Trajectory],
  step: int,
  *,
  seed: int,
  size: int,
  batch: Mapping[str, Any],
) -> batching.Batch:
  """The packed batch of a step; every epoch is a fresh permutation."""
  steps_an_epoch = len(trajectories) // size
  epoch, index = divmod(step, steps_an_epoch)
  order = np.random.default_rng([seed, epoch]).permutation(len(trajectories))
  picked = order[index * size : (index + 1) * size]
  return batching.make_sft_batch([trajectories[i] for i in picked], **batch)


def fit(
  state: train_state.TrainState,
  update: Callable[..., tuple[Any, dict[str, Any]]],
  make_batch: Callable[[int], batching.Batch],
  num_steps: int,
  *,
  enough: float = math.inf,
  log: Callable[[int, dict[str, float]], None],
  log_every: int = 20,
  save: Callable[[train_state.TrainState, bool], None] = lambda *_: None,
  save_every: int = 200,
) -> train_state.TrainState:
  """Runs supervised updates until the lesson is learned, or long enough.

  Args:
    state: where to start; its step tells which batch comes next.
    update: the supervised step.
    make_batch: the batch of a step, built while the device is busy.
    num_steps: the step to stop at in any case.
    enough: stop at the first logged batch of at least this accuracy.
    log: takes (step, metrics) every `log_every` updates.
    log_every: see above.
    save: takes (state, whether this is the end) every `save_every` updates
      and at the end.
    save_every: see above.
  """
  start, clock = int(state.step), time.monotonic()
  batch = make_batch(start) if start < num_steps else None
  for step in range(start, num_steps):
    state, metrics = update(state, batch)
    done = step + 1
    if done < num_steps:
      batch = make_batch(done)
    ended = done == num_steps
    if done % log_every == 0 or ended:
      scalars = {name: float(value) for name, value in metrics.items()}
      log(done, scalars | {'seconds': time.monotonic() - clock})
      ended |= scalars['accuracy'] >= enough
    if done % save_every == 0 or ended:
      save(state, ended)
    if ended:
      break
  return state
