"""A headless browser for tests: Chromium or Chrome, spoken to over two pipes, by the Chrome DevTools Protocol.

It needs no driver and no package; where there is no browser, tests skip. ``GANFLEET_BROWSER`` names one that is not on
the PATH. Debian's package ``chromium-headless-shell`` is the smallest.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WAIT = 120  # seconds for an answer: the machine may be busy


def find():
    """The browser's path; skips the test where there is none."""
    given = os.environ.get("GANFLEET_BROWSER")
    found = given or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no Chromium or Chrome on the PATH, and GANFLEET_BROWSER names none")
    return found


class Browser:
    """One page in a browser of its own. ``events`` are all that the browser has told so far, as (method, params)."""

    def __init__(self, width=1200, height=900, dark=False):
        self.events = []
        self._numbers = itertools.count(1)
        self._left = b""
        self._home = tempfile.TemporaryDirectory(prefix="ganfleet-browser-", ignore_cleanup_errors=True)
        to_browser, self._in = os.pipe()
        self._out, from_browser = os.pipe()

        def three_and_four():  # the numbers that the browser expects
            first, second = os.dup(to_browser), os.dup(from_browser)
            os.dup2(first, 3)
            os.dup2(second, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        self._process = subprocess.Popen(
            [find(), *flags, f"--user-data-dir={self._home.name}", "about:blank"],
            preexec_fn=three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._in)  # the browser ends when nobody speaks to it any more
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        self._home.cleanup()

    def call(self, method, **params):
        """What the browser answers."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        return self._until(lambda each: each.get("id") == number)

    def open(self, path):
        """Load the file at ``path``, to the end."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._until(lambda each: each.get("method") == "Page.loadEventFired")

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page, as JSON has it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code):
        """A key on the element that has the focus."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def move(self, x, y):
        """The pointer to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path, whole=True):
        """The page as a PNG, whole or as far as the window shows it."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def complaints(self):
        """What a console would show in red or yellow: errors, warnings and exceptions."""
        found = []
        for method, params in self.events:
            if method == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(params["args"])
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"])
        return found

    def requests(self):
        """The addresses that the page has asked for, but those that hold their own content."""
        asked = [params["request"]["url"] for method, params in self.events if method == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]

    def _until(self, wanted):
        """The next message that is ``wanted``; others are kept as events."""
        end = time.monotonic() + WAIT
        while True:
            message = json.loads(self._message(end))
            if "method" in message:
                self.events.append((message["method"], message["params"]))
            if wanted(message):
                assert "error" not in message, message["error"]
                return message.get("result")

    def _message(self, end):
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._out], [], [], max(0, end - time.monotonic()))
            more = os.read(self._out, 2**20) if ready else b""
            assert more, "the browser does not answer"
            self._left += more
        message, _, self._left = self._left.partition(b"\0")
        return message
