"""Parents that are added to a download and removed from it while it runs."""

from __future__ import annotations

from dragonfly_vortex.errors import InvalidPiece, NoParentLeft, ParentUnreachable, PieceNotFound, PieceTimeout
from test.task.announcer import PlayedAnnouncer
from test.task.downloading import CONTENT, DownloadTestCase
from test.task.parents import PlayedParent
from test.task.planning import PlanTestCase


class PlanTests(PlanTestCase):
    """The plan."""

    def test_added(self) -> None:
        """A parent that is added is asked, for new pieces and for those that could not be had before."""
        first, *others = self.begin_with_first("a", at_once=3, retry=30.0)
        self.fail_with(PieceTimeout, first, *others)
        self.assertEqual(self.ask_all(), [])
        self.plan.add_parent("b")
        asked = self.ask_all()
        self.assertEqual({request.parent for request in asked}, {"b"})
        self.assertEqual(self.numbers(asked), [1, 2, 3])

    def test_added_may_have_the_end(self) -> None:
        """What one parent lacks is asked of a parent that is added, before it counts as the end."""
        (second, *_) = self.begin_with_first("a", at_once=1)
        self.plan.add_parent("b")
        self.fail_with(PieceNotFound, second)
        self.assertFalse(self.plan.is_complete)
        asked = self.ask()
        self.assertEqual((asked.parent, asked.number), ("b", 1))
        self.fail_with(PieceNotFound, asked)
        self.assertTrue(self.plan.is_complete)

    def test_removed(self) -> None:
        """A parent that is removed gets no more requests; those that are under way go on, and are taken."""
        asked = self.begin_with_first("a", "b")
        self.plan.remove_parent("a")
        of_a = [request for request in asked if request.parent == "a"]
        self.assertTrue(of_a)
        self.assertEqual(self.withdrawn(), [])
        for request in asked:
            self.give(request)
        self.assertTrue(all(request.number in self.plan.layout.verified for request in of_a))
        self.assertEqual({request.parent for request in self.ask_all()}, {"b"})

    def test_removed_does_not_come_back_by_itself(self) -> None:
        """A pause ends, and a removed parent that failed is not asked again; what it lacked does not count."""
        asked = self.begin_with_first("a", "b", at_once=2, retry=30.0)
        of_a, of_b = sorted(asked, key=lambda request: request.parent)
        self.fail_with(ParentUnreachable, of_a)
        self.plan.remove_parent("a")
        self.wait(10.0)
        self.give(of_b)
        self.assertEqual({request.parent for request in self.ask_all()}, {"b"})

    def test_all_removed(self) -> None:
        """With no parent left the plan fails when the last request has ended, and not before."""
        asked = self.begin_with_first("a", at_once=1)
        self.plan.remove_parent("a")
        self.assertIsNone(self.plan.failure())
        self.give(asked[0])
        self.assertIsInstance(self.plan.failure(), NoParentLeft)

    def test_named_again(self) -> None:
        """A parent that was removed, or did not answer, is asked again once it is added; a liar is not."""
        asked = self.begin_with_first("a", "b", at_once=2)
        self.plan.remove_parent("a")
        self.plan.add_parent("a")
        of_a, of_b = sorted(asked, key=lambda request: request.parent)
        self.fail_with(PieceTimeout, of_a)
        self.assertFalse(self.plan.parents["a"].is_alive)
        self.plan.add_parent("a")
        self.assertTrue(self.plan.parents["a"].is_alive)
        self.fail_with(InvalidPiece, of_b)
        self.plan.add_parent("b")
        self.assertFalse(self.plan.parents["b"].is_alive)

    def test_unknown(self) -> None:
        """A parent that was never there can be removed, for nothing."""
        self.begin("a")
        self.plan.remove_parent("b")
        self.assertEqual([*self.plan.parents], ["a"])


class DownloadTests(DownloadTestCase):
    """Whole downloads."""

    def test_added(self) -> None:
        """What one parent does not give comes from a parent that is added, and the summary has both."""
        downloader = self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        started = self.download(concurrency=1)
        downloader.give(downloader.waiting[0])
        downloader.parents["b"] = PlayedParent(content=CONTENT, piece_length=100)  # type: ignore[index]  # it is a dict
        self.task.add_parent("b")
        self.task.remove_parent("a")
        while downloader.waiting:
            downloader.give(downloader.waiting[0])
        done = self.assert_complete(started)
        self.assertEqual([(share.parent, share.piece_count) for share in done.shares], [("a", 2), ("b", 8)])

    def test_announcers(self) -> None:
        """A parent that is added is asked what it has, and one that is removed is asked that no more."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100), is_held=True)
        first, second = PlayedAnnouncer(self.clock), PlayedAnnouncer(self.clock)
        started = self.download(announcers={"a": first})
        self.task.add_parent("b", second)
        self.assertIsNotNone(second.asked)
        self.task.remove_parent("a")
        self.assertEqual((first.is_stopped, second.is_stopped), (True, False))
        self.task.cancel()
        self.failureResultOf(started)
        self.assertTrue(second.is_stopped)

    def test_before_it_starts_and_after_its_end(self) -> None:
        """Parents may be changed at any time; those that are known at the start are asked."""
        downloader = self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        self.assert_complete(self.download())
        self.task.add_parent("c")
        self.task.remove_parent("a")
        self.assertEqual({asked.addr for asked in downloader.asked}, {"a"})

    def test_begun_anew(self) -> None:
        """A download that begins anew still knows for which parents the source does not wait."""
        self.play(a=PlayedParent(content=CONTENT, piece_length=100))
        self.assert_complete(self.download())
        self.task.add_parent("b", is_awaited=False)
        self.task.add_parent("c", is_awaited=False)
        self.task.add_parent("c")
        trials = self.task._trials
        parents = trials.anew(self.task._make_plan(parents=[*trials.parents])).parents
        self.assertEqual({name: each.is_awaited for name, each in parents.items()}, {"a": True, "b": False, "c": True})

    def test_tried_alone(self) -> None:
        """A parent that is added while another one is tried alone is tried after that, and gives the right whole."""
        wrong = bytes(1000)
        downloader = self.play(
            a=PlayedParent(content=wrong, piece_length=100), b=PlayedParent(content=wrong, piece_length=100)
        )
        parents = downloader.parents
        started = self.download(concurrency=1, announcers={})
        self.failureResultOf(started)
        downloader.is_held = True
        downloader.asked.clear()
        started = self.download(concurrency=1)
        while self.task._trials.on_trial is None:
            downloader.give(downloader.waiting[0])
        parents["c"] = PlayedParent(content=CONTENT, piece_length=100)  # type: ignore[index]  # it is a dict
        self.task.add_parent("c")
        while downloader.waiting:
            downloader.give(downloader.waiting[0])
        self.assert_complete(started)

    def test_not_tried_any_more(self) -> None:
        """A parent that is removed while another one is tried alone is not tried after that."""
        parents = {name: PlayedParent(content=bytes(1000), piece_length=100) for name in "abc"}
        downloader = self.play(is_held=True, **parents)
        started = self.download(concurrency=1)
        while self.task._trials.on_trial is None:
            downloader.give(downloader.waiting[0])
        first = self.task._trials.on_trial
        last = max({"a", "b", "c"} - {first})
        self.task.remove_parent(last)
        before = len(downloader.asked)
        while downloader.waiting:
            downloader.give(downloader.waiting[0])
        self.failureResultOf(started)
        tried = {asked.addr for asked in downloader.asked[before:]}
        self.assertEqual(tried - {first}, {"a", "b", "c"} - {first, last})
