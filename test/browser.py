"""A real browser, headless Chromium, that a test looks at a page with; and peers that it looks at."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from dragonfly_api import dfdaemon_pb2

from dragonfly_vortex.rpc.methods import LOCAL_SERVICE
from test.processes import Daemon, write_config

__all__ = ["DESKTOP", "PHONE", "Browser", "Orders", "status_url", "why_no_browser", "write_peer"]

DESKTOP, PHONE = (1280, 900), (390, 844)
"""Width and height of a window, in pixels."""

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-default-apps", "--no-first-run"),
)


def why_no_browser() -> str:
    """What is missing for a browser; empty where nothing is."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed (the extra browser)"
    if shutil.which("chromedriver") is None or not any(map(shutil.which, _PROGRAMS)):
        return "chromium and chromedriver are not installed"
    return ""


class Browser:
    """A window of Chromium. As a context manager it is closed in the end."""

    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = next(filter(None, map(shutil.which, _PROGRAMS)))
        for flag in _FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.driver: Any = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(110)  # selenium itself waits for 120 s

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.driver.quit()

    def resize(self, size: tuple[int, int], *, scale: float = 1.0) -> None:
        """Show the page as on a screen of that many pixels; a narrow one is that of a phone."""
        is_phone = size[0] < 600
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=size[0], height=size[1], deviceScaleFactor=scale, mobile=is_phone,
        )  # fmt: skip

    def prefer(self, **features: str) -> None:
        """Set the user's preferences, such as ``prefers_color_scheme="dark"``."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=named)

    def command(self, name: str, **parameters: object) -> Any:
        """Have Chromium's developer tools do something."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def ask(self, expression: str, *arguments: object) -> Any:
        """The value of an expression of JavaScript on the page."""
        return self.driver.execute_script(f"return {expression.strip()}", *arguments)

    def wait(self, condition: Callable[[], Any], seconds: float = 120.0) -> Any:
        """Wait until a condition is true; its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.1).until(lambda _: condition())

    def complaints(self) -> list[str]:
        """What the console says since the last question: errors, warnings, breaches of the policy."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """The URLs that the page has asked for since the last question."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            str(event["params"]["request"]["url"]) for event in events if event["method"] == "Network.requestWillBeSent"
        ]


def write_peer(directory: Path, *, parents: str = "", upload: str = "", more: str = "") -> None:
    """Write the configuration of a peer with a local door at ``peer.sock``."""
    directory.mkdir(parents=True)
    download = f"download: {{parents: [{parents}], server: {{socket_path: {directory}/peer.sock}}}}\n"
    write_config(directory, upload=upload, more=download + more)


def status_url(peer: Daemon) -> str:
    """The status page of a peer."""
    port = peer.wait_for(r"serving metrics on .*port=(\d+)")[1]
    return f"http://127.0.0.1:{port}/"


class Orders:
    """
    Has a peer download tasks, by its local door. As a context manager it takes back what has not ended.

    :param directory: of the peer.
    """

    def __init__(self, directory: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{directory}/peer.sock")
        self._calls: list[Any] = []

    def __enter__(self) -> Orders:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for call in self._calls:
            call.cancel()
        self._channel.close()

    def download(self, task_id: str) -> threading.Event:
        """Order a task; the event is set when all of it is there, or cannot be had."""
        method = self._channel.unary_stream(
            f"/{LOCAL_SERVICE}/DownloadPersistentCacheTask",
            dfdaemon_pb2.DownloadPersistentCacheTaskRequest.SerializeToString,
            dfdaemon_pb2.DownloadPersistentCacheTaskResponse.FromString,
        )
        call = method(dfdaemon_pb2.DownloadPersistentCacheTaskRequest(task_id=task_id), wait_for_ready=True)
        self._calls.append(call)
        ended = threading.Event()

        def read() -> None:
            try:
                for _ in call:
                    pass
            except grpc.RpcError:
                pass  # the page shows why
            ended.set()

        threading.Thread(target=read, daemon=True).start()
        return ended
