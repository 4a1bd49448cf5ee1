"""
The status page in a real browser: a peer downloads from a throttled parent, both real processes, while headless
Chromium shows its page.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dragonfly_vortex.wire import PieceKind
from test.browser import DESKTOP, PHONE, Browser, Orders, status_url, why_no_browser, write_peer
from test.processes import Daemon, import_file

PIECE_LENGTH, PIECES, FEW = 32 * 1024, 600, 4

UNKNOWN = "ab" * 32
"""A task that no peer has."""

CARD = "[...document.querySelectorAll('.task')].find((card) => card.textContent.includes(arguments[0]))"
"""The card of a task."""

SHARE = f"parseFloat({CARD}?.querySelector('.share').textContent) || 0"
"""How much of a task is there, in percent."""

FILLED = f"""
((canvas, name) => {{
    const items = [...canvas.closest('.task').querySelectorAll('.legend li')];
    const chip = items.find((item) => item.textContent.includes(name)).querySelector('.chip');
    const wanted = getComputedStyle(chip).backgroundColor.match(/\\d+/g).slice(0, 3).join();
    const copy = Object.assign(document.createElement('canvas'), {{ width: canvas.width, height: canvas.height }});
    const brush = copy.getContext('2d', {{ willReadFrequently: true }});
    brush.drawImage(canvas, 0, 0);
    const data = brush.getImageData(0, 0, copy.width, copy.height).data;
    let count = 0;
    for (let at = 0; at < data.length; at += 4) count += data.slice(at, at + 3).join() === wanted;
    return count;
}})({CARD}.querySelector('canvas'), arguments[1])
"""
"""How many pixels of a task's map have the colour of a parent."""


RECORD_NEWS = """
window.said = [];
const news = document.getElementById('news');
new MutationObserver(() => window.said.push(news.textContent)).observe(news, { childList: true });
"""
"""Have all that a screen reader is to say kept: each text takes the place of the one before."""


class StatusPageTests(SynchronousTestCase):
    """A parent that gives little at a time, a peer that fetches from it, and the peer's page."""

    timeout = 180

    def setUp(self) -> None:
        missing = why_no_browser()
        if missing:
            raise SkipTest(missing)
        directory = tempfile.TemporaryDirectory(prefix="dfs")  # a socket's path must be short
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def start(self, name: str, **settings: str) -> Daemon:
        """A peer that is killed in the end."""
        write_peer(self.directory / name, **settings)
        return self.run_peer(name)

    def run_peer(self, name: str) -> Daemon:
        """Start a peer whose configuration is there."""
        peer = Daemon(self.directory / name)
        self.addCleanup(peer.kill_if_running)
        return peer.wait_until_serving()

    def imported(self, name: str, pieces: int) -> str:
        """Import a file of so many pieces into the storage of a peer; the task ID."""
        file = self.directory / "model.bin"
        file.write_bytes(os.urandom(PIECE_LENGTH * pieces - 1))
        return import_file(
            file, directory=self.directory / name, kind=PieceKind.PERSISTENT_CACHE, piece_length=PIECE_LENGTH
        )

    def open(self, url: str) -> Browser:
        """A browser that shows a page, once its first event is there."""
        from selenium.common.exceptions import SessionNotCreatedException

        try:
            browser = Browser()
        except SessionNotCreatedException as error:  # such as Chromium and its driver of two versions
            raise SkipTest(f"chromium does not start: {error.msg}") from error
        self.addCleanup(browser.driver.quit)
        browser.resize(DESKTOP)
        browser.prefer(prefers_reduced_motion="reduce")  # both processors may be busy
        browser.driver.get(url)
        browser.wait(lambda: browser.ask("document.getElementById('link').textContent") == "live")
        browser.driver.execute_script(RECORD_NEWS)
        return browser

    def test_download(self) -> None:
        """
        While a task is downloaded its map fills, the parent is named with its rate, what is waited for has a name, and
        the page asks for nothing elsewhere, at the width of a desktop and of a phone, in light and dark.
        """
        write_peer(self.directory / "parent", upload="bandwidth_limit: 200kB")
        task_id, small = self.imported("parent", PIECES), self.imported("parent", FEW)
        parent = self.run_peer("parent")
        name = parent.grpc_parent
        peer = self.start("peer", parents=name)
        url = status_url(peer)
        browser = self.open(url)
        self.assertEqual(browser.ask("document.querySelectorAll('.task').length"), 0)
        with Orders(self.directory / "peer") as orders:
            orders.download(task_id)
            orders.download(small)
            self.see_it_fill(browser, task_id, name)
            self.see_waits(browser, orders, name)
            self.see_no_breach(browser)
            browser.wait(lambda: "complete" in browser.ask(f"{CARD}.textContent", small))
        self.assertEqual(browser.complaints(), [])
        elsewhere = [asked for asked in browser.requested() if not asked.startswith((url, "data:", "chrome:"))]
        self.assertEqual(elsewhere, [])

    def see_it_fill(self, browser: Browser, task_id: str, parent: str) -> None:
        """The map has more of the parent's colour later than before, and the numbers grow."""
        share = partial(browser.ask, SHARE, task_id)
        filled = partial(browser.ask, FILLED, task_id, parent)
        first = browser.wait(share)
        before = filled()
        browser.wait(lambda: share() > first + 2)
        browser.wait(lambda: filled() > before + 400)
        self.assertRegex(browser.ask(f"{CARD}.querySelector('.rate').textContent", task_id), r"B/s$")
        browser.wait(lambda: "gives" in text(browser, "#swarm-table tbody"))

    def see_waits(self, browser: Browser, orders: Orders, parent: str) -> None:
        """What another download waits for is named, and said to a screen reader."""
        ended = [orders.download(UNKNOWN)]

        def is_shown() -> bool:
            if ended[-1].is_set():  # it waits for half a minute, and a busy machine may show nothing for longer
                ended.append(orders.download(UNKNOWN))
            return "does not have the task" in text(browser, "#waits") and parent in text(browser, "#waits")

        browser.wait(is_shown)
        browser.wait(lambda: "Waiting: " in " ".join(browser.ask("window.said")))
        together = [{"parent": name, "text": "has sent nothing for 7 s", "at": 0} for name in ("a", "b", "c")]
        shown = "(showWaits([{ waits: arguments[0], name: 'file' }], 5), document.getElementById('waits').textContent)"
        self.assertIn("each of a, b, c has sent nothing for 7 s", browser.ask(shown, together))

    def see_no_breach(self, browser: Browser) -> None:
        """No width scrolls sideways, and axe-core finds nothing in light or dark."""
        browser.ask("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        for scheme, size in (("light", PHONE), ("dark", DESKTOP)):
            browser.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
            browser.resize(size)
            wide = browser.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            self.assertEqual(wide, 0, (scheme, size))
            self.assertEqual(breaches(browser), [], (scheme, size))


def text(browser: Browser, selector: str) -> str:
    """The text of the first element of the page that a selector finds; empty where there is none."""
    return str(browser.ask("document.querySelector(arguments[0])?.textContent ?? ''", selector))


def breaches(browser: Browser) -> list[Any]:
    """What axe-core finds on the page, in short."""
    import axe_core_python  # type: ignore[import-untyped]  # only its script is used

    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    browser.driver.execute_script(f"if (!window.axe) {{ {axe} }}")
    found = browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run().then((result) => done(result.violations), (error) => done([{ id: String(error), nodes: [] }]));"
    )
    return [(each["id"], [node["html"][:150] for node in each["nodes"][:3]]) for each in found]
