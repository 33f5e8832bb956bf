"""Drives many agents over their engines: continuous batching, tools in threads.

In come agents (generators) and the machines that serve them; out goes what
each agent returned, in the order in which they were given. The scheduler is
synchronous and knows neither prompts nor limits: it hands a request to the
engine of its role, to a thread or to child agents, and the answer back to the
agent. While some agents decode, the tools of others run, and an engine may
decode on while agents get their answers; while all wait for tools, nothing
spins. Results are collected by place, never by time, so timing changes nothing
that an agent sees, unless a deadline passes.
"""

import concurrent.futures
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wideseek_jax import types
from wideseek_jax.agents import requests, tool_calls, tool_threads


@dataclasses.dataclass(eq=False)
class _Node:
  """A running agent.

  Attributes:
    generator: the agent.
    parent: the agent that waits for this one, None at the root.
    place: where its result goes among its siblings'.
    engine: who samples its turns, None before its first turn.
    sequence: its handle there.
    deadline: when what it asked for is cut; None for never.
    results: by place, the answers that it waits for.
    missing: how many of them are still to come.
  """

  generator: requests.Agent
  parent: '_Node | None'
  place: int
  engine: types.Engine | None = None
  sequence: int = -1
  deadline: float | None = None
  results: list[Any] = dataclasses.field(default_factory=list)
  missing: int = 0


@dataclasses.dataclass(frozen=True)
class Options:
  """How agents are driven.

  Attributes:
    max_open: root agents in flight at a time; 0 for all.
    tool_threads: tool calls in flight at a time.
    tool_seconds: time of a tool call, after which it has failed; 0 for no
      limit.
    overlap_tools: decode while tools run. If not, each step waits for all
      tools first: batches, and so the last bits of log-probs, are then the
      same at every run.
    clock: seconds from some moment; what deadlines are on.
  """

  max_open: int = 0
  tool_threads: int = 16
  tool_seconds: float = 0.0
  overlap_tools: bool = True
  clock: Callable[[], float] = time.monotonic


def run(
  agents: Iterable[requests.Agent],
  engines: Mapping[types.Role, types.Engine],
  tools: types.Tools,
  options: Options = Options(),
  *,
  on_result: Callable[[int, tuple[types.Trajectory, ...]], None] | None = None,
) -> list[tuple[types.Trajectory, ...]]:
  """Runs agents to their end.

  Args:
    agents: the root agents; each is started when there is room for it.
    engines: who decodes the turns of a role; roles may share an engine.
    tools: called from threads.
    options: see there.
    on_result: called with (place, result) of each root agent as it ends.

  Returns:
    What each root agent returned, in order.

  Raises:
    Whatever an engine or an agent raises. A tool's exception goes to the agent
    that called it, unless it is `types.JudgeUnavailable` or no `Exception`.
  """
  return _Run(engines, tools, options, on_result).run(agents)


class _Run:
  """The state of one `run`."""

  def __init__(self, engines, tools, options, on_result):
    self._engines = engines
    self._tools = tools
    self._options = options
    self._on_result = on_result
    self._threads = tool_threads.ToolThreads(
      options.tool_threads, options.clock
    )
    self._live: dict[_Node, None] = {}  # In order of creation.
    # By engine, those that wait for it: sequence -> agent.
    self._decoding: dict[types.Engine, dict[int, _Node]] = {
      engine: {} for engine in engines.values()
    }
    self._futures: dict[concurrent.futures.Future, tuple[_Node, int]] = {}
    self._late: set[concurrent.futures.Future] = set()
    self._results: dict[int, Any] = {}
    self._open = 0

  def run(self, agents):
    roots = enumerate(agents)
    overlap = self._options.overlap_tools
    try:
      self._refill(roots)
      while self._is_decoding or self._futures:
        if overlap or not self._futures:
          self._decode()
        # Without overlap, what is collected must not depend on the clock.
        if self._futures and not (overlap and self._is_decoding):
          self._wait()
        self._give_up_late()
        self._collect()
        self._refill(roots)
    finally:
      for future in self._futures:
        future.cancel()
      # Empty unless something was raised.
      for node in self._live:
        node.generator.close()
        if node.engine is not None:
          node.engine.close(node.sequence)
    return [self._results[i] for i in range(len(self._results))]

  @property
  def _is_decoding(self) -> bool:
    return any(self._decoding.values())

  def _refill(self, roots):
    most = self._options.max_open
    while not most or self._open < most:
      place, generator = next(roots, (-1, None))
      if generator is None:
        return
      self._open += 1
      self._start(_Node(generator, None, place))

  def _start(self, node: _Node):
    self._live[node] = None
    self._advance(node, None)

  def _advance(self, node: _Node, answer: Any):
    """Gives an agent its answer and sees to its next request."""
    try:
      request = node.generator.send(answer)
    except StopIteration as stop:
      self._end(node, stop.value)
      return
    if isinstance(request, requests.Generate):
      if node.engine is None:
        node.engine = self._engines[request.role]
        node.sequence = node.engine.open()
      node.deadline = request.deadline
      self._decoding[node.engine][node.sequence] = node
      node.engine.submit(
        node.sequence, request.token_ids, request.sampling, request.key
      )
      return
    is_tools = isinstance(request, requests.CallTools)
    node.deadline = request.deadline if is_tools else None
    parts = request.calls if is_tools else request.agents
    node.results, node.missing = [None] * len(parts), len(parts)
    for place, part in enumerate(parts):
      if is_tools:
        future = self._threads.submit(
          functools.partial(_call, self._tools, part)
        )
        self._futures[future] = (node, place)
      else:
        self._start(_Node(part, node, place))

  def _end(self, node: _Node, result: Any):
    del self._live[node]
    if node.engine is not None:
      node.engine.close(node.sequence)
    if node.parent is not None:
      self._deliver(node.parent, node.place, result)
      return
    self._open -= 1
    self._results[node.place] = result
    if self._on_result is not None:
      self._on_result(node.place, result)

  def _decode(self):
    """One step of every engine that somebody waits for."""
    for engine, waiting in self._decoding.items():
      timed = [n for n in waiting.values() if n.deadline is not None]
      now = self._options.clock() if timed else 0.0
      for node in timed:
        if now >= node.deadline:
          engine.cut(node.sequence)
          node.deadline = None
      if waiting:
        for sequence, generation in engine.step():
          self._advance(waiting.pop(sequence), generation)

  def _wait(self):
    """Waits for a tool, or for all if nothing may depend on the clock."""
    while True:
      self._give_up_late()
      running = [
        future
        for future in self._futures
        if future not in self._late and not future.done()
      ]
      some = len(running) < len(self._futures)
      if not running or (self._options.overlap_tools and some):
        return
      dues = [due for f in running if (due := self._due(f)) is not None]
      timeout = min(dues) - self._options.clock() if dues else None
      concurrent.futures.wait(
        running, timeout, concurrent.futures.FIRST_COMPLETED
      )

  def _give_up_late(self):
    """Gives up the tools whose time is over."""
    for future in self._futures:
      due = self._due(future)
      if due is None or future.done() or self._options.clock() < due:
        continue
      self._threads.give_up(future)
      self._late.add(future)

  def _due(self, future: concurrent.futures.Future) -> float | None:
    """When a call is late: its own time since it began, or its agent's."""
    dues = []
    if self._options.tool_seconds:
      began = self._threads.started(future)
      if began is not None:
        dues.append(began + self._options.tool_seconds)
    deadline = self._futures[future][0].deadline
    if deadline is not None:
      dues.append(deadline)
    return min(dues, default=None)

  def _collect(self):
    """Takes what the tools have finished, in the order of submission."""
    for future in list(self._futures):
      if future in self._late:
        self._late.remove(future)
        result = TimeoutError('the tool did not answer in time')
      elif not future.done():
        continue
      elif error := future.exception():
        is_fatal = isinstance(error, types.JudgeUnavailable)
        if is_fatal or not isinstance(error, Exception):
          raise error
        result = error
      else:
        result = future.result()
      self._deliver(*self._futures.pop(future), result)

  def _deliver(self, node: _Node, place: int, result: Any):
    node.results[place] = result
    node.missing -= 1
    if node.missing == 0:
      self._advance(node, node.results)


def _call(
  tools: types.Tools, call: tool_calls.Search | tool_calls.Access
) -> Any:
  if isinstance(call, tool_calls.Search):
    return tools.search(call.query, call.count)
  return tools.access(call.url, call.info_to_extract)
