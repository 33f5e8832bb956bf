"""Sentence vectors from an encoder of the BERT family, in JAX.

In comes a Hugging Face folder (config.json, safetensors, tokenizer.json) such
as intfloat/e5-base-v2 or all-MiniLM-L6-v2; out go unit vectors of texts: the
mean of the last layer's token vectors (Reimers and Gurevych, arXiv 1908.10084
§3; E5: arXiv 2212.03533 §3). Post-norm transformer of arXiv 1810.04805 §3.1.

Shapes here: B texts · T, S tokens · D width · F mlp width · N heads · H head
size.
"""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from wideseek_jax.models import tensor_files

Params = dict[str, Any]

# Lengths and numbers of texts that batches are padded to: 18 compilations.
_LENGTHS = (16, 32, 64, 128, 256, 512)
_ROWS = (1, 8, 64)

# Ours -> theirs; those of a layer follow 'encoder.layer.<number>.'.
_TOP_NAMES = {
  'words': 'embeddings.word_embeddings.weight',
  'positions': 'embeddings.position_embeddings.weight',
  'types': 'embeddings.token_type_embeddings.weight',
  'norm': 'embeddings.LayerNorm',
}
_LAYER_NAMES = {
  'query': 'attention.self.query',
  'key': 'attention.self.key',
  'value': 'attention.self.value',
  'out': 'attention.output.dense',
  'attn_norm': 'attention.output.LayerNorm',
  'up': 'intermediate.dense',
  'down': 'output.dense',
  'mlp_norm': 'output.LayerNorm',
}
# Fields that would change the model, and the one value that it has.
_FIXED = {
  'model_type': 'bert',
  'hidden_act': 'gelu',
  'position_embedding_type': 'absolute',
}


class BertConfig(NamedTuple):
  """The shape of an encoder, under its names in config.json."""

  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  max_position_embeddings: int
  vocab_size: int
  type_vocab_size: int
  layer_norm_eps: float


def load(
  folder: str | os.PathLike, dtype: str = 'float32'
) -> tuple[BertConfig, Params]:
  """Reads config.json and the weights.

  Args:
    folder: of the model. A prefix 'bert.' of all names, a pooler and the heads
      of pre-training are passed over.
    dtype: of the parameters; 'bfloat16' for accelerators.

  Returns:
    (config, params); of params['layers'] each leaf has a leading axis L.

  Raises:
    FileNotFoundError: the folder or a file is missing.
    ValueError: it is another model, a file is torn or of another shape.
  """
  folder = pathlib.Path(folder)
  path = folder / 'config.json'
  if not path.exists():
    raise FileNotFoundError(
      f'no encoder at {str(folder)!r}; config.tools.encoder.folder must name '
      f'a Hugging Face folder such as that of intfloat/e5-base-v2'
    )
  fields = tensor_files.read_json(path)
  for name, value in _FIXED.items():
    if fields.get(name, value) != value:
      raise ValueError(
        f'{path}: {name}={fields[name]!r} is not supported, only {value!r}'
      )
  missing = [name for name in BertConfig._fields if name not in fields]
  if missing:
    raise ValueError(f'{path}: the fields {missing} are missing')
  config = BertConfig(*(fields[name] for name in BertConfig._fields))
  width, mlp = config.hidden_size, config.intermediate_size
  if width % config.num_attention_heads:
    raise ValueError(
      f'{path}: hidden_size={width} is no multiple of num_attention_heads='
      f'{config.num_attention_heads}'
    )
  with tensor_files.opened(folder) as found:
    prefix = 'bert.' if f'bert.{_TOP_NAMES["words"]}' in found else ''

    def read(name: str, *shape: int) -> np.ndarray:
      stored = found.get(prefix + name)
      if stored is None:
        raise ValueError(f'{folder}: the tensor {prefix + name} is missing')
      tensor_files.check_tensor(stored, shape)
      return stored.part[:].astype(jnp.dtype(dtype))

    def norm(name: str) -> Params:
      return {
        'scale': read(f'{name}.weight', width),
        'bias': read(f'{name}.bias', width),
      }

    def dense(name: str, inner: int, outer: int) -> Params:
      return {
        # torch's Linear stores [out, in].
        'kernel': read(f'{name}.weight', outer, inner).T,
        'bias': read(f'{name}.bias', outer),
      }

    def layer(number: int) -> Params:
      made = {}
      for ours, theirs in _LAYER_NAMES.items():
        name = f'encoder.layer.{number}.{theirs}'
        if ours.endswith('norm'):
          made[ours] = norm(name)
        else:
          inner = mlp if ours == 'down' else width
          made[ours] = dense(name, inner, mlp if ours == 'up' else width)
      return made

    params = {
      'words': read(_TOP_NAMES['words'], config.vocab_size, width),
      'positions': read(
        _TOP_NAMES['positions'], config.max_position_embeddings, width
      ),
      'types': read(_TOP_NAMES['types'], config.type_vocab_size, width),
      'norm': norm(_TOP_NAMES['norm']),
      'layers': jax.tree.map(
        lambda *leaves: np.stack(leaves),
        *(layer(number) for number in range(config.num_hidden_layers)),
      ),
    }
  return config, jax.tree.map(jnp.asarray, params)


@functools.partial(jax.jit, static_argnums=0)
def embed(
  config: BertConfig, params: Params, ids_BT: jax.Array, lengths_B: jax.Array
) -> jax.Array:
  """Sentence vectors.

  Args:
    config: of the model.
    params: as from `load`.
    ids_BT: int32, each row padded on the right with any id.
    lengths_B: int32, how many ids of each row count, at least 1.

  Returns:
    float32 [B, D], each of length 1.
  """
  heads = config.num_attention_heads
  T = ids_BT.shape[1]
  mask_BT = jnp.arange(T)[None] < lengths_B[:, None]
  x_BTD = params['words'][ids_BT]
  x_BTD += (params['positions'][:T] + params['types'][0][None])[None]
  x_BTD = _norm(x_BTD, params['norm'], config)

  def block(x_BTD: jax.Array, layer: Params) -> tuple[jax.Array, None]:
    q_BTNH, k_BTNH, v_BTNH = (
      _dense(x_BTD, layer[name]).reshape(*x_BTD.shape[:2], heads, -1)
      for name in ('query', 'key', 'value')
    )
    # Scores and softmax in float32, whatever the type.
    logits_BNTS = jnp.einsum(
      'BTNH,BSNH->BNTS',
      q_BTNH,
      k_BTNH,
      preferred_element_type=jnp.float32,
    )
    logits_BNTS = jnp.where(
      mask_BT[:, None, None, :],
      logits_BNTS * q_BTNH.shape[-1] ** -0.5,
      -jnp.inf,
    )
    weights_BNTS = jax.nn.softmax(logits_BNTS).astype(x_BTD.dtype)
    y_BTNH = jnp.einsum('BNTS,BSNH->BTNH', weights_BNTS, v_BTNH)
    y_BTD = _dense(y_BTNH.reshape(x_BTD.shape), layer['out'])
    x_BTD = _norm(x_BTD + y_BTD, layer['attn_norm'], config)
    h_BTF = jax.nn.gelu(_dense(x_BTD, layer['up']), approximate=False)
    y_BTD = _dense(h_BTF, layer['down'])
    return _norm(x_BTD + y_BTD, layer['mlp_norm'], config), None

  x_BTD, _ = jax.lax.scan(block, x_BTD, params['layers'])
  kept_BTD = jnp.where(mask_BT[..., None], x_BTD.astype(jnp.float32), 0.0)
  mean_BD = kept_BTD.sum(1) / lengths_B[:, None]
  return mean_BD / jnp.linalg.norm(mean_BD, axis=-1, keepdims=True)


class SentenceEncoder:
  """Texts to unit vectors; safe for many threads."""

  def __init__(
    self,
    *,
    folder: str,
    query_prefix: str = 'query: ',
    passage_prefix: str = 'passage: ',
    max_tokens: int = 256,
    dtype: str = 'float32',
  ):
    """Loads the model to the default device.

    Args:
      folder: see `load`; tokenizer.json must be there, too.
      query_prefix: what the model was trained to see before a query; the
        defaults are E5's, all-MiniLM-L6-v2 wants ''.
      passage_prefix: the same before a passage.
      max_tokens: of a text, prefix and special tokens included; the rest is
        not read.
      dtype: of the computation; 'bfloat16' for accelerators.

    Raises:
      FileNotFoundError, ValueError: see `load`.
    """
    self._config, self._params = load(folder, dtype)
    if not 1 <= max_tokens <= self._config.max_position_embeddings:
      raise ValueError(
        f'max_tokens={max_tokens} is not between 1 and the '
        f'{self._config.max_position_embeddings} positions of the model'
      )
    path = pathlib.Path(folder) / 'tokenizer.json'
    if not path.exists():
      raise FileNotFoundError(
        f'no {path}; save the tokenizer with transformers once'
      )
    self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
    self._tokenizer.no_padding()
    self._tokenizer.enable_truncation(max_tokens)
    self._query_prefix = query_prefix
    self._passage_prefix = passage_prefix

  @property
  def width(self) -> int:
    """Size of a vector."""
    return self._config.hidden_size

  def queries(self, texts: Sequence[str]) -> np.ndarray:
    """Vectors of queries, float32 [len(texts), width]."""
    return self._encode([self._query_prefix + text for text in texts])

  def passages(self, texts: Sequence[str]) -> np.ndarray:
    """Vectors of passages, float32 [len(texts), width]."""
    return self._encode([self._passage_prefix + text for text in texts])

  def _encode(self, texts: list[str]) -> np.ndarray:
    texts = [t.encode('utf-8', 'replace').decode('utf-8') for t in texts]
    rows = [one.ids for one in self._tokenizer.encode_batch(texts)]
    found = np.zeros((len(rows), self.width), np.float32)
    # Texts of about one length share a batch: little of it is padding.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = []
    for start in range(0, len(order), _ROWS[-1]):
      mine = order[start : start + _ROWS[-1]]
      num_rows = _fitting(_ROWS, len(mine))
      length = _fitting(_LENGTHS, len(rows[mine[-1]]))
      length = min(length, self._config.max_position_embeddings)
      ids_BT = np.zeros((num_rows, length), np.int32)
      lengths_B = np.ones(num_rows, np.int32)
      for row, index in enumerate(mine):
        ids_BT[row, : len(rows[index])] = rows[index]
        lengths_B[row] = len(rows[index])
      # Not waited for: the next batch is padded meanwhile.
      vectors_BD = embed(self._config, self._params, ids_BT, lengths_B)
      parts.append((mine, vectors_BD))
    for mine, vectors_BD in parts:
      found[mine] = np.asarray(vectors_BD)[: len(mine)]
    return found


def _fitting(sizes: Sequence[int], size: int) -> int:
  return next(one for one in sizes if one >= size)


def _dense(x: jax.Array, layer: Params) -> jax.Array:
  return x @ layer['kernel'] + layer['bias'][None, None]


def _norm(x: jax.Array, norm: Params, config: BertConfig) -> jax.Array:
  """Layer norm (arXiv 1607.06450) over the last axis, in float32."""
  y = x.astype(jnp.float32)
  y -= y.mean(-1, keepdims=True)
  y *= jax.lax.rsqrt(
    jnp.square(y).mean(-1, keepdims=True) + config.layer_norm_eps
  )
  y = y * norm['scale'][None, None] + norm['bias'][None, None]
  return y.astype(x.dtype)
