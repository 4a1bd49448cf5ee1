"""Tests of what is waited for: through the plan, as far as the tests of its times do not tell."""

from __future__ import annotations

from dragonfly_vortex.errors import NoParentLeft, ParentUnreachable, PieceNotFound
from dragonfly_vortex.task.scheduler import Request, Standing
from test.task.planning import PlanTestCase


class AnnouncementTests(PlanTestCase):
    """Parents that announce what they have, and fall silent."""

    def begin_announcing(self, retry: float = 30.0) -> None:
        """Plan a download of three pieces from a parent that has announced one of them, which has come."""
        self.begin("a", retry=retry)
        self.plan.announcing_began("a")
        self.plan.learn_layout("a", 30, 10)
        self.plan.announce("a", 0, 0, 10)
        self.give(self.ask())
        self.assertEqual(self.ask_all(), [])

    def test_asked_all_the_same(self) -> None:
        """After a few seconds in which nothing was announced it is asked for the rest, which is told."""
        self.begin_announcing()
        self.wait(4.9)
        self.assertEqual(self.ask_all(), [])
        self.wait(0.3)
        self.assertEqual(self.numbers(self.ask_all()), [1, 2])
        self.assertEqual(
            self.plan.take_waits(), ["parent a has announced no piece for 5 s; asking for pieces all the same"]
        )

    def test_announced_later(self) -> None:
        """What it did not have then it may announce later."""
        self.begin_announcing()
        self.wait(6)
        self.fail_with(PieceNotFound, *self.ask_all())
        self.assertEqual((self.ask_all(), self.plan.failure()), ([], None))
        self.plan.announce("a", 1, 10, 10)
        self.assertEqual(self.numbers(self.ask_all()), [1])

    def test_limit(self) -> None:
        """After the time for retries without progress the download ends."""
        self.begin_announcing()
        for _ in range(4):
            self.wait(7)
            self.fail_with(PieceNotFound, *self.ask_all())
            self.assertIsNone(self.plan.failure())
        self.wait(3)
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_never_heard(self) -> None:
        """A parent that has said nothing at all by then has not said that it lacks the task: that is a time-out."""
        self.begin("a", retry=1.0)
        self.plan.announcing_began("a")
        self.assertEqual(self.ask_all(), [])
        self.wait(1.1)
        failure = self.plan.failure()
        self.assertIsInstance(failure, NoParentLeft)
        self.assertRegex(str(failure), r"piece 0 from parent a: expected it to be announced within 1 s, got nothing\Z")

    def test_no_limit(self) -> None:
        """Without a time for retries it is waited for."""
        self.begin_announcing(retry=0.0)
        self.wait(6)
        self.fail_with(PieceNotFound, *self.ask_all())
        self.wait(1000)
        self.assertIsNone(self.plan.failure())


class EndTests(PlanTestCase):
    """The end of a task of which a parent that rests may have more."""

    def begin_half(self) -> None:
        """Plan a download from a parent with one full piece, and one that has failed before."""
        self.begin("part", "whole", retry=30.0, at_once=1)
        self.give(self.ask())
        while (request := self.plan.next_request()) is not None:
            self.fail_with(ParentUnreachable if request.parent == "whole" else PieceNotFound, request)
        self.assertIs(self.plan.standing("whole"), Standing.OUT)

    def test_digest_decides(self) -> None:
        """A parent that rests is not waited for: the digest tells whether what there is is all of it."""
        self.begin_half()
        self.assertTrue(self.plan.is_complete)

    def test_refuted(self) -> None:
        """If the digest is wrong, the parent that rests is waited for, and no parent is suspected."""
        self.begin_half()
        self.plan.record_mismatch("cd" * 32)
        self.assertEqual((self.plan.is_complete, self.plan.failure()), (False, None))
        self.wait(1)
        (probe,) = self.ask_all()
        self.assertEqual((probe.parent, probe.number), ("whole", 1))
        self.give(probe, length=4)
        self.assertTrue(self.plan.is_complete)
        self.assertIs(self.plan.standing("part"), Standing.GOOD)


class SlowEndTests(PlanTestCase):
    """The end of a task of which a slow parent has more than a fast one."""

    def test_refuted_once(self) -> None:
        """The digest is tried once where the fast parent has no more; then the slow one is waited for."""
        self.begin("part", "whole", at_once=2)
        self.give(self.ask())
        refuted = 0
        for _ in range(60):
            for request in self.ask_all():
                if request.parent == "part":
                    self.fail_with(PieceNotFound, request)
            self.wait(1)
            if self.plan.is_complete:
                refuted += 1
                self.plan.record_mismatch("cd" * 32)
            if self.now % 5 == 0:
                for asked in list(self.plan_requests()):
                    self.give(asked)
        self.assertEqual(refuted, 1)
        self.assertGreater(self.plan.prefix, 5)

    def plan_requests(self) -> list[Request]:
        """What is under way."""
        return [asked for asked in self.asked if self.plan.is_under_way(asked)]

    def ask_all(self) -> list[Request]:
        """All requests that can be made now, which are remembered."""
        requests = super().ask_all()
        self.asked += requests
        return requests

    def setUp(self) -> None:
        self.asked: list[Request] = []


class BusyTests(PlanTestCase):
    """Pieces that other processes fetch into the same storage."""

    def begin_busy(self) -> None:
        """Plan a download of which a process has claimed the first piece."""
        self.begin("a", retry=30.0)
        self.plan.record_busy(self.ask(), (123, 1))

    def look_again(self, owner: tuple[int, int]) -> None:
        """See whether the piece has been claimed still, and by which process."""
        self.plan.release_busy()
        self.plan.record_busy(self.ask(), owner)

    def test_told(self) -> None:
        """After a few seconds in which that process does not go on, it is told once for which one it is waited."""
        self.begin_busy()
        for _ in range(5):
            self.wait(2)
            self.look_again((123, 1))
            self.assertIsNone(self.plan.stuck())
        self.assertEqual(
            self.plan.take_waits(),
            ["process 123 is fetching piece 0 and has not gone on for 8 s; waiting for it"],
        )

    def test_goes_on(self) -> None:
        """While it goes on it is waited for without end."""
        self.begin_busy()
        for beat in range(100):
            self.wait(2)
            self.look_again((123, beat))
            self.assertIsNone(self.plan.stuck())
        self.assertEqual(self.plan.take_waits(), [])

    def test_limit(self) -> None:
        """One that does not go on is waited for as long as for a parent."""
        self.begin_busy()
        self.wait(29)
        self.look_again((123, 1))
        self.assertIsNone(self.plan.stuck())
        self.wait(1)
        self.assertEqual(self.plan.stuck(), "piece 0 is being fetched by process 123, which has not gone on for 30 s")
