"""Tests of the storage as the rest of a peer sees it: a real reactor, a real thread, real files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageError, StorageFailure
from dragonfly_vortex.interfaces import IHotPieceStore, ITaskStore
from dragonfly_vortex.model import OpenPiece, StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor import collecting
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.storage.version import CatalogVersion
from dragonfly_vortex.threads import DaemonThreadPool
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.storage.changer import Changer
from test.storage.contents import content_of, put_in_two_kinds

KIND = PieceKind.STANDARD
CONTENT = content_of(2500)
TASK = StoredTask(
    kind=KIND,
    task_id=hashlib.sha256(CONTENT).hexdigest(),
    content_length=2500,
    piece_length=1000,
    created_at=1_700_000,
    digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
)

_IMPORTER = """
import pathlib, sys
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.wire import PieceKind
import_file(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), PieceKind.STANDARD, 1000)
"""

_FORGETFUL = """
import pathlib, sys
from twisted.internet import reactor
from twisted.internet.task import react
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire import PieceKind
async def main(reactor):
    store = PieceStore(pathlib.Path(sys.argv[1]), reactor)
    await store.start()
    await store.write_task(PieceKind.STANDARD, "a-task").open()
    if sys.argv[2] == "raise":
        raise ZeroDivisionError
react(main)
"""


def metadata_of(number: int) -> PieceMetadata:
    """A piece's row, as a child would have it from a parent."""
    data = CONTENT[number * 1000 : number * 1000 + 1000]
    return PieceMetadata(
        number=number,
        offset=number * 1000,
        length=len(data),
        digest=f"crc32:{zlib.crc32(data)}",
        parent_id="a-parent",
        cost=2,
        created_at=1_600_000,
    )


def read(piece: OpenPiece) -> bytes:
    """The bytes that were handed out; the descriptor is closed."""
    descriptor, offset, length = piece.range
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def descriptors(within: str = "/content/") -> set[str]:
    """The files of a storage that this process has open: of its content, or others."""
    names = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
        if within in target:
            names.add(target)
    return names


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open no further file inside the block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(name) for name in os.listdir("/proc/self/fd"))
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in taken:
            os.close(descriptor)


class StoreCase(TestCase):
    """A store that is open, on a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = Path(self.mktemp())
        self.path.write_bytes(CONTENT)
        self.store = PieceStore(self.directory, IReactorFromThreads(reactor))
        self.addCleanup(self.store.stop)
        self.started = self.store.start()  # what a test asks waits for it

    def import_it(self) -> None:
        """Import the content, past the store."""
        import_file(self.path, self.directory, KIND, 1000)

    def import_elsewhere(self) -> None:
        """Import the content, in another process."""
        subprocess.run([sys.executable, "-c", _IMPORTER, str(self.path), str(self.directory)], check=True)

    def stored_at(self) -> Path:
        """Where the task's content is."""
        return Content(self.directory).path(KIND, TASK.task_id)


def store_threads() -> list[str]:
    """The names of the threads that stores have; other threads of the process come and go."""
    return [thread.name for thread in threading.enumerate() if "-storage-" in thread.name]


class LifeTests(StoreCase):
    """From start to stop."""

    def test_provides(self) -> None:
        """The store provides its interface."""
        verifyObject(ITaskStore, self.store)

    def test_constructor(self) -> None:
        """A store that has not been started has made no file and no thread."""
        directory = Path(self.mktemp())
        before = set(threading.enumerate())
        PieceStore(directory, IReactorFromThreads(reactor))
        self.assertFalse(directory.exists())
        self.assertEqual(set(threading.enumerate()) - before, set())

    async def test_cannot_start(self) -> None:
        """A storage that cannot be opened has no thread, and refuses questions."""
        path = Path(self.mktemp())
        path.write_bytes(b"a file in the directory's place")
        before = set(threading.enumerate())
        store = PieceStore(path, IReactorFromThreads(reactor))
        with self.assertRaisesRegex(StorageFailure, "cannot open .*: .*File exists"):
            await store.start()
        self.assertEqual(set(threading.enumerate()) - before, set())
        with self.assertRaisesRegex(StorageFailure, "it is closed"):
            await store.get_task(KIND, TASK.task_id)

    async def test_no_thread(self) -> None:
        """Where the system starts no thread that is known when the store is started, and nothing is left."""

        def refuse(**arguments: object) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(DaemonThreadPool, "threadFactory", staticmethod(refuse))
        store = PieceStore(self.directory, IReactorFromThreads(reactor))
        self.failureResultOf(store.start(), RuntimeError)
        self.assertIsNone(self.successResultOf(store.stop()))

    async def test_forgotten(self) -> None:
        """A program that does not stop its store, or raises, ends; and the database is closed then."""
        await self.store.stop()
        for end in ("return", "raise"):
            command = [sys.executable, "-c", _FORGETFUL, str(self.directory), end]
            ran = await deferToThread(subprocess.run, command, capture_output=True, timeout=120)
            self.assertEqual(ran.returncode, int(end == "raise"), ran.stderr)
            self.assertEqual([path.name for path in self.directory.glob("catalog*")], ["catalog.sqlite3"])

    async def test_stop(self) -> None:
        """A stopped store has no thread, refuses questions, stops again, and starts again with what it had."""
        self.import_it()
        asked = self.store.get_task(KIND, TASK.task_id)
        self.assertEqual(len(store_threads()), 1)
        await self.store.stop()
        self.assertEqual(store_threads(), [])
        self.assertEqual(descriptors("catalog.sqlite3"), set())
        self.assertEqual((await asked).task_id, TASK.task_id)
        await self.store.stop()
        for question in (self.store.get_task(KIND, TASK.task_id), self.store.open_piece(KIND, TASK.task_id, 0)):
            with self.assertRaisesRegex(StorageFailure, "expected the storage .* to be open, it is closed"):
                await question
        await self.store.start()
        await self.store.start()
        self.assertEqual((await self.store.get_task(KIND, TASK.task_id)).task_id, TASK.task_id)

    async def test_hanging_disk(self) -> None:
        """A read that the disk does not answer is not waited for longer than a stop may take; later it does no harm."""
        self.import_it()
        await self.started
        hanging, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        open_content = Content.open

        def hang(content: Content, kind: PieceKind, task_id: str) -> int:
            hanging.set()
            go_on.wait()
            return open_content(content, kind, task_id)

        self.patch(Content, "open", hang)
        opened = self.store.open_piece(KIND, TASK.task_id, 0)
        await deferToThread(hanging.wait)
        await self.store.stop(0.1)
        self.assertNoResult(opened)
        go_on.set()
        self.assertEqual(read(await opened), CONTENT[:1000])

    async def test_start_fails(self) -> None:
        """A storage that cannot be opened fails at the start and at every question, and can be stopped."""
        path = Path(self.mktemp())
        path.touch()
        store = PieceStore(path, IReactorFromThreads(reactor))
        self.addCleanup(store.stop)
        with self.assertRaisesRegex(StorageFailure, "cannot open"):
            await store.start()
        with self.assertRaises(StorageFailure):
            await store.get_task(KIND, TASK.task_id)


class QuestionTests(StoreCase):
    """What there is, and what there is not."""

    async def test_imported(self) -> None:
        """What another process imports is there at once, although it was asked for before."""
        with self.assertRaisesRegex(NotStored, f"^piece {TASK.task_id}-0 not found$"):
            await self.store.open_piece(KIND, TASK.task_id, 0)
        self.import_elsewhere()
        task = await self.store.get_task(KIND, TASK.task_id)
        self.assertEqual(task, replace(TASK, created_at=task.created_at))
        pieces = await self.store.get_pieces(KIND, TASK.task_id)
        self.assertEqual([piece.metadata.length for piece in pieces], [1000, 1000, 500])
        for number in range(3):
            piece = await self.store.open_piece(KIND, TASK.task_id, number)
            self.assertEqual(piece.metadata, pieces[number].metadata)
            self.assertEqual(read(piece), CONTENT[number * 1000 : number * 1000 + 1000])

    async def test_not_stored(self) -> None:
        """What is not there is named as the wire names it, and without a path."""
        self.import_it()
        for question, message in (
            (self.store.open_piece(KIND, TASK.task_id, 3), f"piece {TASK.task_id}-3 not found"),
            (self.store.open_piece(PieceKind.CACHE, TASK.task_id, 0), f"piece {TASK.task_id}-0 not found"),
            (self.store.open_piece(KIND, "../../../etc/passwd", 0), "piece ../../../etc/passwd-0 not found"),
            (self.store.get_task(KIND, "f" * 64), f"task {'f' * 64} not found"),
            (self.store.get_pieces(KIND, "f" * 64), f"task {'f' * 64} not found"),
            (self.store.mark_damaged(KIND, TASK.task_id, 3, "x"), f"piece {TASK.task_id}-3 not found"),
        ):
            with self.assertRaises(NotStored) as caught:
                await question
            self.assertEqual(str(caught.exception), message)

    async def test_two_kinds(self) -> None:
        """An ID that an earlier version has stored in two kinds is offered in the older one only."""
        self.import_it()
        task = await self.store.get_task(KIND, TASK.task_id)
        newer = put_in_two_kinds(self.directory, task)
        for question in (self.store.get_task, self.store.get_pieces, partial(self.store.open_piece, number=0)):
            with self.assertRaisesRegex(NotStored, f"task {TASK.task_id} is offered as standard, not as cache"):
                await question(newer.kind, TASK.task_id)
        self.assertEqual(read(await self.store.open_piece(KIND, TASK.task_id, 0)), CONTENT[:1000])
        self.assertEqual(await self.store.list_tasks(KIND), [task])
        self.assertEqual(await self.store.list_tasks(newer.kind), [])

    async def test_ranges(self) -> None:
        """A range counts from the piece's first byte; an empty one is a range."""
        self.import_it()
        for start, length, expected in (
            (0, None, CONTENT[1000:2000]),
            (10, None, CONTENT[1010:2000]),
            (10, 20, CONTENT[1010:1030]),
            (999, 1, CONTENT[1999:2000]),
            (1000, None, b""),
            (0, 0, b""),
        ):
            piece = await self.store.open_piece(KIND, TASK.task_id, 1, start, length)
            self.assertEqual((piece.range.offset, piece.range.length), (1000 + start, len(expected)))
            self.assertEqual(piece.metadata.length, 1000)
            self.assertEqual(read(piece), expected)

    async def test_ranges_outside(self) -> None:
        """A range that is not inside the piece is an error, and nothing is opened."""
        self.import_it()
        for start, length in ((-1, None), (-1, 1), (0, 1001), (1, 1000), (1001, None), (5, -1)):
            with self.assertRaisesRegex(StorageError, "-1: expected a range in 1000 bytes, got "):
                await self.store.open_piece(KIND, TASK.task_id, 1, start, length)
        self.assertEqual(descriptors(), set())

    async def test_nothing(self) -> None:
        """A task of no bytes has a piece that can be opened."""
        self.path.write_bytes(b"")
        task = import_file(self.path, self.directory, KIND)
        self.assertEqual(read(await self.store.open_piece(KIND, task.task_id, 0)), b"")

    async def test_cancelled(self) -> None:
        """A cancelled request leaves no open file, whenever it is cancelled."""
        self.import_it()
        opened = self.store.open_piece(KIND, TASK.task_id, 0)
        opened.cancel()
        with self.assertRaises(CancelledError):
            await opened
        missing = self.store.open_piece(KIND, TASK.task_id, 3)
        missing.cancel()
        with self.assertRaises(CancelledError):
            await missing
        await self.store.get_task(KIND, TASK.task_id)
        await self.store.stop()  # which closes what is kept open for others
        self.assertEqual(descriptors(), set())

    async def test_many_at_once(self) -> None:
        """Many questions at the same time each have their answer."""
        self.import_it()
        opened = await gatherResults(
            [self.store.open_piece(KIND, TASK.task_id, number % 3) for number in range(60)], consumeErrors=True
        )
        self.assertEqual([piece.metadata.number for piece in opened], [number % 3 for number in range(60)])
        self.assertEqual(b"".join(map(read, opened[:3])), CONTENT)
        for piece in opened[3:]:
            os.close(piece.range.descriptor)

    async def test_failure(self) -> None:
        """A database or a file that cannot be read is a failure with its cause, and no damage."""
        self.import_it()
        self.stored_at().unlink()
        self.stored_at().symlink_to(self.stored_at().absolute())
        with self.assertRaisesRegex(StorageFailure, f"cannot open piece {TASK.task_id}-0") as caught:
            await self.store.open_piece(KIND, TASK.task_id, 0)
        cause = caught.exception.__cause__
        self.assertIsInstance(cause, OSError)
        if isinstance(cause, OSError):
            self.assertEqual(cause.errno, errno.ELOOP)
        connection = sqlite3.connect(self.directory / "catalog.sqlite3")
        connection.execute("DROP TABLE piece")
        connection.close()
        with self.assertRaisesRegex(StorageFailure, "no such table") as caught:
            await self.store.open_piece(KIND, TASK.task_id, 0)
        self.assertIsInstance(caught.exception.__cause__, sqlite3.Error)


class HotTests(StoreCase):
    """Pieces that are asked for again: they are handed out at once, and never against what the catalog says by then."""

    async def warm(self) -> None:
        """Import the content, and ask for a piece."""
        await self.started
        self.import_it()
        read(await self.store.open_piece(KIND, TASK.task_id, 0))

    async def test_at_once(self) -> None:
        """When a piece has been asked for, it and its neighbours are handed out at once, each time in its own file."""
        await self.warm()
        for number in (0, 1, 2, 0):
            opened = [self.successResultOf(self.store.open_piece(KIND, TASK.task_id, number)) for _ in range(2)]
            self.assertEqual([read(piece) for piece in opened], [CONTENT[number * 1000 :][:1000]] * 2)
        ranged = self.successResultOf(self.store.open_piece(KIND, TASK.task_id, 1, 10, 20))
        self.assertEqual(read(ranged), CONTENT[1010:1030])
        self.failureResultOf(self.store.open_piece(KIND, TASK.task_id, 3), NotStored)
        self.failureResultOf(self.store.open_piece(KIND, TASK.task_id, 1, 0, 1001), StorageError)

    async def test_hot_piece(self) -> None:
        """A piece that is remembered is handed out at once with the store's own descriptor; any other has to wait."""
        self.assertTrue(verifyObject(IHotPieceStore, self.store))
        self.assertIsNone(self.store.hot_piece(KIND, TASK.task_id, 1))
        await self.warm()
        hot = self.store.hot_piece(KIND, TASK.task_id, 1)
        if hot is None:
            self.fail("expected a piece")
        self.assertEqual(hot, self.store.hot_piece(KIND, TASK.task_id, 1))
        descriptor, offset, length = hot.range
        self.assertEqual(os.pread(descriptor, length, offset), CONTENT[1000:2000])
        self.assertIsNone(self.store.hot_piece(KIND, TASK.task_id, 3))
        marking = self.store.mark_damaged(KIND, TASK.task_id, 1, "expected more")
        self.assertIsNone(self.store.hot_piece(KIND, TASK.task_id, 0))  # the order is kept
        await marking
        read(await self.store.open_piece(KIND, TASK.task_id, 0))
        self.assertIsNotNone(self.store.hot_piece(KIND, TASK.task_id, 0))
        self.assertIsNone(self.store.hot_piece(KIND, TASK.task_id, 1))
        await self.store.stop()
        self.assertIsNone(self.store.hot_piece(KIND, TASK.task_id, 0))

    async def test_another_connection(self) -> None:
        """A row that is changed past this store is seen by the very next question, though the file is not touched."""
        await self.warm()
        connection = sqlite3.connect(self.directory / "catalog.sqlite3", isolation_level=None)
        self.addCleanup(connection.close)
        connection.execute("UPDATE piece SET damage = 'a test' WHERE number = 1")
        with self.assertRaises(NotStored):
            await self.store.open_piece(KIND, TASK.task_id, 1)
        read(await self.store.open_piece(KIND, TASK.task_id, 2))
        self.failureResultOf(self.store.open_piece(KIND, TASK.task_id, 1), NotStored)
        connection.execute("UPDATE piece SET damage = '' WHERE number = 1")
        self.assertEqual(read(await self.store.open_piece(KIND, TASK.task_id, 1)), CONTENT[1000:2000])

    async def test_mark(self) -> None:
        """The mark of what is offered stays the same when a piece is added, and not when one is taken back."""
        await self.warm()
        connection = sqlite3.connect(self.directory / "catalog.sqlite3", isolation_level=None)
        self.addCleanup(connection.close)
        mark = self.store.offer_mark()
        connection.execute(
            "INSERT INTO piece"
            " (kind, task_id, number, offset, length, digest, parent_id, traffic_type, cost, created_at)"
            " SELECT kind, task_id, 3, 3000, 1, '', '', 0, 0, 0 FROM task"
        )
        self.assertIs(self.store.offer_mark(), mark)
        connection.execute("UPDATE piece SET damage = 'a test' WHERE number = 3")
        self.assertIsNot(self.store.offer_mark(), mark)
        await self.store.stop()
        self.assertIsNot(self.store.offer_mark(), self.store.offer_mark())

    async def test_order(self) -> None:
        """What was asked first is done first, though the piece is in memory; a change that fails is over, too."""
        await self.warm()
        marked = self.store.mark_damaged(KIND, TASK.task_id, 1, "a test")
        with self.assertRaises(NotStored):
            await self.store.open_piece(KIND, TASK.task_id, 1)
        await marked
        with self.assertRaises(NotStored):
            await self.store.mark_damaged(KIND, TASK.task_id, 3, "a test")
        read(await self.store.open_piece(KIND, TASK.task_id, 0))
        self.assertEqual(read(self.successResultOf(self.store.open_piece(KIND, TASK.task_id, 0))), CONTENT[:1000])

    async def test_removed(self) -> None:
        """The file of a task that another process removes is closed soon, without any request."""
        await self.warm()
        self.assertEqual(len(descriptors()), 1)
        remove_task(self.directory, KIND, TASK.task_id)
        while descriptors():
            await deferLater(IReactorTime(reactor), 0.05)

    async def test_few_descriptors(self) -> None:
        """With no descriptor left a piece is opened anyway: files that are kept for later are given up."""
        tasks = []
        for content in (CONTENT[::-1], CONTENT[1:], CONTENT):
            self.path.write_bytes(content)
            tasks.append(import_file(self.path, self.directory, KIND, 1000).task_id)
        await self.started
        for task_id in tasks[:2]:
            read(await self.store.open_piece(KIND, task_id, 0))
        self.assertEqual(len(descriptors()), 2)
        with no_descriptors():
            opened = await self.store.open_piece(KIND, TASK.task_id, 0)
        self.assertEqual(read(opened), CONTENT[:1000])

    async def test_stopped(self) -> None:
        """A store that is stopped hands nothing out, and what it remembered is gone when it starts again."""
        await self.warm()
        await self.store.stop()
        self.assertEqual(descriptors(), set())
        self.failureResultOf(self.store.open_piece(KIND, TASK.task_id, 0), StorageFailure)
        remove_task(self.directory, KIND, TASK.task_id)
        await self.store.start()
        with self.assertRaises(NotStored):
            await self.store.open_piece(KIND, TASK.task_id, 0)

    async def test_stopping(self) -> None:
        """While a store is being stopped the version is not read: SQLite crashes when it is closed meanwhile."""
        await self.warm()
        asked: list[CatalogVersion] = []
        self.patch(CatalogVersion, "current", lambda version: asked.append(version))
        stopping = self.store.stop()
        self.failureResultOf(self.store.open_piece(KIND, TASK.task_id, 0), StorageFailure)
        await stopping
        self.assertEqual(asked, [])

    async def test_another_process(self) -> None:
        """While another process damages, heals, drops, removes and imports, no question ever gets a wrong byte."""
        other = await deferToThread(Changer, self.path, self.directory)
        self.addCleanup(deferToThread, other.end)
        good: list[bytes | None] = [CONTENT[:1000], CONTENT[1000:2000], CONTENT[2000:]]
        hurt = [good[0], None, good[2]]
        gone: list[bytes | None] = [None] * 3
        await self.while_it_does(other, "import", gone, good)
        for _ in range(5):
            await self.while_it_does(other, "mark", good, hurt)
            await self.while_it_does(other, "scribble", hurt, hurt)
            await self.while_it_does(other, "heal", hurt, good)
            await self.while_it_does(other, "drop", good, hurt)
            await self.while_it_does(other, "scribble", hurt, hurt)
            await self.while_it_does(other, "import", hurt, good)
            await self.while_it_does(other, "remove", good, gone)
            await self.while_it_does(other, "import", gone, good)

    async def while_it_does(
        self, other: Changer, what: str, before: list[bytes | None], after: list[bytes | None]
    ) -> None:
        """
        Ask for all pieces without a pause while the process does something, and once more when it has done it. Each is
        as it was or as it will be; when it is as it will be it stays so; and so it is at the latest when that is done.
        """
        doing = deferToThread(other.do, what)
        changed = [False] * 3
        is_done = False
        while not is_done:
            is_done = doing.called
            for number in range(3):
                found = await self.find(number)
                allowed = [after[number]] if is_done or changed[number] else [before[number], after[number]]
                self.assertIn(found, allowed, f"piece {number} while it does: {what}")
                changed[number] = found != before[number]
            await deferLater(IReactorTime(reactor), 0)
        await doing

    async def find(self, number: int) -> bytes | None:
        """A piece's bytes; None where it is not there."""
        try:
            return read(await self.store.open_piece(KIND, TASK.task_id, number))
        except NotStored:
            return None


class UseTests(StoreCase):
    """When a task was used last."""

    def used_at(self) -> int:
        """What the catalog says."""
        with Catalog(self.directory, Access.READ) as catalog:
            return catalog.get_task(KIND, TASK.task_id).used_at

    async def serve(self) -> None:
        """Serve a piece twice, the second time from memory."""
        for _ in range(2):
            read(await self.store.open_piece(KIND, TASK.task_id, 0))

    async def test_recorded(self) -> None:
        """What is served is written down a little later, in one commit, and what is remembered stays."""
        self.patch(collecting, "RECORD_INTERVAL", 0.01)
        self.import_it()
        await self.started
        self.assertEqual(self.used_at(), 0)
        before = int(time.time())
        await self.serve()
        while not self.used_at():
            await deferLater(IReactorTime(reactor), 0.01)
        self.assertGreaterEqual(self.used_at(), before)
        piece = self.store.open_piece(KIND, TASK.task_id, 0)
        self.assertTrue(piece.called, "expected the piece from memory")
        read(await piece)

    async def test_stopped(self) -> None:
        """At the end what was not written yet is written, without a commit for each piece."""
        self.import_it()
        await self.serve()
        self.store.add_use(KIND, "removed")
        self.assertEqual(self.used_at(), 0)
        await self.store.stop()
        self.assertGreater(self.used_at(), 0)
        self.store.add_use(KIND, TASK.task_id)  # which schedules nothing any more

    async def test_lifetime(self) -> None:
        """A download says for how long its task is kept; that can be changed."""
        target = self.store.write_task(KIND, TASK.task_id, ttl=60, is_pinned=True)
        await target.open()
        self.assertTrue((await target.claim(0)).is_ours)
        os.pwrite(target.descriptor, CONTENT[:1000], 0)
        await target.commit(metadata_of(0), 1000, 2500)
        await target.close()
        task = await self.store.get_task(KIND, TASK.task_id)
        self.assertEqual((task.ttl, task.is_pinned), (60, True))
        await self.store.update_task(KIND, TASK.task_id, ttl=0, is_pinned=False)
        task = await self.store.get_task(KIND, TASK.task_id)
        self.assertEqual((task.ttl, task.is_pinned), (0, False))


class DamageTests(StoreCase):
    """Pieces that are not what their rows say."""

    async def damage(self) -> list[str]:
        """The marks of the task's pieces."""
        return [piece.damage for piece in await self.store.get_pieces(KIND, TASK.task_id)]

    async def test_marked(self) -> None:
        """A marked piece is not offered, over a restart too, its siblings are, and an import heals it."""
        self.import_it()
        await self.store.mark_damaged(KIND, TASK.task_id, 1, "expected 1000 bytes, got 3")
        for _ in range(2):
            with self.assertRaisesRegex(NotStored, f"^piece {TASK.task_id}-1 not found$"):
                await self.store.open_piece(KIND, TASK.task_id, 1)
            read(await self.store.open_piece(KIND, TASK.task_id, 2))
            self.assertEqual(await self.damage(), ["", "expected 1000 bytes, got 3", ""])
            await self.store.stop()
            await self.store.start()
        self.import_it()
        self.assertEqual(await self.damage(), ["", "", ""])
        self.assertEqual(read(await self.store.open_piece(KIND, TASK.task_id, 1)), CONTENT[1000:2000])

    async def test_no_file(self) -> None:
        """A piece whose file is missing is damaged, and marked so."""
        self.import_it()
        self.stored_at().unlink()
        with self.assertRaisesRegex(PieceDamaged, f"piece {TASK.task_id}-2: expected a file, got none"):
            await self.store.open_piece(KIND, TASK.task_id, 2)
        self.assertEqual(await self.damage(), ["", "", "expected a file, got none"])
        with self.assertRaises(NotStored):
            await self.store.open_piece(KIND, TASK.task_id, 2)

    async def test_short_file(self) -> None:
        """A file that is shorter than its rows say is handed out: the sender finds out that it is short."""
        self.import_it()
        os.truncate(self.stored_at(), 1500)
        self.assertEqual(read(await self.store.open_piece(KIND, TASK.task_id, 1)), CONTENT[1000:1500])

    async def test_healed_while_sent(self) -> None:
        """An opened piece keeps its file, whatever is imported or removed meanwhile."""
        self.import_it()
        piece = await self.store.open_piece(KIND, TASK.task_id, 0)
        self.import_it()
        self.stored_at().unlink()
        self.assertEqual(read(piece), CONTENT[:1000])
