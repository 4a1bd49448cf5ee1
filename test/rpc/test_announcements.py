"""What is said about complete tasks is kept while the storage takes no piece back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.model import StoredPiece, StoredTask
from dragonfly_vortex.rpc import announcements
from dragonfly_vortex.rpc.announcements import Announcements
from dragonfly_vortex.wire import PieceKind, PieceMetadata

KIND = PieceKind.STANDARD


class _Store:
    """A store whose tasks have three pieces each, but those that the test names."""

    def __init__(self) -> None:
        self.subscribers: list[Callable[[], None]] = []
        self.mark = object()
        self.tasks: dict[str, int] = {}  # the pieces that each has
        self.damaged: set[int] = set()
        self.waiting: list[Deferred[Any]] | None = None

    def offer_mark(self) -> object:
        """The mark of now."""
        return self.mark

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Remember the subscriber."""
        self.subscribers.append(changed)
        return lambda: self.subscribers.remove(changed)

    def take_back(self) -> None:
        """Some piece is offered no more."""
        self.mark = object()
        self.subscribers[0]()

    def get_task(self, kind: PieceKind, task_id: str) -> Deferred[StoredTask]:
        """A task of 30 bytes."""
        if task_id not in self.tasks:
            return fail(NotStored(task_id))
        return succeed(StoredTask(kind=kind, task_id=task_id, content_length=30, piece_length=10, created_at=0))

    def get_pieces(self, kind: PieceKind, task_id: str, first: int = 0) -> Deferred[list[StoredPiece]]:
        """Its pieces, as soon as the test lets them come."""
        pieces = [
            StoredPiece(
                kind=kind,
                task_id=task_id,
                metadata=PieceMetadata(number=number, offset=0, length=1, digest=""),
                damage="gone" * (number in self.damaged),
            )
            for number in range(self.tasks[task_id])
        ]
        if self.waiting is None:
            return succeed(pieces)
        self.waiting.append(Deferred())
        return self.waiting[-1].addCallback(lambda _: pieces)


class AnnouncementsTests(SynchronousTestCase):
    """Tasks that are kept."""

    def setUp(self) -> None:
        self.store = _Store()
        self.kept = Announcements(cast(ITaskStore, self.store), lambda kind, metadata: b"%d" % metadata.number)
        self.kept.start()

    def test_change(self) -> None:
        """A change that takes no piece back leaves all as it is; one that does makes old what was looked at before."""
        mark = self.kept.mark()
        self.kept.keep(KIND, "a", {0: b"x"}, mark)
        self.store.subscribers[0]()
        self.assertEqual(self.kept.get(KIND, "a"), {0: b"x"})
        self.store.mark = object()
        self.assertIsNone(self.kept.get(KIND, "a"))  # before any subscriber was called
        self.kept.keep(KIND, "a", {0: b"x"}, mark)
        self.assertIsNone(self.kept.get(KIND, "a"))

    def test_looked_at_again(self) -> None:
        """A task that was kept is looked at again when a piece has been taken back, and what has gone is dropped."""
        self.store.tasks = {"a": 3}
        for name in ("a", "gone"):
            self.kept.keep(KIND, name, {0: b"x"}, self.kept.mark())
        self.store.damaged = {1}
        self.store.take_back()
        self.assertEqual(self.kept.get(KIND, "a"), {0: b"0", 2: b"2"})
        self.assertIsNone(self.kept.get(KIND, "gone"))

    def test_prepared(self) -> None:
        """A complete task is kept before a child asks; one that is not complete, or not there, is not."""
        self.store.tasks = {"a": 3, "half": 2}
        for name in ("a", "half", "unknown"):
            self.kept.prepare(KIND, name)
        found = [self.kept.get(KIND, name) for name in ("a", "half", "unknown")]
        self.assertEqual(found, [{0: b"0", 1: b"1", 2: b"2"}, None, None])

    def test_taken_back_meanwhile(self) -> None:
        """A task that is looked at while a piece is taken back is not kept as it was."""
        self.store.tasks, self.store.waiting = {"a": 3}, []
        self.kept.prepare(KIND, "a")
        self.store.mark = object()
        self.store.waiting[0].callback(None)
        self.assertIsNone(self.kept.get(KIND, "a"))

    def test_many(self) -> None:
        """Tasks that were kept for longest make room for others, and a task that is too long is not kept."""
        self.patch(announcements, "_MOST_KEPT", 3)
        mark = self.kept.mark()
        for name in "abab":
            self.kept.keep(KIND, name, {0: b"x", 1: b"y"}, mark)
        self.assertEqual([self.kept.get(KIND, name) is not None for name in "ab"], [False, True])
        self.kept.keep(KIND, "c", dict.fromkeys(range(4), b""), mark)
        self.assertIsNone(self.kept.get(KIND, "c"))

    def test_stop(self) -> None:
        """Nothing is kept, nor looked at, when it has been stopped."""
        self.store.tasks = {"a": 3}
        self.kept.stop()
        self.assertEqual(self.store.subscribers, [])
        self.kept.keep(KIND, "a", {0: b"x"}, self.kept.mark())
        self.kept.prepare(KIND, "a")
        self.assertIsNone(self.kept.get(KIND, "a"))
