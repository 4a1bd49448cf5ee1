"""Subscribers hear of the catalog's changes, by any process, and not too often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.storage.reactor.watch import INTERVAL, POLL_INTERVAL, CatalogWatch
from dragonfly_vortex.wire import PieceKind

_WRITER = """
import sys
from pathlib import Path
from dragonfly_vortex.model import StoredTask
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.wire import PieceKind

catalog = Catalog(Path(sys.argv[1]))
catalog.open()
print(flush=True)
for line in sys.stdin:
    catalog.put_task(StoredTask(
        kind=PieceKind.STANDARD, task_id=line.strip(), content_length=1, piece_length=1, created_at=0), ())
"""


def task(letter: str) -> StoredTask:
    """A task whose ID differs from another's by a letter."""
    return StoredTask(kind=PieceKind.STANDARD, task_id=letter * 64, content_length=1, piece_length=1, created_at=0)


class CatalogWatchTests(SynchronousTestCase):
    """A watch on a real directory, whose events are read when the test says so."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.catalog = Catalog(self.directory)
        self.catalog.open()
        self.addCleanup(self.catalog.close)
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1000)
        self.watch = CatalogWatch(self.catalog.path, self.reactor)
        self.calls = 0

    def changed(self) -> None:
        """What subscribes."""
        self.calls += 1

    def read(self) -> None:
        """Read the events that there are, as a reactor would."""
        for reader in self.reactor.getReaders():
            reader.doRead()

    def test_tells(self) -> None:
        """A change is reported in the next turn when there was none for a while."""
        self.addCleanup(self.watch.subscribe(self.changed))
        self.catalog.put_task(task("a"), ())
        self.read()
        self.assertEqual(self.calls, 0)
        self.reactor.advance(0)
        self.assertEqual(self.calls, 1)

    def test_renewed(self) -> None:
        """Where another directory is in the place, its subscribers hear of that, and of changes there."""
        self.watch.renew()
        self.assertEqual(self.reactor.getReaders(), [])
        self.addCleanup(self.watch.subscribe(self.changed))
        self.catalog.close()
        self.directory.rename(f"{self.directory}.old")
        with Catalog(self.directory) as catalog:
            self.watch.renew()
            self.reactor.advance(0)
            self.assertEqual(self.calls, 1)
            catalog.put_task(task("a"), ())
            self.read()
            self.reactor.advance(INTERVAL)
            self.assertEqual(self.calls, 2)

    def test_tells_what_can_be_read(self) -> None:
        """Another connection reads the change when it is reported, each time."""
        self.addCleanup(self.watch.subscribe(self.changed))
        with Catalog(self.directory) as other:
            for number, letter in enumerate("abcdefgh", start=1):
                self.catalog.put_task(task(letter), ())
                self.read()
                self.reactor.advance(INTERVAL)
                self.assertEqual((self.calls, len(other.list_tasks())), (number, number))

    def test_tells_of_every_kind_of_change(self) -> None:
        """A task that is replaced or removed is a change as well."""
        self.addCleanup(self.watch.subscribe(self.changed))
        for change in (
            lambda: self.catalog.put_task(task("a"), ()),
            lambda: self.catalog.remove_task(PieceKind.STANDARD, "a" * 64),
        ):
            calls = self.calls
            change()
            self.read()
            self.reactor.advance(INTERVAL)
            self.assertEqual(self.calls, calls + 1)

    def test_many_changes_in_one_call(self) -> None:
        """Changes that follow one another at once are reported together, after the interval."""
        self.addCleanup(self.watch.subscribe(self.changed))
        for letter in "abcdef":
            self.catalog.put_task(task(letter), ())
            self.read()
            self.reactor.advance(0)
        self.assertEqual(self.calls, 1)
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.calls, 2)
        self.reactor.advance(1)
        self.assertEqual(self.calls, 2)

    def test_reading_is_no_change(self) -> None:
        """A query of the catalog, by an open connection of the same process, does not wake the subscribers."""
        self.addCleanup(self.watch.subscribe(self.changed))
        self.catalog.list_tasks()
        self.read()
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.calls, 0)

    def test_other_files(self) -> None:
        """Files of other names in the directory do not matter."""
        self.addCleanup(self.watch.subscribe(self.changed))
        (self.directory / "notes").write_text("nothing")
        self.read()
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.calls, 0)

    def test_several_subscribers(self) -> None:
        """Each subscriber is called; one that has left is not, and the last one leaves nothing behind."""
        first = self.watch.subscribe(self.changed)
        second = self.watch.subscribe(self.changed)
        self.assertEqual(len(self.reactor.getReaders()), 1)
        self.catalog.put_task(task("a"), ())
        self.read()
        self.reactor.advance(0)
        self.assertEqual(self.calls, 2)
        first()
        first()
        self.catalog.put_task(task("b"), ())
        self.read()
        self.reactor.advance(INTERVAL)
        self.assertEqual(self.calls, 3)
        self.catalog.put_task(task("c"), ())
        self.read()
        second()
        self.assertEqual((self.reactor.getReaders(), self.reactor.getDelayedCalls()), ([], []))

    def test_polls(self) -> None:
        """Where the system cannot tell, here for want of a directory, the file's time is looked at instead."""
        directory = Path(self.mktemp())
        unsubscribe = CatalogWatch(Catalog(directory).path, self.reactor).subscribe(self.changed)
        self.assertEqual(self.reactor.getReaders(), [])
        with Catalog(directory) as catalog:
            for number, letter in enumerate("abc", start=1):
                catalog.put_task(task(letter), ())
                self.reactor.pump([POLL_INTERVAL, INTERVAL, POLL_INTERVAL])
                self.assertEqual(self.calls, number)
        unsubscribe()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class TwoProcessesTests(TestCase):
    """A store in the real reactor, and another process that writes."""

    timeout = 120

    async def test_another_process(self) -> None:
        """A change by another process that goes on is reported, and can be read then."""
        directory = Path(self.mktemp()).absolute()
        store = PieceStore(directory, IReactorFromThreads(reactor))
        await store.start()
        self.addCleanup(store.stop)
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.addCleanup(writer.communicate)
        assert writer.stdin is not None and writer.stdout is not None  # pipes, because they were asked for
        writer.stdout.readline()
        told: Deferred[None] = Deferred()
        unsubscribe = store.subscribe(lambda: None if told.called else told.callback(None))
        self.addCleanup(unsubscribe)
        writer.stdin.write(b"a" * 64 + b"\n")
        writer.stdin.flush()
        await told
        self.assertEqual((await store.get_task(PieceKind.STANDARD, "a" * 64)).task_id, "a" * 64)
