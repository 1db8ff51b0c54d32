"""A real Chromium, headless, driven over its debugging pipe: no driver, no socket, no further package."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
KEYS = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Escape": 27, "/": 191}
KEYS |= {"Tab": 9, " ": 32} | {digit: 48 + int(digit) for digit in "0123456789"}
PATIENCE = 120  # seconds; a machine under load is no failure


def binary() -> str | None:
    """Chromium on this machine, under any of its names."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


class Browser:
    """One tab. Everything it asks the network for is noted in `requests`; what its console complains of, and what its
    scripts throw, in `complaints`."""

    def __init__(self, profile: Path):
        (to_r, self._to), (self._from, from_w) = os.pipe(), os.pipe()
        self._process = subprocess.Popen(
            [str(binary()), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=lambda: (os.dup2(to_r, 200), os.dup2(from_w, 201), os.dup2(200, 3), os.dup2(201, 4)),
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_r), os.close(from_w)
        self._left, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.says_yes = True  # to what a page asks (confirm)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        asked = self._post(method, **params)
        while (reply := self._next()).get("id") != asked:
            self._note(reply)
        assert "error" not in reply, f"{method}: {reply.get('error')}"
        return dict(reply["result"])

    def _post(self, method: str, **params: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(
            self._to, json.dumps(message | ({"sessionId": self._session} if self._session else {})).encode() + b"\0"
        )
        return self._number

    def open(self, address: str) -> None:
        """Loads a page and waits until its scripts have run."""
        self.call("Page.navigate", url="about:blank")  # so that a change of the fragment alone loads again
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Waits until an expression holds."""
        end = time.monotonic() + PATIENCE
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def key(self, name: str) -> None:
        code = KEYS[name]
        text = {"text": "\r"} if name == "Enter" else {"text": name} if len(name) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=name,
                code=name,
                windowsVirtualKeyCode=code,
                **(text if kind == "keyDown" else {}),
            )

    def write(self, text: str) -> None:
        """Text into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """A real click in the middle of the first element that fits."""
        self.js(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.js(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """An option of a select, as a reader's choice."""
        self.js(
            f"(() => {{ const s = document.querySelector({selector!r}); s.value = {value!r};"
            " s.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def look(self, width: int, height: int, dark: bool) -> None:
        """The size and the colour scheme of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, to: Path, whole: bool = False) -> None:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        to.write_bytes(base64.b64decode(picture))

    def close(self) -> None:
        self._session = ""
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._to), os.close(self._from)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._from, 1 << 20)
            assert more, "Chromium has gone"
            self._left += more
        reply, self._left = self._left.split(b"\0", 1)
        return dict(json.loads(reply))

    def _note(self, reply: dict[str, Any]) -> None:
        if reply.get("method") == "Network.requestWillBeSent":
            self.requests.append(reply["params"]["request"]["url"])
        if reply.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(reply["params"]["exceptionDetails"]))
        if reply.get("method") == "Log.entryAdded" and reply["params"]["entry"]["level"] == "error":
            self.complaints.append(f"{reply['params']['entry']['text']} ({reply['params']['entry'].get('url')})")
        if reply.get("method") == "Runtime.consoleAPICalled" and reply["params"]["type"] in ("error", "assert"):
            self.complaints.append(str(reply["params"]["args"]))
        if reply.get("method") == "Page.javascriptDialogOpening":  # a question stops the page until it is answered
            self._post("Page.handleJavaScriptDialog", accept=self.says_yes)
        if reply.get("method") == "Log.entryAdded" and reply["params"]["entry"]["level"] == "error":
            self.complaints.append(str(reply["params"]["entry"]))
