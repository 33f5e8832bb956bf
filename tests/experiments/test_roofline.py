import dataclasses

import jax
import pytest

from experiments import roofline
from wideseek_jax import sharding
from wideseek_jax.models import config as model_config
from wideseek_jax.training import batching, grpo_step, train_state

# Vocabulary 10, width 4, mlp 6, 2 layers, 2 heads, 1 kv head, head size 4.
CONFIG = model_config.ModelConfig(10, 4, 6, 2, 2, 1, 4)
# Query and out 4·2·4 each, key and value 4·1·4 each, mlp 3·4·6.
LAYER = 2 * 32 + 2 * 16 + 72


@pytest.mark.parametrize('tied', [True, False])
def test_parameters_of_products_by_hand(tied):
  config = dataclasses.replace(CONFIG, tied=tied)
  assert roofline.matrix_params(config) == (2 * LAYER, 40)


def test_operations_by_hand():
  # 3 tokens that look at 5 keys: two products of 2·2·4·5 operations a layer.
  attention = 2 * 2 * (2 * 2 * 4 * 5)
  forward = 3 * (2 * 2 * LAYER + attention)
  assert roofline.forward_flops(CONFIG, 3, 5, outputs=1) == forward + 80
  count = {
    (attention, remat): roofline.train_flops(
      CONFIG, 3, 5, attention=attention, remat=remat
    )
    for attention in ('blocks', 'splash')
    for remat in ('none', 'dots', 'block')
  }
  # Forward, and two products for each of its products; the output once more.
  products = 3 * (3 * 2 * 2 * LAYER + 4 * 80)
  assert count['blocks', 'none'] == products + 3 * 3.5 * attention
  assert count['splash', 'none'] == products + 3 * 4.5 * attention
  assert count['blocks', 'dots'] == products + 3 * 4.5 * attention
  assert count['blocks', 'block'] - count['blocks', 'none'] == forward


@pytest.mark.parametrize('remat', ['none', 'block'])
def test_the_compiler_counts_the_same(remat):
  # One layer, one micro-batch and one block: no loop turns more than once.
  config = model_config.ModelConfig(512, 64, 192, 1, 4, 2, 16)
  mesh = sharding.make_mesh(jax.devices()[:1])
  optimizer = train_state.make_optimizer(learning_rate=1e-6)
  step = grpo_step.make_grpo_step(
    config,
    optimizer,
    mesh,
    attention='blocks',
    attention_block=128,
    logprob_chunk=128,
    remat=remat,
  )
  batch = batching.make_sft_batch([], row_len=128)
  found = roofline.compiled_flops(step.lower(batch).compile())
  expected = roofline.train_flops(
    config, 128, 128, attention='blocks', remat=remat
  )
  # Where all is one chunk, the compiler sees that logits are there already.
  expected -= 128 * 2 * config.vocab_size * config.embed_dim
  # What is not a product of matrices is the rest.
  assert expected < found < 1.1 * expected


@pytest.mark.parametrize(
  ('topology', 'links'),
  # Two neighbours along each axis, one where there are only two chips.
  [('v5e:4x4', 4), ('v5p:2x2x2', 3), ('v5p:2x2x1', 2), ('v4:4x4x4', 6)],
)
def test_links_of_a_chip(topology, links):
  chip, found = roofline.parse_topology(topology)
  assert found == links
  assert chip is roofline.CHIPS[topology.split(':')[0]]


@pytest.mark.parametrize('name', ['v5e', 'v5e-16', 'h100:8', 'v5e:4xx', ''])
def test_what_is_no_topology(name):
  with pytest.raises(ValueError, match='v5e:4x4'):
    roofline.parse_topology(name)


def test_seconds_by_hand():
  chip = roofline.Chip(flops=10, hbm_bytes=1, hbm_rate=5, link_rate=2)
  work = roofline.Work(20, 15, 12)
  assert work.seconds(chip, 3) == (2, 3, 2)
  assert roofline.Work(20, 15, 0).seconds(chip, 0) == (2, 3, 0)
