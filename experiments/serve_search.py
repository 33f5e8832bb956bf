"""Serves the tools of a config to many clients (wideseek_jax.tools.server).

python -m experiments.serve_search --port=8000
python -m experiments.serve_search --config.tools.kind=text \
  --config.tools.text.folder=runs/index

SIGTERM and Ctrl-C answer what is under way, then end the server.
"""

import socket

from absl import flags

from experiments import flags as experiment_flags
from wideseek_jax import backends, build

_HOST = flags.DEFINE_string('host', '127.0.0.1', 'Where to listen.')
_PORT = flags.DEFINE_integer('port', 8000, 'Where to listen; 0: any.')
_WAITING = flags.DEFINE_integer(
  'max_waiting', 4096, 'Queries that may wait; more get 503.', lower_bound=1
)
_THREADS = flags.DEFINE_integer(
  'threads', 2, 'Batches searched at the same time.', lower_bound=1
)


def main() -> None:
  server = backends.module('tools.server')
  retriever = build.build_retriever(experiment_flags.config())
  search_server = server.SearchServer(
    retriever, max_waiting=_WAITING.value, threads=_THREADS.value
  )
  listener = socket.create_server((_HOST.value, _PORT.value), backlog=2048)
  host, port = listener.getsockname()[:2]
  print(f'serving on http://{host}:{port}', flush=True)
  server.serve(search_server, listener)
  print('stopped: every request that had come was answered', flush=True)


if __name__ == '__main__':
  experiment_flags.run(main)
