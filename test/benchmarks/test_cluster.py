"""What is measured in a cluster of real programs, as far as it needs none of them."""

from __future__ import annotations

import contextlib
import io
import json
import time
import urllib.request
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import main
from benchmarks.cluster.__main__ import read, tables, write
from benchmarks.cluster.figures import FIGURES
from benchmarks.cluster.programs import origin
from benchmarks.cluster.trials import TRIALS
from benchmarks.machine import ROOT
from benchmarks.processes import free_port


class ReportTests(SynchronousTestCase):
    """What was found, in files."""

    def test_tables(self) -> None:
        """A page keeps its words around the tables, which have a row for each trial and figure, found or not."""
        docs = Path(self.mktemp())
        docs.mkdir()
        page = docs / "compatibility.md"
        page.write_text("before\n\n<!-- cluster: begin -->\nold\n<!-- cluster: end -->\nbehind\n", encoding="utf-8")
        kept = docs / "kept.json"
        found = read(kept)
        found["versions"] = {"dfdaemon": "1.5.10"}
        found["trials"][TRIALS[0].__name__] = ["works", "10 bytes"]
        found["figures"]["pairs"] = {"ours": [1.0, 2.0, 3.0], "real": [4.0, 4.0, 4.0], "load": [2.0, 1.0]}
        found["figures"]["fresh"] = {"failed": "no"}
        write(docs, found, kept)
        text = page.read_text(encoding="utf-8")
        self.assertTrue(text.startswith("before\n") and text.endswith("behind\n"))
        self.assertNotIn("old", text)
        self.assertIn("| works: 10 bytes |", text)
        self.assertIn("| 2.00 s | 4.00 s | 0.50 | 1.1 | 3, 1-2 |", text)
        self.assertEqual(text.count("\n| "), len(TRIALS) + len(FIGURES) + 2)
        self.assertEqual(read(kept), json.loads(kept.read_text(encoding="utf-8")))

    def test_as_kept(self) -> None:
        """The tables in ``docs/compatibility.md`` are those of what was found."""
        text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
        self.assertIn(tables(read()), text)


class CommandTests(SynchronousTestCase):
    """The command line."""

    def test_unknown(self) -> None:
        """A name that is none is a usage error, and nothing is started."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            self.assertEqual(main(["cluster", "--bin", ".", "nothing"]), 2)
        self.assertIn("got nothing", errors.getvalue())


class OriginTests(SynchronousTestCase):
    """The server that tasks come from."""

    def test_ranges(self) -> None:
        """It sends whole files and ranges, and writes down what it has sent."""
        place = Path(self.mktemp()).absolute()
        (place / "files").mkdir(parents=True)
        (place / "files" / "one").write_bytes(bytes(range(200)))
        port = free_port()
        with origin(port, place / "files", place / "log"):
            for wanted, expected in (("", bytes(range(200))), ("bytes=5-9", bytes(range(5, 10)))):
                request = urllib.request.Request(f"http://127.0.0.1:{port}/one?rate=1000")
                if wanted:
                    request.add_header("Range", wanted)
                with urllib.request.urlopen(request, timeout=120) as reply:
                    self.assertEqual(reply.read(), expected)
            # A line is written when its reply has been sent.
            lines: list[str] = []
            deadline = time.monotonic() + 120
            while len(lines) < 2 and time.monotonic() < deadline:
                lines = (place / "log").read_text(encoding="utf-8").splitlines() if (place / "log").exists() else []
        self.assertEqual(sorted(lines), ["GET /one 200", "GET /one 5"])
