"""What the engine did: counts and times, added up between two resets.

The engine tells a `Meter` of every call; `stats` turns the sums into the rates
and shares that a log or a benchmark shows.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Stats:
  """What the engine did since `reset_stats`.

  Device time runs from the call (or from the end of the one before it) until
  the host has seen the result. A host that comes late makes it longer: then
  `wait_seconds` is close to 0, the sign that the host is the slower one.

  Attributes:
    prefill_tokens: submitted tokens whose keys were computed, the recomputed
      ones included.
    decode_tokens: tokens sampled; each took one forward pass of its row.
    shared_tokens: submitted tokens whose keys were found, not computed.
    recomputed_tokens: tokens forwarded though the same tokens after the same
      beginning had been before: their pages were lost, or two sequences went
      the same way at the same time. Counted as pages fill up with what another
      held already. The last token of a shared prompt, which each sequence reads
      as it begins to sample, is thus counted only where it fills a page.
    recompute_ratio: forwarded tokens (prefill and decode) / distinct ones
      (those less the recomputed); 1 is the goal.
    preemptions: sequences that lost their pages to another.
    compile_count: compilations since the engine was made.
    prefill_seconds: device time of computing keys.
    decode_seconds: device time of sampling.
    host_seconds: time inside `step` in which it planned, called and collected.
    wait_seconds: time inside `step` in which it waited for the device.
    prefill_tokens_per_s: prefill_tokens / prefill_seconds, 0 without any.
    decode_tokens_per_s: decode_tokens / decode_seconds, 0 without any.
    row_occupancy: mean share of the engine's rows that sampled, over the
      decoding steps of the device.
    page_occupancy: mean share of the pages that sequences held, over chunks.
  """

  prefill_tokens: int = 0
  decode_tokens: int = 0
  shared_tokens: int = 0
  recomputed_tokens: int = 0
  recompute_ratio: float = 1.0
  preemptions: int = 0
  compile_count: int = 0
  prefill_seconds: float = 0.0
  decode_seconds: float = 0.0
  host_seconds: float = 0.0
  wait_seconds: float = 0.0
  prefill_tokens_per_s: float = 0.0
  decode_tokens_per_s: float = 0.0
  row_occupancy: float = 0.0
  page_occupancy: float = 0.0


@dataclasses.dataclass
class Meter:
  """The sums behind `Stats`; fields of the same name mean the same.

  Attributes:
    row_steps: rows × decoding steps of the device, idle rows included.
    page_chunks: pages × chunks, free pages included.
    held_page_chunks: the pages that sequences held, chunk by chunk.
  """

  prefill_tokens: int = 0
  decode_tokens: int = 0
  shared_tokens: int = 0
  recomputed_tokens: int = 0
  preemptions: int = 0
  prefill_seconds: float = 0.0
  decode_seconds: float = 0.0
  host_seconds: float = 0.0
  wait_seconds: float = 0.0
  row_steps: int = 0
  page_chunks: int = 0
  held_page_chunks: int = 0

  def reset(self) -> None:
    """Back to zero."""
    for field in dataclasses.fields(self):
      setattr(self, field.name, field.default)

  def stats(self, compile_count: int) -> Stats:
    """The sums so far, with what follows from them."""
    sums = dataclasses.asdict(self)
    row_steps = sums.pop('row_steps')
    page_chunks = sums.pop('page_chunks')
    held_page_chunks = sums.pop('held_page_chunks')
    forwarded = self.prefill_tokens + self.decode_tokens
    distinct = forwarded - self.recomputed_tokens
    return Stats(
      **sums,
      compile_count=compile_count,
      recompute_ratio=forwarded / distinct if distinct > 0 else 1.0,
      prefill_tokens_per_s=_ratio(self.prefill_tokens, self.prefill_seconds),
      decode_tokens_per_s=_ratio(self.decode_tokens, self.decode_seconds),
      row_occupancy=_ratio(self.decode_tokens, row_steps),
      page_occupancy=_ratio(held_page_chunks, page_chunks),
    )


def _ratio(part: float, whole: float) -> float:
  return part / whole if whole else 0.0
