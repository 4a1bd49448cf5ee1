"""
Takes the pictures of docs/status-page.md: real peers, one of which fetches a task from four throttled parents and gives
it to two children, in headless Chromium at the size of a phone and of a desktop, in light and dark.

    python docs/screenshots.py [DIRECTORY]
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from PIL import Image  # as matplotlib of the extra bench brings it

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dragonfly_vortex.storage.importer import import_file  # noqa: E402
from dragonfly_vortex.wire import PieceKind  # noqa: E402
from test.browser import DESKTOP, PHONE, Browser, Orders, status_url, write_peer  # noqa: E402
from test.processes import Daemon  # noqa: E402

LIMITS = ("600kB", "400kB", "300kB", "140kB")
"""Bytes per second of each parent."""

SHARE = "parseFloat(document.querySelector('.task[data-state=running] .share')?.textContent)"
"""How much of the task is there, in percent."""


def main(directory: Path) -> None:
    """Take all pictures into a directory."""
    with tempfile.TemporaryDirectory(prefix="dfs") as place, ExitStack() as running:
        here = Path(place)
        tasks = [make(here, size, name) for size, name in ((170_000_000, "weights.bin"), (4_000_000, "tokenizer.bin"))]
        parents = [parent(running, here, number, limit, tasks) for number, limit in enumerate(LIMITS)]
        write_peer(here / "peer", parents=", ".join(parents), more="host: {hostname: peer-1.example}\n")
        peer = running.enter_context(Daemon(here / "peer"))
        orders = running.enter_context(Orders(here / "peer"))
        orders.download(tasks[1][1]).wait(60)
        orders.download(tasks[0][1])
        for number in range(2):
            child = here / f"child{number}"
            write_peer(child, parents=f"grpc://127.0.0.1:{peer.grpc_port}")
            running.enter_context(Daemon(child))
            running.enter_context(Orders(child)).download(tasks[number][1])
        browser = running.enter_context(Browser())
        browser.resize(DESKTOP)
        browser.prefer(prefers_color_scheme="dark", prefers_reduced_motion="reduce")
        browser.driver.get(status_url(peer))
        browser.wait(lambda: browser.ask(f"{SHARE} > 35"))
        orders.download("ab" * 32)  # no parent has it
        browser.wait(lambda: browser.ask("document.querySelector('#waits li') !== null"))
        for scheme in ("dark", "light"):
            browser.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
            for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
                browser.resize(size, scale=1.5 if size is PHONE else 1.0)
                browser.ask("new Promise((done) => setTimeout(done, 1500))")
                (directory / f"status-page-{name}-{scheme}.png").write_bytes(picture(browser, size))


def make(here: Path, size: int, name: str) -> tuple[Path, str]:
    """A file, and the ID of its task."""
    file = here / name
    file.write_bytes(os.urandom(size))
    with file.open("rb") as content:
        return file, hashlib.file_digest(content, "sha256").hexdigest()


def parent(running: ExitStack, here: Path, number: int, limit: str, tasks: list[tuple[Path, str]]) -> str:
    """A parent that has all tasks, and gives so many bytes per second; its address."""
    directory = here / f"parent{number}"
    write_peer(directory, upload=f"bandwidth_limit: {limit}")
    for file, _ in tasks:
        import_file(file, directory / "data", PieceKind.PERSISTENT_CACHE, 512 * 1024)
    return running.enter_context(Daemon(directory)).grpc_parent


def picture(browser: Browser, size: tuple[int, int]) -> bytes:
    """The upper part of the page as a PNG."""
    height = min(browser.ask("document.documentElement.scrollHeight"), 1500 if size is DESKTOP else 1750)
    clip = {"x": 0, "y": 0, "width": size[0], "height": height, "scale": 1}
    shot = browser.command("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB").quantize(128).save(
        small, "png", optimize=True
    )
    return small.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
