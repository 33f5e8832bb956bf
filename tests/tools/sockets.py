"""Servers on loopback that answer as a test wants, with real sockets."""

import contextlib
import socket
import threading


@contextlib.contextmanager
def serving(answer, host='127.0.0.1'):
  """Serves `answer(connection, path, head, number)` for every request.

  It returns the bytes to be sent, after which the connection is closed, or
  None if it has done all that there is to do. `head` is the request up to its
  body in lower case, `number` counts the requests from 0.

  Yields:
    (the server's url without a slash, the list of paths asked for so far).
  """
  paths, open_ones, lock = [], set(), threading.Lock()
  listener = socket.create_server((host, 0), backlog=128)

  def work(connection):
    with connection, contextlib.suppress(OSError):
      data = b''
      while b'\r\n\r\n' not in data:
        more = connection.recv(65536)
        if not more:
          return
        data += more
      head = data.decode('latin-1').lower()
      path = data.split(b' ')[1].decode('latin-1')
      with lock:
        number = len(paths)
        paths.append(path)
      said = answer(connection, path, head, number)
      if said is not None:
        connection.sendall(said)

  def accept():
    while True:
      try:
        connection, _ = listener.accept()
      except OSError:
        return
      open_ones.add(connection)
      threading.Thread(target=work, args=(connection,), daemon=True).start()

  thread = threading.Thread(target=accept, daemon=True)
  thread.start()
  try:
    yield f'http://{host}:{listener.getsockname()[1]}', paths
  finally:
    # Wakes the threads that wait for a client or a connection.
    for one in (listener, *open_ones):
      with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
      one.close()
    thread.join()


def response(
  body=b'', status='200 OK', kind='text/html', length=None, **headers
):
  """The bytes of an answer; `length` is what it says of itself."""
  fields = {
    'Content-Type': kind,
    'Content-Length': str(len(body) if length is None else length),
    'Connection': 'close',
  } | {name.replace('_', '-'): value for name, value in headers.items()}
  lines = [f'HTTP/1.1 {status}', *(f'{k}: {v}' for k, v in fields.items())]
  return '\r\n'.join(lines).encode() + b'\r\n\r\n' + body
