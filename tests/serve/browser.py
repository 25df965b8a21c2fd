"""A headless Chromium driven by its own protocol over two pipes: no package, no port."""

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


class Browser:
    """One page of a browser.

    Args:
        profile: Folder for what the browser keeps.
        speech: WAV that its microphone plays.
    """

    def __init__(self, profile: Path, speech: Path | None = None):
        to_browser, self.out = os.pipe()
        self.into, from_browser = os.pipe()
        words = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
            "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}",
            "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", "--window-size=1200,1000",
        ]  # fmt: skip
        if speech is not None:
            words.append(f"--use-file-for-fake-audio-capture={speech}")

        def place() -> None:  # the browser reads file descriptor 3 and writes 4
            high = [os.dup(to_browser), os.dup(from_browser)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [*words, "about:blank"], pass_fds=(3, 4), preexec_fn=place, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self.numbers, self.waiting = itertools.count(1), b""
        self.seen: list[dict[str, Any]] = []
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session: str | None = None
        self.session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, seconds: float = 30, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come before it are kept in `seen`."""
        number = next(self.numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.read(0.5)
            if found is not None and found.get("id") == number:
                assert "error" not in found, f"{method}: {found}"
                return found["result"]
        raise AssertionError(f"{method}: no answer in {seconds} s")

    def read(self, seconds: float) -> dict[str, Any] | None:
        """Read one message."""
        while b"\0" not in self.waiting:
            if not select.select([self.into], [], [], seconds)[0]:
                return None
            block = os.read(self.into, 1 << 20)
            assert block, "the browser ended"
            self.waiting += block
        line, _, self.waiting = self.waiting.partition(b"\0")
        found = json.loads(line)
        if "method" in found:
            self.seen.append(found)
        return found

    def go(self, address: str) -> None:
        """Open an address."""
        self.ask("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page, waiting for promises."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str, seconds: float = 60) -> Any:
        """Wait until an expression is true."""
        for _ in range(int(seconds / 0.1)):
            if value := self.run(condition):
                return value
            time.sleep(0.1)
        raise AssertionError(f"never: {condition}; alert {self.run('document.getElementById(`alert`)?.textContent')!r}")

    def click(self, selector: str) -> None:
        """Click an element."""
        self.run(f"document.querySelector({selector!r}).click()")

    def text(self, selector: str) -> str:
        """Return an element's text."""
        return self.run(f"document.querySelector({selector!r}).textContent")

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        more = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code="Space" if key == " " else key,
                     windowsVirtualKeyCode=code, **(more if kind == "keyDown" else {}))  # fmt: skip

    def choose_files(self, selector: str, paths: list[Path]) -> None:
        """Choose files in a file input."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def complaints(self) -> list[str]:
        """Return errors of scripts and of the security policy so far."""
        while self.read(0.05) is not None:
            pass
        found = [event["params"] for event in self.seen if event["method"] == "Log.entryAdded"]
        thrown = [json.dumps(e["params"])[:500] for e in self.seen if e["method"] == "Runtime.exceptionThrown"]
        entries = [params["entry"] for params in found if params["entry"]["level"] == "error"]
        return thrown + [f"{entry['text']} {entry.get('url', '')}" for entry in entries]

    def addresses(self) -> list[str]:
        """Return every address that was asked for."""
        requests = [e["params"]["request"]["url"] for e in self.seen if e["method"] == "Network.requestWillBeSent"]
        return [url for url in requests if not url.startswith(("data:", "blob:", "about:"))]

    def close(self) -> None:
        """End the browser and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait(10)
        os.close(self.out)
        os.close(self.into)


@contextlib.contextmanager
def browsing(profile: Path, speech: Path | None = None) -> Iterator[Browser]:
    """Run a browser until the block ends."""
    browser = Browser(profile, speech)
    try:
        yield browser
    finally:
        browser.close()
