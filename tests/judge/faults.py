"""What a judge's server may do wrong, as answers that `server` can give."""

import socket
import time

from tests.judge import server


def drop(handler, prompt, number):
  handler.connection.shutdown(socket.SHUT_RDWR)


def drop_in_the_middle(handler, prompt, number):
  handler.send_response(200)
  handler.send_header('Content-Length', '1000')
  handler.end_headers()
  handler.wfile.write(b'{"choices": [')
  drop(handler, prompt, number)


def huge(handler, prompt, number):
  handler.send_response(200)
  handler.send_header('Content-Length', str(10**10))
  handler.end_headers()
  for _ in range(10**4):
    handler.wfile.write(b' ' * 2**20)


def drip(handler, prompt, number):
  """Never silent for as long as a read timeout, and never done."""
  handler.send_response(200)
  handler.send_header('Content-Length', '10000')
  handler.end_headers()
  for _ in range(10000):
    handler.wfile.write(b' ')
    time.sleep(0.02)


def drip_headers(handler, prompt, number):
  handler.wfile.write(b'HTTP/1.1 200 OK\r\n')
  for i in range(10000):
    handler.wfile.write(b'X-%d: 1\r\n' % i)
    time.sleep(0.02)


def silent(handler, prompt, number):
  time.sleep(1.0)
  return server.echo(handler, prompt, number)


def status(code, body=b'no', **headers):
  return lambda *_: (code, body, headers)


def body(content, **headers):
  return lambda *_: (200, content, headers)


# All that a retry may mend.
PASSING = {
  'drop': drop,
  'drop in the middle': drop_in_the_middle,
  'huge': huge,
  'drip': drip,
  'drip headers': drip_headers,
  'silent': silent,
  '429': status(429),
  '500': status(500),
  '503': status(503, b'<html>overloaded</html>'),
  'garbage': body(b'\xff\x00{'),
  'html': body(b'<html>welcome to the proxy</html>'),
  'empty': body(b''),
  'no choices': body(b'{"choices": []}'),
  'a list': body(b'[1]'),
  'null': body(b'null'),
  'parts': body(b'{"choices": [{"message": {"content": [1]}}]}'),
  'deep': body(b'[' * 100_000),
  'a long number': body(b'{"choices": ' + b'9' * 10_000 + b'}'),
  'a bomb': body(b'\x1f\x8b', **{'Content-Encoding': 'gzip'}),
}


# Of the clock's faults; a machine that is busy may be slow with all others.
TIMEOUTS = {
  'drip': {'total_timeout': 0.6},
  'drip headers': {'total_timeout': 0.6},
  'silent': {'read_timeout': 0.3},
}
