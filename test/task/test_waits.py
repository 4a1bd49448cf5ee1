"""Tests of what is waited for: through the plan, as far as the tests of its times do not tell."""

from __future__ import annotations

from itertools import pairwise

from dragonfly_vortex.errors import CertificateRejected, NoParentLeft, ParentUnreachable, PieceNotFound, TaskNotFound
from dragonfly_vortex.events import WaitReason
from dragonfly_vortex.task.parent_state import Standing
from dragonfly_vortex.task.timing import Request
from test.task.planning import DIGEST, GOT, PlanTestCase


class AnnouncementTests(PlanTestCase):
    """Parents that announce what they have, and fall silent."""

    def begin_announcing(self, retry: float = 30.0) -> None:
        """Plan a download of three pieces from a parent that has announced one of them, which has arrived."""
        self.begin("a", retry=retry)
        self.plan.announcements.begin("a")
        self.plan.announcements.learn("a", 30, 10)
        self.plan.announcements.add("a", 0, 0, 10)
        self.give(self.ask())
        self.assertEqual(self.ask_all(), [])

    def test_asked_all_the_same(self) -> None:
        """After a few seconds in which nothing was announced it is asked for the rest, and a line says so."""
        self.begin_announcing()
        self.wait(4.9)
        self.assertEqual(self.ask_all(), [])
        self.wait(0.3)
        self.assertEqual(self.numbers(self.ask_all()), [1, 2])
        self.assertEqual(
            [waiting.text for waiting in self.plan.waits.take()],
            ["parent a has announced no piece for 5 s; asking for pieces anyway"],
        )

    def test_announced_later(self) -> None:
        """What it did not have then it may announce later."""
        self.begin_announcing()
        self.wait(6)
        self.fail_with(PieceNotFound, *self.ask_all())
        self.assertEqual((self.ask_all(), self.plan.failure()), ([], None))
        self.plan.announcements.add("a", 1, 10, 10)
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
        self.plan.announcements.begin("a")
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

    def test_closed_again(self) -> None:
        """One that announces again is asked for nothing else any more."""
        self.begin_announcing()
        self.wait(6)
        self.fail_with(PieceNotFound, *self.ask_all())
        self.plan.announcements.add("a", 2, 20, 10)
        self.give(self.ask())
        self.wait(4)
        self.assertEqual(self.ask_all(), [])

    def test_not_found_yet(self) -> None:
        """What it does not have while it announces is asked for again after growing pauses, until it has it."""
        self.begin_announcing()
        self.wait(6)
        asked_at = []
        for _ in range(80):
            requests = self.ask_all()
            if requests:
                asked_at.append(self.now)
                self.fail_with(PieceNotFound, *requests)
            self.wait(0.25)
        self.assertEqual([later - sooner for sooner, later in pairwise(asked_at)], [0.5, 1.0, 2.0, 4.0, 8.0])
        self.wait(4)
        for request in self.ask_all():
            self.give(request)
        self.assertTrue(self.plan.is_complete)


class RejectedTests(PlanTestCase):
    """Parents of which a certificate is rejected, by them or by this side."""

    def test_only_parent(self) -> None:
        """With no other parent the download fails at once, however long it retries."""
        self.begin("a", retry=1000.0)
        self.fail_with(CertificateRejected, self.ask())
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_announcing_parent(self) -> None:
        """The same for a parent that could not be asked what it has."""
        self.begin("a", retry=1000.0)
        self.plan.announcements.begin("a")
        self.plan.announcements.end("a", finished=False)
        self.fail_with(CertificateRejected, self.ask())
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_others(self) -> None:
        """Other parents are asked instead; it is not asked again, and what it was asked for is withdrawn."""
        first = self.begin_with_first("a", "b", at_once=4, retry=1000.0)[0]
        rejected = first.parent
        self.fail_with(CertificateRejected, first)
        withdrawn = self.withdrawn()
        self.assertEqual({request.parent for request in withdrawn}, {rejected})
        for request in withdrawn:
            self.plan.record_cancelled(request)
        for _ in range(100):
            self.wait(10)
            self.assertNotIn(rejected, [request.parent for request in self.ask_all()])
        self.assertIsNone(self.plan.failure())


class NothingYetTests(PlanTestCase):
    """Parents that do not have the task yet."""

    def play(self, seconds: float, *parents: str) -> list[tuple[float, str]]:
        """Let time go by, while these parents say that they do not have the task. When each is asked for it again."""
        asked = []
        for _ in range(int(seconds * 4)):
            while (inquiry := self.plan.waits.next_inquiry()) is not None:
                asked.append((self.now - 100, inquiry))
                if inquiry in parents:
                    self.plan.announcements.end(inquiry, True)
            for request in self.ask_all():
                self.fail_with(PieceNotFound, request)
            self.wait(0.25)
        return asked

    def begin_without(self, retry: float = 30.0) -> None:
        """Plan a download from a parent that says, when it is asked what it has, that it does not have the task."""
        self.begin("a", retry=retry)
        self.plan.announcements.begin("a")
        self.plan.announcements.end("a", True)

    def test_asked_again(self) -> None:
        """It is asked again after growing pauses, and one line says so; what it announces then is fetched."""
        self.begin_without()
        self.assertEqual([at for at, _ in self.play(16, "a")], [0.5, 1.5, 3.5, 7.5, 15.5])
        self.assertIsNone(self.plan.failure())
        [waiting] = self.plan.waits.take()
        self.assertEqual(waiting.text, "parent a does not have the task; asking it again for up to 30 s")
        self.assertEqual((waiting.reason, waiting.parent), (WaitReason.PARENT_WITHOUT_TASK, "a"))
        self.assertEqual(self.play(10), [(23.5, "a")])
        self.plan.announcements.learn("a", 10, 10)
        self.plan.announcements.add("a", 0, 0, 10)
        self.give(self.ask())
        self.assertTrue(self.plan.is_complete)

    def test_limit(self) -> None:
        """After the time for retries the task is not found."""
        self.begin_without(retry=10.0)
        self.play(9.75, "a")
        self.assertIsNone(self.plan.failure())
        self.play(1, "a")
        self.assertIsInstance(self.plan.failure(), TaskNotFound)

    def test_not_again(self) -> None:
        """Without leave to retry the task is not found at once."""
        self.begin_without(retry=0.0)
        self.assertIsInstance(self.plan.failure(), TaskNotFound)

    def test_final(self) -> None:
        """So it is where no parent can say what it has, and each answers that it does not have the first piece."""
        self.begin("a", "b", retry=30.0)
        for _ in range(2):
            self.fail_with(PieceNotFound, self.ask())
        self.assertIsInstance(self.plan.failure(), TaskNotFound)

    def test_others_go_on(self) -> None:
        """While another parent gives pieces, one that did not have the first is asked again for others."""
        self.begin("a", "b", at_once=1, retry=30.0)
        lacking = self.ask()
        self.fail_with(PieceNotFound, lacking)
        asked = set()
        for _ in range(10):
            self.wait(0.25)
            request = self.ask()
            asked.add(request.parent)
            self.give(request)
        self.assertEqual(asked, {"a", "b"})
        self.assertIn(lacking.parent, {piece.parent for piece in self.plan.layout.verified.values()})

    def test_comes_up(self) -> None:
        """A parent that could not be asked what it has is asked again, and meanwhile for any piece."""
        self.begin("a", retry=30.0)
        self.plan.announcements.begin("a")
        self.plan.announcements.end("a", False)
        self.fail_with(PieceNotFound, self.ask())
        self.assertIsNone(self.plan.failure())
        self.assertEqual(self.play(1), [(0.5, "a")])

    def test_has_all(self) -> None:
        """A parent that has announced all of the task is not asked again."""
        self.begin("a", retry=30.0)
        self.plan.announcements.begin("a")
        self.plan.announcements.learn("a", 10, 10)
        self.plan.announcements.add("a", 0, 0, 10)
        self.plan.announcements.end("a", True)
        self.ask()
        self.assertEqual(self.play(2), [])


class EndTests(PlanTestCase):
    """The end of a task of which a parent that rests may have more."""

    def begin_half(self) -> None:
        """Plan a download from a parent with one full piece, and one that has failed before."""
        self.begin("part", "whole", retry=30.0, at_once=1)
        self.give(self.ask())
        while (request := self.plan.next_request()) is not None:
            self.fail_with(ParentUnreachable if request.parent == "whole" else PieceNotFound, request)
        self.assertIs(self.plan.parents["whole"].standing, Standing.OUT)

    def test_digest_decides(self) -> None:
        """A parent that rests is not waited for: the digest tells whether what there is is all of it."""
        self.begin_half()
        self.assertTrue(self.plan.is_complete)

    def test_refuted(self) -> None:
        """If the digest is wrong, the parent that rests is waited for, and no parent is suspected."""
        self.begin_half()
        self.plan.reputation.record_mismatch(DIGEST, GOT)
        self.assertEqual((self.plan.is_complete, self.plan.failure()), (False, None))
        self.wait(1)
        again = self.ask()
        self.assertEqual((again.parent, again.number), ("part", 1))
        self.fail_with(PieceNotFound, again)
        (probe,) = self.ask_all()
        self.assertEqual((probe.parent, probe.number), ("whole", 1))
        self.give(probe, length=4)
        self.assertTrue(self.plan.is_complete)
        self.assertIs(self.plan.parents["part"].standing, Standing.GOOD)


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
                self.plan.reputation.record_mismatch(DIGEST, GOT)
            if self.now % 5 == 0:
                for asked in list(self.plan_requests()):
                    self.give(asked)
        self.assertEqual(refuted, 1)
        self.assertGreater(self.plan.layout.prefix, 5)

    def plan_requests(self) -> list[Request]:
        """What is under way."""
        return [asked for asked in self.asked if asked in self.plan.numbers.under_way.get(asked.number, ())]

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
        self.plan.pieces.take_from_others()
        self.plan.record_busy(self.ask(), owner)

    def test_told(self) -> None:
        """After a few seconds in which that process does not go on, one line names it."""
        self.begin_busy()
        for _ in range(5):
            self.wait(2)
            self.look_again((123, 1))
            self.assertIsNone(self.plan.stuck())
        self.assertEqual(
            [(waiting.text, waiting.reason, waiting.seconds) for waiting in self.plan.waits.take()],
            [
                (
                    "process 123 is fetching piece 0 and has not gone on for 8 s; waiting for it",
                    WaitReason.OTHER_PROCESS,
                    8.0,
                )
            ],
        )

    def test_goes_on(self) -> None:
        """While it goes on it is waited for without end."""
        self.begin_busy()
        for beat in range(100):
            self.wait(2)
            self.look_again((123, beat))
            self.assertIsNone(self.plan.stuck())
        self.assertEqual(self.plan.waits.take(), [])

    def test_limit(self) -> None:
        """One that does not go on is waited for as long as for a parent."""
        self.begin_busy()
        self.wait(29)
        self.look_again((123, 1))
        self.assertIsNone(self.plan.stuck())
        self.wait(1)
        self.assertEqual(self.plan.stuck(), "piece 0 is being fetched by process 123, which has not gone on for 30 s")
