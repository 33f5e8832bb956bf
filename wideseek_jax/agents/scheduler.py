"""Drives many agents over one engine: continuous batching, tools in threads.

In come agents (generators) and the machines that serve them; out goes what
each agent returned, in the order in which they were given. The scheduler is
synchronous and knows neither prompts nor roles: it hands a request to the
engine, to a thread or to child agents, and the answer back to the agent. While
some agents decode, the tools of others run, and an engine may decode on while
agents get their answers; while all wait for tools, nothing spins. Results are
collected by place, never by time, so timing changes nothing that an agent sees.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from wideseek_jax import types
from wideseek_jax.agents import agent, tool_calls


@dataclasses.dataclass(eq=False)
class _Node:
  """A running agent.

  Attributes:
    generator: the agent.
    parent: the agent that waits for this one, None at the root.
    place: where its result goes among its siblings'.
    sequence: its handle in the engine, None before its first turn.
    results: by place, the answers that it waits for.
    missing: how many of them are still to come.
  """

  generator: agent.Agent
  parent: '_Node | None'
  place: int
  sequence: int | None = None
  results: list[Any] = dataclasses.field(default_factory=list)
  missing: int = 0


def run(
  agents: Iterable[agent.Agent],
  engine: types.Engine,
  tools: types.Tools,
  executor: concurrent.futures.Executor,
  *,
  max_open: int = 0,
  overlap_tools: bool = True,
  on_result: Callable[[int], None] | None = None,
) -> list[tuple[types.Trajectory, ...]]:
  """Runs agents to their end.

  Args:
    agents: the root agents; each is started when there is room for it.
    engine: decodes.
    tools: called from the executor's threads.
    executor: runs the tool calls.
    max_open: root agents in flight at a time; 0 for all.
    overlap_tools: decode while tools run. If not, each step waits for all
      tools first: batches, and so the last bits of log-probs, are then the
      same at every run.
    on_result: called with the number of root agents that have ended, each time
      that one ends.

  Returns:
    What each root agent returned, in order.

  Raises:
    Whatever the engine or an agent raises. A tool's exception goes to the
    agent that called it.
  """
  state = _Run(engine, tools, executor, max_open, overlap_tools, on_result)
  return state.run(agents)


class _Run:
  """The state of one `run`."""

  def __init__(
    self, engine, tools, executor, max_open, overlap_tools, on_result
  ):
    self._engine = engine
    self._tools = tools
    self._executor = executor
    self._max_open = max_open
    self._overlap_tools = overlap_tools
    self._on_result = on_result
    self._live: dict[_Node, None] = {}  # In order of creation.
    self._decoding: dict[int, _Node] = {}
    self._futures: dict[concurrent.futures.Future, tuple[_Node, int]] = {}
    self._results: dict[int, Any] = {}
    self._open = 0

  def run(self, agents):
    roots = enumerate(agents)
    try:
      self._refill(roots)
      while self._decoding or self._futures:
        if self._decoding and (self._overlap_tools or not self._futures):
          for sequence, generation in self._engine.step():
            self._advance(self._decoding.pop(sequence), generation)
        # Without overlap, what is collected must not depend on the clock.
        if self._futures and not (self._overlap_tools and self._decoding):
          concurrent.futures.wait(
            self._futures,
            return_when=concurrent.futures.FIRST_COMPLETED
            if self._overlap_tools
            else concurrent.futures.ALL_COMPLETED,
          )
        self._collect()
        self._refill(roots)
    finally:
      for future in self._futures:
        future.cancel()
      # Empty unless something was raised.
      for node in self._live:
        node.generator.close()
        if node.sequence is not None:
          self._engine.close(node.sequence)
    return [self._results[i] for i in range(len(self._results))]

  def _refill(self, roots):
    while not self._max_open or self._open < self._max_open:
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
    if isinstance(request, agent.Generate):
      if node.sequence is None:
        node.sequence = self._engine.open()
      self._decoding[node.sequence] = node
      self._engine.submit(
        node.sequence, request.token_ids, request.sampling, request.key
      )
      return
    parts = (
      request.calls if isinstance(request, agent.CallTools) else request.agents
    )
    node.results, node.missing = [None] * len(parts), len(parts)
    for place, part in enumerate(parts):
      if isinstance(request, agent.CallTools):
        future = self._executor.submit(_call, self._tools, part)
        self._futures[future] = (node, place)
      else:
        self._start(_Node(part, node, place))

  def _end(self, node: _Node, result: Any):
    del self._live[node]
    if node.sequence is not None:
      self._engine.close(node.sequence)
    if node.parent is not None:
      self._deliver(node.parent, node.place, result)
      return
    self._open -= 1
    self._results[node.place] = result
    if self._on_result is not None:
      self._on_result(len(self._results))

  def _collect(self):
    """Takes what the tools have finished, in the order of submission."""
    for future in [future for future in self._futures if future.done()]:
      node, place = self._futures.pop(future)
      error = future.exception()
      if error is not None and not isinstance(error, Exception):
        raise error
      self._deliver(node, place, error or future.result())

  def _deliver(self, node: _Node, place: int, result: Any):
    node.results[place] = result
    node.missing -= 1
    if node.missing == 0:
      self._advance(node, node.results)


def _call(tools: types.Tools, call: tool_calls.Search | tool_calls.Access):
  if isinstance(call, tool_calls.Search):
    return tools.search(call.query, call.count)
  return tools.access(call.url)
