"""Servers that do what no server should, and what an agent reads of each."""

import gzip
import time

from tests.tools import sockets

PAGE = b"""<html><head><title>Peru's rivers</title></head><body><nav>Home
</nav><article><h1>Rivers</h1><p>The Rimac is a river that flows through the
city of Lima to the Pacific Ocean. It is the most important source of water for
the city and the port beside it, and has been used for irrigation since long
before the city was founded. In its upper valley there are mines, dams and the
highest railway of the continent.</p><table><tr><th>River</th><th>km</th></tr>
<tr><td>Rimac</td><td>160</td></tr></table></article></body></html>"""


def hang(connection, *_):
  connection.recv(1)  # Until the client gives up.


def drip_head(connection, *_):
  connection.sendall(b'HTTP/1.1 200 OK\r\n')
  for number in range(10_000):
    connection.sendall(b'X-%d: y\r\n' % number)
    time.sleep(0.05)


def drip_body(connection, *_):
  connection.sendall(sockets.response(length=10_000))
  for _ in range(10_000):
    connection.sendall(b'x')
    time.sleep(0.05)


def drop(connection, *_):
  return b''


def half_a_head(connection, *_):
  return b'HTTP/1.1 200 OK\r\nContent-Ty'


def too_short(connection, *_):
  return sockets.response(PAGE, length=len(PAGE) + 10)


def huge_by_word(connection, *_):
  return sockets.response(length=10**12)


def huge_length(connection, *_):
  return sockets.response(length='9' * 400)


def endless(connection, *_):
  connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n')
  while True:
    connection.sendall(b'x' * 65536)


def gzip_bomb(connection, *_):
  # 20 kB that unpack to 20 MB.
  body = gzip.compress(bytes(20 * 2**20))
  return sockets.response(body, Content_Encoding='gzip')


def no_gzip(connection, *_):
  return sockets.response(PAGE, Content_Encoding='gzip')


def torn_gzip(connection, *_):
  return sockets.response(gzip.compress(PAGE)[:-20], Content_Encoding='gzip')


def odd_packing(connection, *_):
  return sockets.response(PAGE, Content_Encoding='zstd, gzip')


def circle(connection, path, *_):
  return sockets.response(status='302 Found', Location=path)


def nowhere(connection, *_):
  return sockets.response(status='302 Found')


def to_file(connection, *_):
  return sockets.response(status='302 Found', Location='file:///etc/passwd')


def to_metadata(connection, *_):
  return sockets.response(
    status='302 Found', Location='http://169.254.169.254/latest/meta-data'
  )


def to_other_loopback(connection, *_):
  return sockets.response(status='307 x', Location='http://127.0.0.2:1/')


def to_a_short_number(connection, *_):
  return sockets.response(status='302 Found', Location='http://127.2:1/')


def fault(connection, *_):
  return sockets.response(PAGE, status='500 Oh')


def busy(connection, *_):
  return sockets.response(PAGE, status='429 No', Retry_After='86400')


def picture(connection, *_):
  return sockets.response(b'\x89PNG', kind='image/png')


def zeros(connection, *_):
  return sockets.response(b'\x00' * 100)


def no_text(connection, *_):
  return sockets.response(b'<html><body></body></html>')


def no_http(connection, *_):
  return b'\x16\x03\x01 no http at all \r\n\r\n'


def bad_status(connection, *_):
  return sockets.response(PAGE, status='999999 x')


def many_headers(connection, *_):
  return b'HTTP/1.1 200 OK\r\n' + b'A: b\r\n' * 200_000 + b'\r\n'


# What an agent reads of each server, within the deadline.
HOSTILE = [
  (hang, 'no answer within 1 s'),
  (drip_head, 'no answer within 1 s'),
  (drip_body, 'no answer within 1 s'),
  (drop, 'the connection failed (RemoteProtocolError)'),
  (half_a_head, 'the connection failed (RemoteProtocolError)'),
  (too_short, 'the connection failed (RemoteProtocolError)'),
  (huge_by_word, 'the answer is larger than 1,000,000 bytes'),
  (huge_length, 'the connection failed (RemoteProtocolError)'),
  (endless, 'the answer is larger than 1,000,000 bytes'),
  (gzip_bomb, 'the answer is larger than 1,000,000 bytes'),
  (no_gzip, 'the answer is packed wrongly'),
  (torn_gzip, 'the answer breaks off'),
  (odd_packing, 'the answer is packed in an unknown way'),
  (circle, 'more than 5 redirects'),
  (nowhere, 'more than 5 redirects'),
  (to_file, 'only http and https pages can be read'),
  (to_metadata, '169.254.169.254 is not on the public internet'),
  (to_other_loopback, '127.0.0.2 is not on the public internet'),
  (to_a_short_number, '127.2 is not on the public internet'),
  (fault, 'the server answered with status 500'),
  (busy, 'the server answered with status 429'),
  (picture, 'a page of type image/png cannot be read'),
  (zeros, 'the page is no text'),
  (no_text, 'the page has no text'),
  (no_http, 'the connection failed (RemoteProtocolError)'),
  (bad_status, 'the connection failed (RemoteProtocolError)'),
  (many_headers, 'the connection failed (RemoteProtocolError)'),
]
