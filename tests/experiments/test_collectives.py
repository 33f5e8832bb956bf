"""Bytes between devices by hand, as the compilers of CPU and TPU write them."""

import functools

import jax
import jax.numpy as jnp
import pytest

from experiments import collectives
from wideseek_jax import sharding

HEAD = 'HloModule m, is_scheduled=true, num_partitions=8\n'
ADD = """
%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}
"""


def entry(*lines):
  body = '\n'.join(f'  {line}' for line in lines)
  return f'\nENTRY %main (p: f32[4]) -> f32[4] {{\n{body}\n}}\n'


def sent(*parts, unknown_trips=1):
  return collectives.sent_bytes(
    HEAD + ADD + ''.join(parts), unknown_trips=unknown_trips
  )


@pytest.mark.parametrize(
  ('line', 'kind', 'expected'),
  [
    # A ring of 4: three quarters of the 64 · 2 bytes that come out.
    (
      'bf16[64]{0:T(256)(2,1)} all-gather(%p), replica_groups={{0,1,2,3},'
      '{4,5,6,7}}, dimensions={0}',
      'all-gather',
      128 * 3 / 4,
    ),
    # Three quarters of the 4 · 16 · 4 bytes that went in.
    (
      'f32[4,4]{1,0} reduce-scatter(%p), replica_groups=[2,4]<=[8], '
      'dimensions={0}, to_apply=%add',
      'reduce-scatter',
      256 * 3 / 4,
    ),
    # Both halves of a ring over all 8, of two arrays together.
    (
      '(f32[8]{0}, s32[2,4]{1,0}) all-reduce(%p, %q), replica_groups={}, '
      'to_apply=%add',
      'all-reduce',
      2 * 64 * 7 / 8,
    ),
    (
      "bf16[32]{0} all-gather(%p), replica_groups=mesh['axis_0'=2,'axis_1'=4]"
      " {'axis_0'}, dimensions={0}",
      'all-gather',
      64 / 2,
    ),
    (
      "f32[8]{0} all-to-all(%p), replica_groups=mesh['axis_0'=2,'axis_1'=2,"
      "'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_0','axis_2'}",
      'all-to-all',
      32 * 3 / 4,
    ),
    (
      'f32[8]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}',
      'collective-permute',
      32,
    ),
    # What begins puts out what went in, too.
    (
      '(f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%p), '
      'source_target_pairs={{0,1},{1,0}}',
      'collective-permute',
      32,
    ),
    (
      '(f32[4]{0}, f32[16]{0}) all-gather-start(%p), replica_groups=[2,4]<=[8]',
      'all-gather',
      64 * 3 / 4,
    ),
    (
      'f8e4m3fn[16]{0} all-gather(%p), replica_groups=[2,4]<=[8]',
      'all-gather',
      16 * 3 / 4,
    ),
  ],
)
def test_a_collective_by_hand(line, kind, expected):
  found = sent(entry(f'%c = {line}', 'ROOT %d = f32[4] copy(%p)'))
  assert found == {kind: expected}


GATHER = 'f32[4]{0} all-gather(%p), replica_groups=[4,2]<=[8]'  # 8 bytes
LOOP = f"""
%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {{
  %gathered = {GATHER}
  ROOT %t = (s32[], f32[4]) tuple(%i, %gathered)
}}
%bounded (s: (s32[], f32[4])) -> pred[] {{
  %limit.1 = s32[]{{:T(128)}} constant(36)
  %i = s32[]{{:T(128)}} get-tuple-element(%s), index=0
  ROOT %go = pred[]{{:T(512)}} compare(%i, %limit.1), direction=LT
}}
%unbounded (s: (s32[], f32[4])) -> pred[] {{
  %ready = s32[] constant(9)
  %i = s32[] get-tuple-element(%s), index=0
  %n = s32[] get-tuple-element(%s), index=1
  ROOT %go = pred[] compare(%i, %n), direction=LT
}}
"""
WHILE = '= (s32[]{:T(128)}, /*index=1*/f32[4]{0}) while(%t), condition='


@pytest.mark.parametrize(
  ('ends', 'trips'),
  [
    ('%bounded, body=%body', 36),
    ('%unbounded, body=%body', 7),
    (
      '%unbounded, body=%body, backend_config={"known_trip_count":{"n":"5"},'
      '"known_init_step":{"init":"0","step":"1"}}',
      5,
    ),
  ],
)
def test_loops_count_as_often_as_they_turn(ends, trips):
  found = sent(
    LOOP, entry(f'%w {WHILE}{ends}', f'%c = {GATHER}'), unknown_trips=7
  )
  assert found == {'all-gather': 8 * (trips + 1)}


def test_loops_in_loops():
  outer = f"""
%outer (s: (s32[], f32[4])) -> (s32[], f32[4]) {{
  ROOT %inner {WHILE}%bounded, body=%body
}}
"""
  found = sent(
    LOOP,
    outer,
    entry(f'ROOT %w {WHILE}%unbounded, body=%outer'),
    unknown_trips=3,
  )
  assert found == {'all-gather': 8 * 36 * 3}


def test_a_conditional_is_its_dearest_branch():
  branches = f"""
%idle (p: f32[4]) -> f32[4] {{
  ROOT %q = f32[4] copy(%p)
}}
%busy (p: f32[4]) -> f32[4] {{
  ROOT %q = {GATHER}
}}
"""
  found = sent(
    branches,
    entry(
      'ROOT %c = f32[4] conditional(%x, %p, %p), branch_computations='
      '{%idle, %busy}'
    ),
  )
  assert found == {'all-gather': 8}


def test_the_links_of_a_chain_are_one_collective():
  # A TPU writes a gather that runs beside two fusions once for each of them.
  link = f'{GATHER}, frontend_attributes={{chain_id="3"}}'
  fusions = ''.join(
    f'\n%part.{n} (p: f32[4]) -> f32[4] {{\n  ROOT %g.{n} = {link}\n}}\n'
    for n in range(3)
  )
  calls = [
    f'%f.{n} = f32[4] fusion(%p), kind=kCustom, calls=%part.{n}'
    for n in range(3)
  ]
  other = f'%g = {GATHER}, frontend_attributes={{chain_id="4"}}'
  assert sent(fusions, entry(*calls, other)) == {'all-gather': 16}


def test_a_reduce_scatter_as_a_tpu_writes_it():
  fused = """
%all-reduce-scatter.5.clone (p: f32[16]) -> f32[4] {
  %all = f32[16]{0} all-reduce(%p), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %mine = f32[4]{0} dynamic-slice(%all, %i), dynamic_slice_sizes={4}
}
"""
  call = 'ROOT %f = f32[4] fusion(%p), calls=%all-reduce-scatter.5.clone'
  assert sent(fused, entry(call)) == {'reduce-scatter': 64 * 3 / 4}


def test_what_it_cannot_read_is_refused():
  with pytest.raises(ValueError, match='no HLO'):
    collectives.sent_bytes('nothing', unknown_trips=1)
  with pytest.raises(ValueError, match='unknown groups'):
    sent(entry('%c = f32[4] all-gather(%p), replica_groups=new'))


def test_a_compiled_program_on_eight_devices():
  mesh = sharding.make_mesh(data=2, tensor=4)
  shift = [(i, (i + 1) % 4) for i in range(4)]

  @functools.partial(
    jax.shard_map,
    mesh=mesh,
    in_specs=(jax.P('data', 'tensor'), jax.P()),
    out_specs=jax.P('data', 'tensor'),
    check_vma=False,
  )
  def run(x, turns):  # x: float32 [8, 16] on each device.
    def layer(x, _):
      whole = jax.lax.all_gather(x, 'tensor', axis=1, tiled=True)
      x = jax.lax.psum_scatter(
        jnp.sin(whole), 'tensor', scatter_dimension=1, tiled=True
      )
      return jax.lax.ppermute(x, 'tensor', shift), None

    def turn(_, x):
      x, _ = jax.lax.scan(layer, x, length=5)
      return jax.lax.psum(x, ('data', 'tensor'))

    return jax.lax.fori_loop(0, turns, turn, x)

  shapes = (
    jax.ShapeDtypeStruct((16, 64), jnp.float32),
    jax.ShapeDtypeStruct((), jnp.int32),
  )
  program = jax.jit(run).lower(*shapes).compile().as_text()
  found = collectives.sent_bytes(program, unknown_trips=3)
  one = 8 * 16 * 4
  assert found == {
    # Four parts of a row, three of them from others; 5 layers, 3 turns.
    'all-gather': 3 * 5 * 3 * one,
    'reduce-scatter': 3 * 5 * 3 * one,
    'collective-permute': 3 * 5 * one,
    'all-reduce': 3 * 2 * one * 7 / 8,
  }
