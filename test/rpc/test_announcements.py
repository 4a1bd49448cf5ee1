"""What is said about complete tasks is kept until the storage changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.interfaces import ITaskStore
from dragonfly_vortex.rpc import announcements
from dragonfly_vortex.rpc.announcements import Announcements
from dragonfly_vortex.wire import PieceKind

KIND = PieceKind.STANDARD


class _Store:
    """A store that changes when the test says so."""

    def __init__(self) -> None:
        self.subscribers: list[Callable[[], None]] = []

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Remember the subscriber."""
        self.subscribers.append(changed)
        return lambda: self.subscribers.remove(changed)


class AnnouncementsTests(SynchronousTestCase):
    """Tasks that are kept."""

    def setUp(self) -> None:
        self.store = _Store()
        self.kept = Announcements(cast(ITaskStore, self.store))
        self.kept.start()

    def test_change(self) -> None:
        """A change of the storage makes all old, also what was looked at before it."""
        self.kept.keep(KIND, "a", {0: b"x"}, self.kept.changes)
        self.assertEqual(self.kept.get(KIND, "a"), {0: b"x"})
        before = self.kept.changes
        self.store.subscribers[0]()
        self.assertIsNone(self.kept.get(KIND, "a"))
        self.kept.keep(KIND, "a", {0: b"x"}, before)
        self.assertIsNone(self.kept.get(KIND, "a"))

    def test_many(self) -> None:
        """Tasks that were kept for longest make room for others, and a task that is too long is not kept."""
        self.patch(announcements, "_MOST_KEPT", 3)
        for name in "abab":
            self.kept.keep(KIND, name, {0: b"x", 1: b"y"}, 0)
        self.assertEqual([self.kept.get(KIND, name) is not None for name in "ab"], [False, True])
        self.kept.keep(KIND, "c", dict.fromkeys(range(4), b""), 0)
        self.assertIsNone(self.kept.get(KIND, "c"))

    def test_stop(self) -> None:
        """Nothing is kept when it has been stopped."""
        self.kept.stop()
        self.assertEqual(self.store.subscribers, [])
        self.kept.keep(KIND, "a", {0: b"x"}, 0)
        self.assertIsNone(self.kept.get(KIND, "a"))
