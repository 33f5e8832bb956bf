"""A real HTTP server on loopback that answers as a test wants."""

import contextlib
import http.server
import json
import threading


def completion(text, tokens=None):
  """The body of a chat completion."""
  usage = {} if tokens is None else {'usage': {'total_tokens': tokens}}
  message = {'role': 'assistant', 'content': text}
  return json.dumps({'choices': [{'message': message}], **usage}).encode()


def echo(handler, prompt, number):
  return 200, completion(f'reply to {prompt}', tokens=10)


@contextlib.contextmanager
def serving(answer):
  """Serves `answer(handler, prompt, number)` for every request.

  It returns (status, body) or (status, body, headers), or None if it has
  written to the handler itself; `number` counts the requests from 0.

  Yields:
    (the base url, the list of (body, headers) of all requests so far).
  """
  requests = []

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
      body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
      with lock:
        number = len(requests)
        requests.append((body, dict(self.headers)))
      with contextlib.suppress(ConnectionError):
        said = answer(self, body['messages'][-1]['content'], number)
        if said is not None:
          status, content, *headers = said
          self.send_response(status)
          for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
          self.send_header('Content-Length', str(len(content)))
          self.end_headers()
          self.wfile.write(content)

    def log_message(self, *args):
      pass

  lock = threading.Lock()
  server = http.server.ThreadingHTTPServer(
    ('127.0.0.1', 0), Handler, bind_and_activate=False
  )
  # A busy machine must not make it refuse a crowd.
  server.request_queue_size = 128
  server.server_bind()
  server.server_activate()
  # Clients that hang up are what the tests are about.
  server.handle_error = lambda *args: None
  server.daemon_threads = True
  server.block_on_close = False
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/v1', requests
  finally:
    server.shutdown()
    thread.join()
    server.server_close()
