import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wideseek_jax.engine import attention, gathered
from wideseek_jax.models import layers

R, K, N, H, PAGE = 2, 2, 4, 3, 4


gather = jax.jit(gathered.gather)
scatter = jax.jit(gathered.scatter)
attend = jax.jit(gathered.attend)


def tables(read, write=((0,),) * R, start=(0,) * R):
  return attention.RowTables(*map(jnp.int32, (read, write, start)))


def random_pages(seed=0):
  random = np.random.default_rng(seed)
  k_pages, v_pages = random.normal(size=(2, 7, PAGE, K, H))
  return ((jnp.float32(k_pages), jnp.float32(v_pages)),)


def test_gather_lays_pages_side_by_side():
  pages = random_pages()
  table = [[3, 1], [2, 2]]
  ((k_RKHS, v_RKSH),) = gather(pages, tables(table))
  k_pages, v_pages = pages[0]
  for row, ids in enumerate(table):
    k_SKH = np.concatenate([k_pages[i] for i in ids])
    v_SKH = np.concatenate([v_pages[i] for i in ids])
    np.testing.assert_array_equal(k_RKHS[row], k_SKH.transpose(1, 2, 0))
    np.testing.assert_array_equal(v_RKSH[row], v_SKH.transpose(1, 0, 2))


def test_scatter_writes_the_pages_named_and_no_other():
  pages = random_pages()
  # Row 0 touched its second page only, row 1 both; 0 takes the rest.
  named = tables([[3, 1], [2, 4]], [[1, 0], [2, 4]], [PAGE + 1, 2])
  cache = gather(pages, named)
  changed = tuple((k + 1, v + 1) for k, v in cache)
  after = scatter(pages, changed, named)
  for before_P, after_P in zip(pages[0], after[0], strict=True):
    for page in (1, 2, 4):
      np.testing.assert_array_equal(after_P[page], before_P[page] + 1)
    for page in (3, 5, 6):
      np.testing.assert_array_equal(after_P[page], before_P[page])


@pytest.mark.parametrize('T', [1, 3])
def test_cached_attention_is_whole_row_attention(T):
  random = np.random.default_rng(1)
  starts, S = np.array([5, 2]), 8
  k_RSKH, v_RSKH = np.float32(random.normal(size=(2, R, S, K, H)))
  q_RTNH = np.float32(random.normal(size=(R, T, N, H)))
  positions_RT = starts[:, None] + np.arange(T)[None]
  seen = np.arange(S)[None, None, :] <= positions_RT[:, :, None]
  expected = jax.jit(layers.masked_attention)(q_RTNH, k_RSKH, v_RSKH, seen)
  # What the buffers hold from each start on is rubbish.
  old = np.arange(S)[None, :, None, None] < starts[:, None, None, None]
  k_old, v_old = (np.where(old, x, np.float32(1e4)) for x in (k_RSKH, v_RSKH))
  buffers = (k_old.transpose(0, 2, 3, 1), v_old.transpose(0, 2, 1, 3))
  index = positions_RT[:, :, None, None]
  new_k = np.take_along_axis(k_RSKH, index, axis=1)
  new_v = np.take_along_axis(v_RSKH, index, axis=1)
  out, (k_RKHS, _) = attend(
    q_RTNH, new_k, new_v, buffers, positions_RT, tables([[0]] * R)
  )
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for row, start in enumerate(starts):
    end = start + T
    np.testing.assert_array_equal(
      k_RKHS[row, :, :, :end], k_RSKH[row, :end].transpose(1, 2, 0)
    )
    assert (k_RKHS[row, :, :, end:] == 1e4).all()
