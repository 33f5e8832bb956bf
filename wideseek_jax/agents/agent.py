"""One agent, whatever its role: a generator that yields what it needs.

In comes a role, a question and, for each request that the agent yields, the
answer to it; out goes the agent's `types.Trajectory`, followed by those of the
subagents that it created. The generator owns the order of events and nothing
else: it neither decodes nor calls tools, so a list of strings can drive it.

The trajectory is append-only. Whatever the agent reads or samples is appended
once as token ids, and never rendered or encoded again.
"""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from wideseek_jax import types
from wideseek_jax.agents import (
  prompts,
  rollout_config,
  subagents,
  tool_calls,
  tool_text,
)
from wideseek_jax.tasks import tables

_NOT_RUN = 'The turn limit was reached: the call was not run.'
_NO_ROOM = 'The tool message did not fit the context.'


@dataclasses.dataclass(frozen=True)
class Generate:
  """Asks for a turn; answered with a `types.Generation`.

  Attributes:
    token_ids: int32 [n], what is new since the last turn.
    sampling: how to sample.
    key: address of the turn: (seed, step, task, rollout, agent, turn).
  """

  token_ids: np.ndarray
  sampling: types.Sampling
  key: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class CallTools:
  """Asks for tool calls; answered with a list of one result a call.

  A result is what the tool returned, or the exception that it raised.
  """

  calls: tuple[tool_calls.Search | tool_calls.Access, ...]


@dataclasses.dataclass(frozen=True)
class CreateSubagents:
  """Asks to run agents; answered with the list of what each returned."""

  agents: tuple['Agent', ...]


Request = Generate | CallTools | CreateSubagents
Agent = Generator[Request, Any, tuple[types.Trajectory, ...]]
# (subtasks, the lead's turn) -> the agents that work on them.
Create = Callable[[Sequence[str], int], Sequence[Agent]]


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
) -> Agent:
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
  new_ids = prompts.first_turn_ids(tokenizer, spec, question, subtask)
  for index in range(spec.max_turns):
    room = config.max_context - len(record) - len(new_ids)
    if room < 1:
      failures = (types.CONTEXT_FAILED,)
      if turns:
        turns[-1] = dataclasses.replace(turns[-1], tool_text='', error=_NO_ROOM)
      break
    sampling = types.Sampling(
      temperature=config.temperature,
      top_k=config.top_k,
      top_p=config.top_p,
      max_tokens=min(config.max_turn_tokens, room),
      stop_ids=stops,
    )
    record.read(new_ids)
    generation = yield Generate(new_ids, sampling, (*address, agent, index))
    start = len(record)
    record.sampled(generation)
    sampled = generation.token_ids
    ended = generation.finish_reason == 'stop'
    text = tokenizer.decode(sampled[:-1] if ended else sampled)
    turn = types.Turn(start, len(record), generation.finish_reason, text)
    turns.append(turn)
    if not ended:
      failures = (types.CONTEXT_FAILED,)
      if len(sampled) >= config.runaway_tokens:
        failures += (types.TURN_REPEAT_FAILED,)
      break
    parsed = tool_calls.parse_turn(text, spec)
    if not parsed.calls and not parsed.error:
      answer = tables.after_thought(text).strip()
      break
    if index + 1 == spec.max_turns:
      failures = (types.TURN_LIMIT_FAILED,)
      turns[-1] = dataclasses.replace(turn, error=parsed.error or _NOT_RUN)
      break
    if parsed.error:
      turn = dataclasses.replace(
        turn, tool_text=parsed.error, error=parsed.error
      )
      if repairs == config.max_repairs:
        failures = (types.TOOL_CALL_FAILED,)
        turns[-1] = dataclasses.replace(turn, tool_text='')
        break
      repairs += 1
    elif isinstance(parsed.calls[0], tool_calls.Subtask):
      made = create([call.prompt for call in parsed.calls], index)
      finished = yield CreateSubagents(tuple(made))
      reports = [trajectories[0] for trajectories in finished]
      created.extend(t for trajectories in finished for t in trajectories)
      turn = dataclasses.replace(
        turn,
        tool_names=tuple(call.name for call in parsed.calls),
        tool_text=subagents.reports_message(
          tokenizer,
          reports,
          parsed.notice,
          style=spec.style,
          report_tokens=config.report_tokens,
        ),
      )
    else:
      turn = yield from _use_tools(turn, parsed, spec, config, known_urls)
    turns[-1] = turn
    new_ids = prompts.tool_turn_ids(
      tokenizer,
      spec,
      turn.tool_text,
      turn=index + 1,
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
  parsed: tool_calls.Parsed,
  spec: prompts.RoleSpec,
  config: rollout_config.RolloutConfig,
  known_urls: set[str],
) -> Generator[Request, Any, types.Turn]:
  """Runs the calls of a turn; returns the turn with their results.

  What may be opened is decided before anything runs, so it cannot depend on
  which of the turn's calls is the faster.
  """
  allowed = [
    not isinstance(call, tool_calls.Access) or call.url in known_urls
    for call in parsed.calls
  ]
  runs = tuple(
    call for call, ok in zip(parsed.calls, allowed, strict=True) if ok
  )
  answered = iter((yield CallTools(runs)) if runs else ())
  results = [next(answered) if ok else tool_text.URL_NOT_SEEN for ok in allowed]
  for result in results:
    if isinstance(result, list):
      known_urls.update(hit.url for hit in result)
  broken = [r for r in results if isinstance(r, Exception)]
  return dataclasses.replace(
    turn,
    # A refused page is no access: it must not earn what an access earns.
    tool_names=tuple(call.name for call in runs),
    tool_text=tool_text.tool_message(
      parsed.calls,
      results,
      parsed.notice,
      style=spec.style,
      page_chars=config.page_chars,
      snippet_chars=config.snippet_chars,
    ),
    error=tool_text.failure_text(broken[0]) if broken else '',
  )


class _Record:
  """The growing arrays of a trajectory."""

  def __init__(self):
    self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    self._length = 0

  def __len__(self) -> int:
    return self._length

  def read(self, token_ids: np.ndarray):
    n = len(token_ids)
    self._append(token_ids, np.zeros(n, bool), np.zeros(n, np.float32))

  def sampled(self, generation: types.Generation):
    n = len(generation.token_ids)
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
