"""Tests of what is checked because a child asks for it again: on a clock, with checks that are played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.reactor import rechecks
from dragonfly_vortex.storage.reactor.rechecks import CHECKED_FOR, MOST_SENT, MOST_WAITING, PAUSE, SOON, Rechecks
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import content_of

_T = TypeVar("_T")

KIND = PieceKind.STANDARD


def at_once(work: Callable[[], _T]) -> Deferred[_T]:
    """A thread that is done at once."""
    return maybeDeferred(work)


class PlayedTests(SynchronousTestCase):
    """When a piece is checked."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.checked: list[int] = []
        self.patch(rechecks, "check_piece", self.check)
        self.rechecks = Rechecks(Path(), self.clock, at_once)

    def check(self, directory: Path, kind: PieceKind, task_id: str, number: int) -> str:
        """Note what is checked."""
        self.checked.append(number)
        return ""

    def send(self, number: int, child: str = "192.0.2.1", task_id: str = "a-task") -> None:
        """A piece has been sent."""
        self.rechecks.sent(child, KIND, task_id, number)

    def test_again(self) -> None:
        """What the same child gets a second time soon is checked; another child, or another piece, is no sign."""
        self.send(1)
        self.send(1, child="192.0.2.2")
        self.send(2)
        self.send(1, task_id="b-task")
        self.assertEqual(self.checked, [])
        self.clock.advance(SOON)
        self.send(1)
        self.assertEqual(self.checked, [1])
        self.clock.advance(SOON + 1)
        self.send(2)
        self.assertEqual(self.checked, [1])

    def test_pause(self) -> None:
        """After a check there is a pause, in which a few pieces wait, each once."""
        for _ in range(3):
            for number in range(MOST_WAITING + 10):
                self.send(number)
        self.assertEqual(self.checked, [0])
        self.clock.advance(PAUSE - 0.1)
        self.assertEqual(self.checked, [0])
        self.clock.pump([PAUSE] * (MOST_WAITING + 10))
        self.assertEqual(self.checked, list(range(MOST_WAITING + 1)))

    def test_not_twice(self) -> None:
        """However often it is asked for, a piece is checked once in an hour."""
        for _ in range(int(CHECKED_FOR / 100)):
            self.send(1)
            self.clock.advance(100)
        self.assertEqual(self.checked, [1])
        self.clock.advance(200)
        self.send(1)
        self.assertEqual(self.checked, [1, 1])

    def test_bounded(self) -> None:
        """Of what was sent long ago nothing is known: there is no more of it than a bound."""
        for number in range(MOST_SENT + 1):
            self.send(number)
        self.send(1)
        self.send(0)
        self.assertEqual(self.checked, [1])

    def test_bounded_checks(self) -> None:
        """Of what was checked long ago nothing is known, either."""
        for number in range(1500):
            self.send(number)
            self.send(number)
            self.clock.advance(PAUSE)
        self.assertEqual(len(self.checked), 1500)
        self.assertLess(len(self.rechecks._checked), 1100)

    def test_stop(self) -> None:
        """When a peer stops nothing is checked any more, and nothing is left to be called."""
        self.send(1)
        self.send(1)
        self.rechecks.stop()
        self.send(2)
        self.send(2)
        self.assertEqual((self.checked, self.clock.getDelayedCalls()), ([1], []))

    def test_failure(self) -> None:
        """A check that fails is logged, and the next one is made."""

        def fail(*_: object) -> str:
            self.check(Path(), KIND, "a-task", 1)
            raise OSError("no disk")

        self.patch(rechecks, "check_piece", fail)
        for number in (1, 1, 2, 2):
            self.send(number)
        self.clock.advance(PAUSE)
        self.assertEqual(len(self.checked), 2)


class DamageTests(SynchronousTestCase):
    """Real pieces."""

    def test_marked(self) -> None:
        """A rotten piece is marked when it is checked, and a sound one is not."""
        directory, source = Path(self.mktemp()), Path(self.mktemp())
        source.write_bytes(content_of(2000))
        task = import_file(source, directory, KIND, 1000)
        with Content(directory).path(KIND, task.task_id).open("r+b") as file:
            file.seek(1500)
            file.write(b"rot")
        clock = Clock()
        checks = Rechecks(directory, clock, at_once)
        for number in (0, 0, 1, 1, 7, 7):
            checks.sent("192.0.2.1", KIND, task.task_id, number)
        clock.pump([PAUSE] * 3)
        with Catalog(directory) as catalog:
            marks = [piece.damage for piece in catalog.get_pieces(KIND, task.task_id)]
        self.assertEqual([bool(mark) for mark in marks], [False, True])
