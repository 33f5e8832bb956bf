"""How many bytes a compiled program sends between devices.

In: the text of a compiled program (`jax.stages.Compiled.as_text`), that of one
device. Out: bytes that a device sends while it runs once, by the kind of
collective. Loops count as often as they turn: XLA's own cost analysis counts
the body of a loop once.
"""

import collections
import dataclasses
import math
import re

# Bytes that each of n devices sends in a ring, per byte of the largest of what
# goes in and what comes out (arXiv 2211.05102, appendix A.1).
_SENT = {
  'all-gather': lambda n: (n - 1) / n,
  'reduce-scatter': lambda n: (n - 1) / n,
  'all-reduce': lambda n: 2 * (n - 1) / n,
  'all-to-all': lambda n: (n - 1) / n,
  'collective-permute': lambda n: 1.0,
}
_ITEM_BITS = {'pred': 8, 'c64': 64, 'c128': 128}

_COMPUTATION = re.compile(r'(?:ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(
  r'(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*)$'
)
_SHAPE = re.compile(r'([a-z]\w*)\[([\d,]*)\]')
_NAME = re.compile(r'%?([\w.-]+)')
_CALLED = re.compile(
  r'(?:calls|to_apply|branch_computations|(?:true|false)_computation)='
  r'(?:\{([^}]*)\}|%?([\w.-]+))'
)


@dataclasses.dataclass
class _Cost:
  """Bytes by kind; those of chains apart, until all of their links are seen."""

  sent: collections.Counter[str]
  chains: dict[str, tuple[str, float]]

  def total(self) -> collections.Counter[str]:
    total = self.sent.copy()
    for kind, sent in self.chains.values():
      total[kind] += sent
    return total


def sent_bytes(program: str, *, unknown_trips: int) -> dict[str, float]:
  """Bytes that a device sends in one run of a program, by kind.

  A conditional counts as its dearest branch.

  Args:
    program: optimised HLO.
    unknown_trips: how often a loop turns whose end the program does not say.

  Raises:
    ValueError: this is no HLO with an entry computation, or the group of a
      collective is not written in a known way.
  """
  computations, entry = _split(program)
  everyone = re.search(r'num_partitions=(\d+)', program)
  num_devices = int(everyone[1]) if everyone else 1
  costs: dict[str, _Cost] = {}

  def cost(name: str) -> _Cost:
    if name not in costs:
      costs[name] = compute(name)
    return costs[name]

  def compute(name: str) -> _Cost:
    sent, chains = collections.Counter(), {}
    for _, shape, operation, rest in computations.get(name, ()):
      kind = operation.removesuffix('-start')
      if kind in _SENT:
        if name.startswith('all-reduce-scatter'):  # A TPU's reduce-scatter.
          kind = 'reduce-scatter'
        found = _bytes(kind, operation, shape, rest, num_devices)
        # A collective that runs beside the computation is written once for its
        # start, for each fusion that it runs beside, and for its end.
        link = re.search(r'chain_id="(\d+)"', rest)
        if link:
          chains[link[1]] = (kind, found)
        else:
          sent[kind] += found
      elif operation == 'while':
        trips = _trips(rest, computations) or unknown_trips
        for kind, found in cost(_attribute('body', rest)).total().items():
          sent[kind] += trips * found
      elif operation == 'conditional':
        branches = [cost(called).total() for called in _called(rest)]
        sent += max(branches, key=lambda branch: branch.total())
      else:
        for called in _called(rest):
          sent += cost(called).sent
          chains |= cost(called).chains
    return _Cost(sent, chains)

  return dict(cost(entry).total())


def _split(program: str) -> tuple[dict[str, list[tuple[str, ...]]], str]:
  """The instructions of each computation, and the entry's name."""
  computations: dict[str, list[tuple[str, ...]]] = {}
  entry, current = '', None
  for line in map(str.strip, program.splitlines()):
    if line == '}':
      current = None
    elif current is None:
      head = _COMPUTATION.match(line)
      if head:
        current = computations.setdefault(head[1], [])
        entry = head[1] if line.startswith('ENTRY') else entry
    elif instruction := _INSTRUCTION.match(line):
      current.append(instruction.groups())
  if not entry:
    raise ValueError('this is no HLO: it has no entry computation')
  return computations, entry


def _bytes(
  kind: str, operation: str, shape: str, rest: str, num_devices: int
) -> float:
  sizes = [
    math.prod(map(int, filter(None, dims.split(',')))) * _item_bits(dtype) / 8
    for dtype, dims in _SHAPE.findall(shape)
  ]
  n = _group_size(rest, num_devices)
  # What a start puts out holds what went in beside what will come out.
  begins = operation.endswith('-start') and kind != 'all-reduce'
  size = max(sizes) if begins else sum(sizes)
  if kind == 'reduce-scatter' and operation.startswith(kind) and not begins:
    size *= n  # Of what went in.
  return size * _SENT[kind](n)


def _item_bits(dtype: str) -> int:
  """Bits of a number: 16 of bf16, 8 of f8e4m3fn."""
  return _ITEM_BITS.get(dtype) or int(re.search(r'\d+', dtype)[0])


def _group_size(rest: str, num_devices: int) -> int:
  """Devices of a group, from any of the three ways that XLA writes them."""
  if 'replica_groups=' not in rest:  # Permutes have pairs.
    return num_devices
  groups = rest.split('replica_groups=')[1]
  if named := re.match(r'mesh\[([^\]]*)\][^{]*\{([^}]*)\}', groups):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
    return math.prod(int(sizes[a]) for a in re.findall(r"'(\w+)'", named[2]))
  if iota := re.match(r'\[\d+,(\d+)\]', groups):
    return int(iota[1])
  if listed := re.match(r'\{\{([\d,]+)\}', groups):
    return listed[1].count(',') + 1
  if groups.startswith('{}'):
    return num_devices
  raise ValueError(f'unknown groups of a collective: {groups[:80]!r}')


def _trips(rest: str, computations: dict[str, list[tuple[str, ...]]]) -> int:
  """How often a loop turns; 0 if that is not known before it runs.

  If the compiler does not say, a condition `counter < constant` does: the loops
  that JAX writes count from 0 by 1.
  """
  if said := re.search(r'known_trip_count.{0,8}?"n":"(\d+)"', rest):
    return int(said[1])
  found = computations[_attribute('condition', rest)]
  constants = {
    name: int(rest.split(')')[0])
    for name, shape, operation, rest in found
    if operation == 'constant' and re.match(r'[su]\d+\[\]', shape)
  }
  _, _, operation, rest = found[-1]
  if operation != 'compare' or 'direction=LT' not in rest:
    return 0
  limit = _NAME.findall(rest.split(')')[0])[-1]
  return constants.get(limit, 0)


def _attribute(name: str, rest: str) -> str:
  return re.search(rf'{name}=%?([\w.-]+)', rest)[1]


def _called(rest: str) -> list[str]:
  names = []
  for several, one in _CALLED.findall(rest):
    names += _NAME.findall(several) if several else [one]
  return names
