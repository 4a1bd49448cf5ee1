"""
What a parent and a child have in memory while many long pieces are under way at once: the kernel's VmHWM of real
processes, with gRPC loaded, over what the same processes need for next to nothing.

It is held that it does not grow with pieces, files or connections; and, with windows that are as long as a piece, that
this would be seen.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zlib
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.limits import Budget
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.wire import PieceKind, PieceMetadata, TrafficType
from test.processes import TWISTD, Daemon, peak_memory, write_config

_PARENT_GROWS = 20_000_000
_CHILD_GROWS = 30_000_000
"""Bytes that a parent and a child may grow by, over what they need when idle."""

_READING_THREADS = 4
"""Threads of a parent that wait for the disk."""

_TUNING = Path(__file__).resolve().parent.parent / "docs" / "tuning.md"

_PIECE_LENGTH = 64 * 1024 * 1024

_LONG = 32 * 1024 * 1024
"""Bytes of a piece that neither side may have in memory as a whole."""

_AT_ONCE = 32

_SHA256_OF_ALL = "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
"""Of so many pieces of zeros; to compute it would take as long as the download."""

_RUN = """
import sys
from importlib import import_module
windows, program = sys.argv[1].split(), sys.argv[2]
for window in windows:
    module, _, name = window.partition(":")
    getattr(import_module(module), name)  # there is one
    setattr(import_module(module), name, 64 << 20)
sys.argv = sys.argv[2:]
if program == "dfvortex":
    from dragonfly_vortex.cli import main
    status = main()
    print(open("/proc/self/status").read())
    sys.exit(status)
from twisted.scripts.twistd import run
run()
"""
"""One of the programs, with windows of 64 MiB where that is asked for."""

_CHILDS_WINDOWS = (
    "dragonfly_vortex.task.file_hash:_WINDOW",
    "dragonfly_vortex.transport.splice:_WINDOW",
)
"""Each line by itself."""

_PARENTS_WINDOWS = (
    "dragonfly_vortex.transport.sender:ONE_WRITE_LENGTH dragonfly_vortex.transport.sender:_MAX_UNFLUSHED"
    " dragonfly_vortex.transport.ratelimit:_MAX_STEP"
)
"""A piece is read as a whole where all three allow it."""


def _store_zeros(storage: Path, count: int, length: int) -> str:
    """Put a task of zeros into a storage, as a sparse file; gives its ID."""
    content, kind = Content(storage), PieceKind.STANDARD
    task_id = _SHA256_OF_ALL if count == _AT_ONCE else hashlib.sha256(bytes(count * length)).hexdigest()
    digest = f"crc32:{zlib.crc32(bytes(length))}"
    task = StoredTask(
        kind=kind, task_id=task_id, content_length=count * length, piece_length=length, created_at=1_700_000_000
    )
    pieces = [
        PieceMetadata(
            number=number,
            offset=number * length,
            length=length,
            digest=digest,
            parent_id="",
            traffic_type=TrafficType.REMOTE_PEER,
            cost=0,
            created_at=task.created_at,
        )
        for number in range(count)
    ]
    with Catalog(storage) as catalog, content.stage() as staged, content.lock():
        os.ftruncate(staged.descriptor, count * length)
        content.publish(staged, kind, task_id)
        catalog.put_task(task, pieces)
    return task_id


class FormulaTests(SynchronousTestCase):
    """The parts of which the documents say that memory consists."""

    def test_parts(self) -> None:
        """Each has the length that it has in the code, and for 32 connections they stay within what a side may have."""
        parts = re.findall(
            r"^\| (parent|child) \|.*\| ([\d,]+) (KiB|MiB) \| (.*) \| `dragonfly_vortex\.([\w.]+)\.(\w+)` \|$",
            _TUNING.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        total = {"parent": 0, "child": 0}
        for side, number, unit, each, module, name in parts:
            length = int(number) << {"KiB": 10, "MiB": 20}[unit]
            self.assertEqual(getattr(import_module(f"dragonfly_vortex.{module}"), name), length, name)
            total[side] += (
                length * {"connection": _AT_ONCE, "thread": _READING_THREADS, "hashing thread": 2, "process": 1}[each]
            )
        self.assertEqual(len(parts), 6)
        self.assertLess(total["parent"], _PARENT_GROWS)
        self.assertLess(total["child"], _CHILD_GROWS)


class MessageTests(SynchronousTestCase):
    """Over gRPC a piece is one message, and so in memory as a whole."""

    def test_most(self) -> None:
        """Of pieces of 64 MiB four are under way at once, from several parents, and for several children."""
        child = GRPCSettings(reactor=cast(IRPCReactor, Clock())).budget
        for budget in (child, Budget(fair=True)):
            entered: list[str] = []
            owners = ["one"] * 3 + ["two"] * 2 + ["three"] * 2 + ["four"]
            places = [budget.enter(_PIECE_LENGTH, partial(entered.append, owner), owner) for owner in owners]
            self.assertEqual((len(entered), budget.taken), (4, 256 * 1024 * 1024))
            places[0].leave()
            self.assertEqual((len(entered), budget.taken), (5, 256 * 1024 * 1024))


class MemoryTests(SynchronousTestCase):
    """A parent and its children."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.addCleanup(shutil.rmtree, self.directory)
        self.nothing = _store_zeros(self.directory / "data", 1, 100)

    def parent(self, windows: str = "") -> Daemon:
        """A parent that opens both doors."""
        return Daemon(self.directory, command=[sys.executable, "-c", _RUN, windows, *TWISTD])

    def fetch(self, task_id: str, parent: str, windows: str = "") -> int:
        """Fetch a task over TCP; gives the child's peak, in bytes."""
        command = [sys.executable, "-c", _RUN, windows, "dfvortex", "download", task_id, "--parent", parent]
        ran = subprocess.run(
            [
                *(*command, "--protocol", "tcp", "--concurrency", str(_AT_ONCE)),
                *("--output", "out", "--overwrite", "--no-sync"),
            ],
            cwd=self.directory,
            capture_output=True,
            text=True,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        (kilobytes,) = re.findall(r"(?m)^VmHWM:\s+(\d+) kB$", ran.stdout)
        return int(kilobytes) * 1024

    def test_many_long_pieces(self) -> None:
        """While 32 pieces of 32 MiB come at once, a parent grows by 20 MB at the most and a child by 30."""
        task_id = _store_zeros(self.directory / "data", _AT_ONCE, _LONG)
        with self.parent() as parent:
            child_idle = self.fetch(self.nothing, parent.grpc_parent)
            parent_idle = peak_memory(parent.pid)
            child_peak = self.fetch(task_id, parent.grpc_parent)
            self.assertLess(child_peak, child_idle + _CHILD_GROWS)
            self.assertLess(peak_memory(parent.pid), parent_idle + _PARENT_GROWS)

    def test_long_windows(self) -> None:
        """With a window of 64 MiB each side grows by more than it may for a single piece: that would be seen."""
        task_id = _store_zeros(self.directory / "data", 1, _LONG)
        with self.parent(_PARENTS_WINDOWS) as parent:
            child_idle = self.fetch(self.nothing, parent.parent)
            parent_idle = peak_memory(parent.pid)
            for window in _CHILDS_WINDOWS:
                self.assertGreater(self.fetch(task_id, parent.parent, window), child_idle + _CHILD_GROWS, window)
            self.assertGreater(peak_memory(parent.pid), parent_idle + _PARENT_GROWS)
