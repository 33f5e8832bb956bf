"""Headless Chromium for tests of the page, spoken to through a pipe.

The DevTools protocol over two file descriptors: one JSON message, one zero
byte. Nothing needs to be installed but the browser.
"""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
PATH = next(filter(None, map(shutil.which, NAMES)), None)
_FLAGS = (
  *('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'),
  *('--no-first-run', '--disable-background-networking', '--disable-sync'),
  *('--disable-component-update', '--disable-quic', '--hide-scrollbars'),
  '--remote-debugging-pipe',
)


class Page:
  """One tab.

  Attributes:
    errors: what its console and its policy complained of.
  """

  def __init__(self, to_fd, from_fd, seconds):
    self.errors = []
    self._to, self._from = to_fd, from_fd
    self._deadline = time.monotonic() + seconds
    self._buffer = b''
    self._ids = itertools.count(1)
    self._session = {}
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    session = self.call('Target.attachToTarget', targetId=target, flatten=True)
    self._session = {'sessionId': session['sessionId']}
    for domain in ('Page', 'Runtime', 'Log'):
      self.call(f'{domain}.enable')

  def call(self, method, **params):
    number = next(self._ids)
    message = {'id': number, 'method': method, 'params': params}
    os.write(self._to, json.dumps(message | self._session).encode() + b'\0')
    while True:
      reply = self._read()
      if reply.get('id') == number:
        if 'error' in reply:
          raise RuntimeError(reply['error'])
        return reply['result']
      if reply.get('method') == 'Runtime.exceptionThrown':
        self.errors.append(reply['params']['exceptionDetails'])
      if reply.get('method') == 'Log.entryAdded':
        self.errors.append(reply['params']['entry'])

  def _read(self):
    while b'\0' not in self._buffer:
      left = self._deadline - time.monotonic()
      if left <= 0 or not select.select([self._from], [], [], left)[0]:
        raise TimeoutError('Chromium does not answer')
      self._buffer += os.read(self._from, 1 << 20)
    message, _, self._buffer = self._buffer.partition(b'\0')
    return json.loads(message)

  def size(self, width, height, dark=False):
    self.call(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=False,
    )
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark'}
    self.call('Emulation.setEmulatedMedia', features=[scheme] if dark else [])

  def open(self, url):
    self.call('Page.navigate', url=url)
    while self.run('document.readyState') != 'complete':
      time.sleep(0.05)
    self.settle()

  def run(self, script):
    """The value of an expression, awaited."""
    result = self.call(
      'Runtime.evaluate',
      expression=script,
      awaitPromise=True,
      returnByValue=True,
    )
    if 'exceptionDetails' in result:
      raise RuntimeError(result['exceptionDetails'])
    return result['result'].get('value')

  def settle(self):
    """Waits until what was asked for is drawn."""
    self.run(
      'new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))'
    )

  def press(self, *keys):
    for key in keys:
      self.call('Input.dispatchKeyEvent', type='keyDown', key=key, text=key)
      self.call('Input.dispatchKeyEvent', type='keyUp', key=key)
    self.settle()

  def screenshot(self, path):
    data = self.call('Page.captureScreenshot', format='png')['data']
    with open(path, 'wb') as file:
      file.write(base64.b64decode(data))


@contextlib.contextmanager
def page(folder, seconds=240):
  """A tab of a browser of its own, whose profile goes to the folder."""
  to_read, to_write = os.pipe()
  from_read, from_write = os.pipe()
  command = ' '.join((PATH, *_FLAGS, f'--user-data-dir={folder}'))
  process = subprocess.Popen(
    ['bash', '-c', f'exec {command} 3<&{to_read} 4>&{from_write}'],
    pass_fds=(to_read, from_write),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  os.close(to_read)
  os.close(from_write)
  try:
    yield Page(to_write, from_read, seconds)
  finally:
    os.close(to_write)
    os.close(from_read)
    process.terminate()
    process.wait()
