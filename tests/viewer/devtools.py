"""A headless Chromium that tests click and type in, over its DevTools protocol.

Selenium or Playwright would bring drivers of their own; a websocket is enough, and Bokeh brings
one with Tornado.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tornado.websocket import WebSocketClientConnection, websocket_connect

T = TypeVar("T")

_SECONDS = 60.0
_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35}


def find_chromium() -> str | None:
    """Chromium's name here, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((name for name in names if shutil.which(name)), None)


class Browser:
    """One page of a Chromium of its own; close it, or use it in a ``with``."""

    def __init__(self, chromium: str, profile: Path, size: tuple[int, int] = (1400, 900)) -> None:
        self._process = subprocess.Popen(
            [
                chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--disable-background-networking", "--remote-debugging-port=0", "--no-first-run",
                f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self.requests: list[str] = []
        self.problems: list[str] = []
        try:
            port = wait_for(lambda: _port(profile), "Chromium's port")
            pages = wait_for(lambda: _pages(port), "a page")
            self._socket = self._loop.run_until_complete(_connect(pages[0]))
            for domain in ("Page", "Network", "Runtime", "Log"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End Chromium."""
        self._process.kill()
        self._process.wait()
        self._loop.close()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; events that come before its answer are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}

        async def exchange() -> dict[str, Any]:
            await self._socket.write_message(json.dumps(message))
            while True:
                text = await self._socket.read_message()
                assert text is not None, "Chromium has ended"
                answer: dict[str, Any] = json.loads(text)
                if answer.get("id") == self._number:
                    return answer
                self._note(answer)

        answer = self._loop.run_until_complete(asyncio.wait_for(exchange(), _SECONDS))
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(about["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.problems.append(about["entry"]["text"])

    def open(self, url: str, ready: str) -> None:
        """Go to a page and wait until an expression is true there."""
        self.send("Page.navigate", url=url)
        wait_for(lambda: self.value(ready), ready)

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression, or of what it promises."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
        if len(key) == 1:
            about["text"] = key
        self.send("Input.dispatchKeyEvent", type="keyDown", **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector: str, across: float = 0.5) -> None:
        """Click on an element, at a share of its width."""
        x, y = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'nearest'}); const b = e.getBoundingClientRect();"
            f" return [b.x + {across} * b.width, b.y + b.height / 2]; }})()"
        )
        self.drag((x, y), (x, y))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place and let go at another."""
        for kind, (x, y) in (
            ("mouseMoved", start), ("mousePressed", start), ("mouseMoved", end),
            ("mouseReleased", end),
        ):  # fmt: skip
            self.send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1, buttons=1,
                button="none" if kind == "mouseMoved" and end == start else "left",
            )  # fmt: skip

    def wheel(self, at: tuple[float, float], turn: float) -> None:
        """Turn the wheel of the mouse; below 0 is away from the user."""
        self.send(
            "Input.dispatchMouseEvent", type="mouseWheel", x=at[0], y=at[1], deltaX=0, deltaY=turn
        )

    def look(self, width: int = 1400, height: int = 900, **media: str) -> None:
        """Take a window's size, and media such as ``scheme="dark"`` or ``kind="print"``."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": media.get("scheme", "light")}
        self.send("Emulation.setEmulatedMedia", media=media.get("kind", ""), features=[scheme])

    def picture(self) -> NDArray[np.uint8]:
        """What the page shows, (h, w, 3)."""
        data = base64.b64decode(self.send("Page.captureScreenshot")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def wait_for(attempt: Callable[[], T], what: str, seconds: float = _SECONDS) -> T:
    """Try until something true comes back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := attempt():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s for {what}")


def _port(profile: Path) -> int | None:
    try:
        return int((profile / "DevToolsActivePort").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _pages(port: int) -> list[str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            return [p["webSocketDebuggerUrl"] for p in json.load(answer) if p["type"] == "page"]
    except OSError:
        return []


async def _connect(url: str) -> WebSocketClientConnection:
    return await websocket_connect(url, max_message_size=100_000_000)
