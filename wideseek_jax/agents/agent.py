"""One agent, whatever its role: a generator that yields what it needs.

In comes a role, a question and, for each request that the agent yields, the
answer to it; out goes the agent's `types.Trajectory`, followed by those of the
subagents that it created. The generator owns the order of events and nothing
else: it neither decodes nor calls tools, so a list of strings can drive it.

The trajectory is append-only. Whatever the agent reads or samples is appended
once as token ids, and never rendered or encoded again.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import (
  limits,
  prompts,
  requests,
  rollout_config,
  subagents,
  tool_calls,
  tool_text,
)
from wideseek_jax.tasks import tables

_NOT_RUN = 'The last turn was used up: the call was not run.'
# Why what the tools answered was never read.
_UNREAD = {
  types.CONTEXT_FAILED: 'The tool message did not fit the context.',
  types.TOKEN_LIMIT_FAILED: 'No tokens were left for another turn.',
  types.TIME_LIMIT_FAILED: 'No time was left for another turn.',
}

# (subtasks, the lead's turn) -> the agents that work on them.
Create = Callable[[Sequence[str], int], Sequence[requests.Agent]]


def run_agent(
  spec: prompts.RoleSpec,
  tokenizer: prompts.Tokenizer,
  question: str,
  config: rollout_config.RolloutConfig,
  *,
  address: tuple[int, int, int, int],
  agent: int = 0,
  subtask: str = '',
  parent_turn: int = -1,
  known_urls: set[str] | None = None,
  create: Create | None = None,
  clock: limits.Clock = time.monotonic,
  tail: limits.Tail | None = None,
) -> requests.Agent:
  """Runs one agent to its end.

  Args:
    spec: its role.
    tokenizer: text to ids and back.
    question: the task's question.
    config: the limits of contexts, turns, reports and pages, and the sampling.
    address: (seed, step, task, rollout), the start of every turn's key.
    agent: its index in the rollout.
    subtask: what the lead asked it to do, '' for a lead or single agent.
    parent_turn: the lead's turn that created it.
    known_urls: pages that it may open; urls that its searches return are added
      to the set.
    create: makes subagents; a role with create_sub_agents needs it.
    clock: what its time is measured with.
    tail: of its group; None if that is never cut.

  Yields:
    Generate, CallTools, CreateSubagents.

  Returns:
    The agent's trajectory, then those of its subagents.
  """
  record = _Record()
  known_urls = set() if known_urls is None else known_urls
  created: list[types.Trajectory] = []
  turns: list[types.Turn] = []
  failures: tuple[str, ...] = ()
  answer = ''
  repairs = 0
  stops = prompts.stop_ids(tokenizer)
  budget = limits.Budget(spec, config, clock, tail)
  budget.begin_turn(0)
  new_ids = prompts.first_turn_ids(
    tokenizer, spec, question, subtask, max_turns=budget.max_turns
  )
  for index in itertools.count():
    room = config.max_context - len(record) - len(new_ids)
    met = types.CONTEXT_FAILED if room < 1 else budget.met(record.num_sampled)
    if met:
      failures = (met,)
      if turns:
        turns[-1] = dataclasses.replace(
          turns[-1], tool_text='', error=_UNREAD[met]
        )
      break
    sampling = types.Sampling(
      temperature=config.temperature,
      top_k=config.top_k,
      top_p=config.top_p,
      max_tokens=budget.tokens(
        record.num_sampled, min(config.max_turn_tokens, room)
      ),
      stop_ids=stops,
    )
    record.read(new_ids)
    generation = yield requests.Generate(
      spec.role, new_ids, sampling, (*address, agent, index), budget.deadline
    )
    start = len(record)
    record.sampled(generation)
    sampled = generation.token_ids
    ended = generation.finish_reason == 'stop'
    text = tokenizer.decode(sampled[:-1] if ended else sampled)
    turn = types.Turn(start, len(record), generation.finish_reason, text)
    turns.append(turn)
    if not ended:
      if generation.finish_reason != 'context':
        met = budget.met(record.num_sampled)
      failures = (met or types.CONTEXT_FAILED,)
      if len(sampled) >= config.runaway_tokens:
        failures += (types.TURN_REPEAT_FAILED,)
      break
    parsed = tool_calls.parse_turn(text, spec)
    if not parsed.calls and not parsed.error:
      answer = tables.after_thought(text).strip()
      break
    turn = turns[-1] = dataclasses.replace(
      turn, malformed=bool(parsed.error), error=parsed.error
    )
    if index + 1 == budget.max_turns:
      failures = (
        types.TAIL_CUT_FAILED if budget.was_cut else types.TURN_LIMIT_FAILED,
      )
      turns[-1] = dataclasses.replace(turn, error=parsed.error or _NOT_RUN)
      break
    if parsed.error and repairs == config.max_repairs:
      failures = (types.TOOL_CALL_FAILED,)
      break
    if parsed.error:
      repairs += 1
      parts = [parsed.error]
    else:
      turn, parts = yield from _use_tools(
        turn, parsed.calls, spec, config, known_urls, budget.deadline
      )
      reports, made = yield from _use_subagents(
        parsed.calls, index, tokenizer, spec, config, create
      )
      created += made
      parts += reports + ([parsed.notice] if parsed.notice else [])
    turn = turns[-1] = dataclasses.replace(
      turn, tool_text=spec.words.fill('results.separator').join(parts)
    )
    budget.begin_turn(index + 1)
    new_ids = prompts.tool_turn_ids(
      tokenizer,
      spec,
      turn.tool_text,
      turn=index + 1,
      max_turns=budget.max_turns,
      closed=sampled[-1] == stops[0],
    )
  own = types.Trajectory(
    agent=agent,
    role=spec.role,
    subtask=subtask,
    parent_turn=parent_turn,
    turns=tuple(turns),
    answer=answer,
    failures=failures,
    **record.arrays(),
  )
  return (own, *created)


def _use_tools(
  turn: types.Turn,
  calls: Sequence[tool_calls.Call],
  spec: prompts.RoleSpec,
  config: rollout_config.RolloutConfig,
  known_urls: set[str],
  deadline: float | None,
) -> Generator[requests.Request, Any, tuple[types.Turn, list[str]]]:
  """Runs the searches and accesses of a turn.

  What may be opened is decided before anything runs, so it cannot depend on
  which of the turn's calls is the faster.

  Returns:
    The turn with what was called, and the parts of the tool message.
  """
  names = [call.name for call in calls]
  calls = [call for call in calls if not isinstance(call, tool_calls.Subtask)]
  refused = [
    config.check_urls
    and isinstance(call, tool_calls.Access)
    and call.url not in known_urls
    for call in calls
  ]
  runs = tuple(call for call, no in zip(calls, refused, strict=True) if not no)
  answered = iter((yield requests.CallTools(runs, deadline)) if runs else ())
  results = [
    spec.words.fill('notices.url_not_seen')
    if no
    else tool_text.checked(call, next(answered))
    for call, no in zip(calls, refused, strict=True)
  ]
  for result in results:
    if isinstance(result, list):
      known_urls.update(hit.url for hit in result)
  broken = [r for r in results if isinstance(r, Exception)]
  turn = dataclasses.replace(
    turn,
    # A refused page is no access: it must not earn what an access earns.
    tool_names=tuple(call.name for call in runs) + tuple(names[len(calls) :]),
    failed_calls=len(broken),
    refused_calls=sum(refused),
    error=tool_text.failure_text(broken[0], spec.words) if broken else '',
  )
  return turn, tool_text.result_parts(
    calls,
    results,
    spec.words,
    page_chars=config.page_chars,
    snippet_chars=config.snippet_chars,
  )


def _use_subagents(
  calls: Sequence[tool_calls.Call],
  index: int,
  tokenizer: prompts.Tokenizer,
  spec: prompts.RoleSpec,
  config: rollout_config.RolloutConfig,
  create: Create | None,
) -> Generator[requests.Request, Any, tuple[list[str], list[types.Trajectory]]]:
  """Runs the subagents that a turn asks for.

  Returns:
    The parts of the tool message, and the trajectories.
  """
  subtasks = [c.prompt for c in calls if isinstance(c, tool_calls.Subtask)]
  if not subtasks:
    return [], []
  finished = yield requests.CreateSubagents(tuple(create(subtasks, index)))
  parts = subagents.report_parts(
    tokenizer,
    [trajectories[0] for trajectories in finished],
    spec.words,
    report_tokens=config.report_tokens,
    partial=config.partial_reports,
  )
  return parts, [t for trajectories in finished for t in trajectories]


class _Record:
  """The growing arrays of a trajectory."""

  def __init__(self):
    self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    self._length = 0
    self.num_sampled = 0

  def __len__(self) -> int:
    return self._length

  def read(self, token_ids: np.ndarray):
    n = len(token_ids)
    self._append(token_ids, np.zeros(n, bool), np.zeros(n, np.float32))

  def sampled(self, generation: types.Generation):
    n = len(generation.token_ids)
    self.num_sampled += n
    self._append(generation.token_ids, np.ones(n, bool), generation.logprobs)

  def _append(self, token_ids, mask, logprobs):
    self._pieces.append((token_ids, mask, logprobs))
    self._length += len(token_ids)

  def arrays(self) -> dict[str, np.ndarray]:
    empty = (np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0, np.float32))
    ids, masks, logprobs = zip(empty, *self._pieces, strict=True)
    return {
      'token_ids': np.concatenate(ids, dtype=np.int32),
      'sample_mask': np.concatenate(masks),
      'behavior_logprobs': np.concatenate(logprobs, dtype=np.float32),
    }
