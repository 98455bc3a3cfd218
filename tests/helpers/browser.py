"""A page in headless Chromium: what it asks for, says and shows.

Speaks the DevTools protocol through a pipe, so the standard library suffices.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
#: Pairs of texts whose rectangles overlap by more than a pixel, and texts that are cut.
OVERLAPS = """
(() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.textContent.trim()) continue;
    // What scrolls out of a box of its own is hidden, not overlapping.
    const box = node.parentElement.closest('.scroll');
    const clip = box ? box.getBoundingClientRect() : null;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) {
      const bottom = clip ? Math.min(r.bottom, clip.bottom) : r.bottom;
      const top = clip ? Math.max(r.top, clip.top) : r.top;
      // A sticky head lies over the rows that scroll under it.
      const isHead = node.parentElement.closest('th') !== null;
      if (bottom - top > 1 && !isHead)
        found.push([r.left, top, r.right, bottom, node.textContent.trim()]);
    }
  }
  const pairs = [];
  for (let i = 0; i < found.length; i++)
    for (let j = i + 1; j < found.length; j++) {
      const [a, b] = [found[i], found[j]];
      const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
      const high = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
      if (wide > 1 && high > 1) pairs.push([a[4], b[4]]);
    }
  return pairs;
})()
"""
FACTS = """
({width: document.documentElement.scrollWidth,
  height: document.documentElement.scrollHeight,
  broken: [...document.images].filter(i => !i.naturalWidth).length,
  images: document.images.length})
"""


class Seen(NamedTuple):
    """What a browser saw of a page.

    Attributes:
        requests: addresses that the page asked for, without those inside of itself.
        messages: errors and warnings of the console.
        overlaps: pairs of texts that lie on each other.
        facts: width and height of the page, images and how many are broken.
    """

    requests: list[str]
    messages: list[str]
    overlaps: list[list[str]]
    facts: dict


def browse(page, picture, width=1200) -> Seen:
    """Open a file, write a picture (PNG) of the whole page; skips without a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f'no browser: none of {", ".join(BROWSERS)} is on the PATH')
    with _DevTools(browser, Path(picture).parent / 'profile') as tools:
        for domain in ('Page', 'Network', 'Runtime', 'Log'):
            tools.call(f'{domain}.enable')
        tools.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        address = Path(page).resolve().as_uri()
        tools.call('Page.navigate', url=address)
        tools.wait_for('Page.loadEventFired')
        facts = tools.evaluate(FACTS)
        overlaps = tools.evaluate(OVERLAPS)
        clip = dict(x=0, y=0, width=width, height=facts['height'], scale=1)
        shot = tools.call(
            'Page.captureScreenshot', captureBeyondViewport=True, clip=clip
        )
        Path(picture).write_bytes(base64.b64decode(shot['data']))
    asked = [
        event['params']['request']['url']
        for event in tools.events
        if event['method'] == 'Network.requestWillBeSent'
    ]
    messages = [
        json.dumps(event['params'])
        for event in tools.events
        if event['method']
        in ('Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded')
    ]
    requests = [a for a in asked if a != address and not a.startswith('data:')]
    return Seen(requests, messages, overlaps, facts)


class _DevTools:
    """Commands to a browser and the events it sends in between."""

    def __init__(self, browser, profile, timeout=400):
        self._deadline = time.monotonic() + timeout
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        arguments = [
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--disable-dev-shm-usage',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            f'--user-data-dir={profile}',
            '--remote-debugging-pipe',
        ]
        # The protocol's pipes are file descriptors 3 and 4. Not `sh`: some of its
        # kinds know no descriptor above 9.
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ['bash', '-c', shell, 'bash', browser, *arguments],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.events, self._answers, self._rest, self._number = [], {}, b'', 0
        self._session = None

    def __enter__(self):
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call(
            'Target.attachToTarget', targetId=target, flatten=True
        )['sessionId']
        return self

    def __exit__(self, *error):
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method, **params):
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session is not None:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while self._number not in self._answers:
            self._receive()
        answer = self._answers.pop(self._number)
        if 'error' in answer:
            raise RuntimeError(f'{method}: {answer["error"]}')
        return answer['result']

    def evaluate(self, expression):
        result = self.call(
            'Runtime.evaluate', expression=expression, returnByValue=True
        )
        if 'exceptionDetails' in result:
            raise RuntimeError(result['exceptionDetails'])
        return result['result']['value']

    def wait_for(self, method):
        while not any(event['method'] == method for event in self.events):
            self._receive()

    def _receive(self):
        left = self._deadline - time.monotonic()
        ready = select.select([self._read], [], [], max(left, 0))[0]
        data = os.read(self._read, 1 << 20) if ready else b''
        if not data:
            raise RuntimeError('the browser does not answer')
        *messages, self._rest = (self._rest + data).split(b'\0')
        for message in map(json.loads, messages):
            if 'id' in message:
                self._answers[message['id']] = message
            else:
                self.events.append(message)
