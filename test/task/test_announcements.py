"""Tests of what parents are asked about a task, and of where their answers go."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.task.announcements import Inquiries
from dragonfly_vortex.task.scheduler import Plan
from dragonfly_vortex.wire import PieceKind
from test.task.announcer import PlayedAnnouncer

TASK_ID = "a-task"


class InquiriesTests(SynchronousTestCase):
    """Two parents that announce, and one that does not."""

    def setUp(self) -> None:
        self.announcers = {name: PlayedAnnouncer() for name in ("a", "b")}
        self.clock = Clock()
        self.told = 0
        self.plan = self.make_plan("a", "c")
        self.inquiries = Inquiries(
            self.clock, self.announcers, self.plan.announcements, PieceKind.STANDARD, TASK_ID, self.count
        )

    def make_plan(self, *parents: str) -> Plan:
        """A plan of these parents, whose time has begun."""
        plan = Plan(TASK_ID, parents, 4)
        plan.advance(0.0)
        return plan

    def count(self) -> None:
        """What is called when a parent has said something."""
        self.told += 1

    def test_follow(self) -> None:
        """The parents of a plan are asked; what they say is known to the plan at once, and reported once a turn."""
        self.inquiries.follow(self.plan.announcements)
        self.assertEqual(self.announcers["a"].asked, (PieceKind.STANDARD, TASK_ID))
        self.assertIsNone(self.announcers["b"].asked)
        self.announcers["a"].tell_layout(950, 100)
        self.assertEqual((self.plan.layout.piece_length, self.told), (100, 0))
        self.clock.advance(0)
        self.assertEqual(self.told, 1)
        self.announcers["a"].tell_piece(0, 0, 100)
        self.announcers["a"].tell_end(True)
        self.clock.advance(0)
        self.assertEqual(self.told, 2)

    def test_stopped(self) -> None:
        """What is not reported when all parents are left is not reported later, and no call is left behind."""
        self.inquiries.follow(self.plan.announcements)
        self.announcers["a"].tell_layout(950, 100)
        self.inquiries.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.inquiries.stop()
        self.assertEqual(self.told, 0)

    def test_another_plan(self) -> None:
        """With another plan the parents of the one before are asked no more."""
        self.inquiries.follow(self.plan.announcements)
        self.inquiries.follow(self.make_plan("b").announcements)
        self.assertTrue(self.announcers["a"].is_stopped)
        self.assertEqual(self.announcers["b"].asked, (PieceKind.STANDARD, TASK_ID))
        self.inquiries.stop()
        self.assertTrue(self.announcers["b"].is_stopped)

    def test_one_parent(self) -> None:
        """One parent can be left out, and asked again; one that is asked is not asked a second time."""
        self.inquiries.follow(self.plan.announcements)
        self.announcers["a"].asked = None
        self.inquiries.begin("a")
        self.assertIsNone(self.announcers["a"].asked)
        self.inquiries.end("a")
        self.inquiries.end("a")
        self.assertTrue(self.announcers["a"].is_stopped)
        self.inquiries.begin("a")
        self.assertEqual(self.announcers["a"].asked, (PieceKind.STANDARD, TASK_ID))
