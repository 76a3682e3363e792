"""As much of the W3C WebDriver protocol as the tests need, spoken to Debian's chromedriver."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.ports import free_port

START_TIMEOUT_SECONDS = 30.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which the protocol hands out references to elements."""


def missing() -> list[str]:
    """The programs that are needed and not installed."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


class Browser:
    """One headless Chromium with one window."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 900) -> None:
        self._folder = folder
        self._size = (width, height)
        self._port = free_port()
        self._driver: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}", timeout=60, trust_env=False
        )
        self._session = ""

    def __enter__(self) -> Self:
        with (self._folder / "chromedriver.log").open("wb") as log:
            self._driver = subprocess.Popen(
                ["chromedriver", f"--port={self._port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                if self._http.get("/status").json()["value"]["ready"]:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "chromedriver does not answer"
            time.sleep(0.05)
        options = {
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                f"--window-size={self._size[0]},{self._size[1]}",
                f"--user-data-dir={self._folder / 'profile'}",
            ]
        }
        capabilities = {
            "alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
        }
        answer = self._http.post("/session", json={"capabilities": capabilities})
        assert answer.status_code == 200, answer.text
        self._session = answer.json()["value"]["sessionId"]
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session:
            self._http.delete(f"/session/{self._session}")
        self._http.close()
        if self._driver is not None:
            self._driver.terminate()
            self._driver.wait(10)

    def _call(self, path: str, **body: Any) -> Any:
        answer = self._http.post(f"/session/{self._session}/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._call("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self._call("execute/sync", script=script, args=list(arguments))

    def wait(self, script: str, timeout_seconds: float = 10.0) -> Any:
        """What a script returns as soon as that is true."""
        deadline = time.monotonic() + timeout_seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)
        return value

    def _element(self, selector: str) -> str:
        found = self._call("element", using="css selector", value=selector)
        return str(found[_ELEMENT])

    def click(self, selector: str) -> None:
        """Click on the first element of a CSS selector."""
        self._call(f"element/{self._element(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        """Type into the first element of a CSS selector."""
        self._call(f"element/{self._element(selector)}/value", text=text)

    def console(self) -> list[str]:
        """What the page complained about since the last time it was asked."""
        return [
            entry["message"]
            for entry in self._call("se/log", type="browser")
            if entry["level"] in ("WARNING", "SEVERE")
        ]

    def requests(self) -> list[str]:
        """The address of every request since the last time it was asked."""
        found = []
        for entry in self._call("se/log", type="performance"):
            message = httpx.Response(200, text=entry["message"]).json()["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(str(message["params"]["request"]["url"]))
        return found
