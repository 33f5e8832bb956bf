"""A Hugging Face folder with a random, very small encoder."""

import json

import numpy as np
import safetensors.numpy
import tokenizers

FIELDS = {
  'model_type': 'bert',
  'hidden_act': 'gelu',
  'hidden_size': 8,
  'intermediate_size': 12,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'max_position_embeddings': 24,
  'vocab_size': 40,
  'type_vocab_size': 2,
  'layer_norm_eps': 1e-12,
}


def write(folder, prefix='', extra=(), drop=(), **fields):
  """A folder with a random model and a tokenizer of single words."""
  fields = FIELDS | fields
  draw = np.random.default_rng(0).standard_normal
  width, mlp = fields['hidden_size'], fields['intermediate_size']
  shapes = {
    'embeddings.word_embeddings.weight': (fields['vocab_size'], width),
    'embeddings.position_embeddings.weight': (
      fields['max_position_embeddings'],
      width,
    ),
    'embeddings.token_type_embeddings.weight': (2, width),
    'embeddings.LayerNorm': (width,),
  }
  for number in range(fields['num_hidden_layers']):
    for name, shape in (
      ('attention.self.query', (width, width)),
      ('attention.self.key', (width, width)),
      ('attention.self.value', (width, width)),
      ('attention.output.dense', (width, width)),
      ('attention.output.LayerNorm', (width,)),
      ('intermediate.dense', (mlp, width)),
      ('output.dense', (width, mlp)),
      ('output.LayerNorm', (width,)),
    ):
      shapes[f'encoder.layer.{number}.{name}'] = shape
  arrays = {}
  for name, shape in shapes.items():
    if name.endswith('.weight'):
      arrays[name] = draw(shape)
    else:
      arrays[f'{name}.weight'] = draw(shape)
      arrays[f'{name}.bias'] = draw(shape[:1])
  arrays |= {name: draw((3,)) for name in extra}
  arrays = {
    prefix + name: array.astype(np.float32)
    for name, array in arrays.items()
    if name not in drop
  }
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(fields))
  safetensors.numpy.save_file(arrays, folder / 'model.safetensors')
  words = ['[PAD]', '[CLS]', '[SEP]', '[UNK]', 'query', 'passage', ':']
  vocab = {w: i for i, w in enumerate(words + [f'w{i}' for i in range(33)])}
  made = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(vocab, unk_token='[UNK]')
  )
  made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  made.post_processor = tokenizers.processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)]
  )
  made.enable_padding(length=24)  # As some folders have it: not wanted here.
  made.save(str(folder / 'tokenizer.json'))
  return arrays
