"""Which pieces are asked of the source, and when: peers first, and each piece once."""

from __future__ import annotations

from dragonfly_vortex.errors import (
    NoParentLeft,
    ParentRefused,
    ParentUnreachable,
    PieceNotFound,
    PieceTimeout,
    TaskNotFound,
    UnexpectedPiece,
)
from dragonfly_vortex.model import BackToSource
from dragonfly_vortex.task.timing import Request
from test.task.planning import PlanTestCase, why

ALWAYS, LAST_RESORT = BackToSource.ALWAYS, BackToSource.LAST_RESORT
SOURCE = "http://origin/f"


class SourceCase(PlanTestCase):
    """A task of six pieces of ten bytes, that the source has."""

    count = 6

    def begin_with(
        self,
        *peers: str,
        policy: BackToSource = LAST_RESORT,
        at_once: int = 8,
        retry: float = 0.0,
        announces: bool = True,
    ) -> None:
        """Plan a download from peers, which announce, and from the source, which has told the layout."""
        self.begin(*peers, SOURCE, at_once=at_once, retry=retry, source=SOURCE, back_to_source=policy)
        for peer in peers if announces else ():
            self.plan.announcements.begin(peer)
        self.plan.announcements.begin(SOURCE)
        self.tell_of_source()

    def tell_of_source(self) -> None:
        """The source tells what it has."""
        self.plan.announcements.learn(SOURCE, self.count * 10, 10)
        for number in range(self.count):
            self.plan.announcements.add(SOURCE, number, number * 10, 10)
        self.plan.announcements.end(SOURCE, True)

    def announce(self, peer: str, *numbers: int) -> None:
        """A peer tells what it has."""
        for number in numbers:
            self.plan.announcements.add(peer, number, number * 10, 10)

    def of(self, parent: str, requests: list[Request]) -> list[int]:
        """The numbers that are asked of a parent."""
        return [request.number for request in requests if request.parent == parent]


class AloneTests(SourceCase):
    """A download with no other parent."""

    def test_all(self) -> None:
        """All pieces are asked of the source, in order and once."""
        self.begin_with(at_once=4)
        requests = self.ask_all()
        self.assertEqual(self.numbers(requests), [0, 1, 2, 3])
        for request in requests:
            self.give(request)
        for request in self.ask_all():
            self.give(request)
        self.assertTrue(self.plan.is_complete)
        self.assertEqual(self.from_source, {"no_parent": 6})

    def test_what_others_fetch_is_not_counted(self) -> None:
        """A piece that another process fetches is not asked of the source by this one."""
        self.begin_with(at_once=2)
        first, second = self.ask_all()
        self.plan.record_busy(first, (1, 1))
        self.give(second)
        self.assertEqual(self.from_source, {"no_parent": 1})
        self.plan.pieces.take_from_others()
        self.assertEqual(self.ask().number, 0)
        self.assertEqual(self.from_source, {"no_parent": 2})

    def test_waits_for_its_layout(self) -> None:
        """Nothing is asked of a source that has not said yet what it has."""
        self.begin(SOURCE, source=SOURCE)
        self.plan.announcements.begin(SOURCE)
        self.assertEqual(self.ask_all(), [])
        self.assertIsNone(self.plan.failure())

    def test_without_a_length(self) -> None:
        """A source that does not say how much it has is asked until it says that there is no more."""
        self.begin(SOURCE, source=SOURCE, at_once=3)
        self.plan.announcements.begin(SOURCE)
        self.plan.announcements.learn(SOURCE, None, 10)
        self.plan.announcements.end(SOURCE, False)
        requests = self.ask_all()
        self.assertEqual(self.numbers(requests), [0, 1, 2])
        self.give(requests[0])
        self.give(requests[1])
        for request in (requests[2], *self.ask_all()):
            error = PieceNotFound(SOURCE, f"{request.number}", "the end")
            error.content_length = 20
            self.plan.record_failure(request, error)
        self.assertTrue(self.plan.is_complete)
        self.assertEqual(self.plan.layout.content_length, 20)

    def test_not_found(self) -> None:
        """What a source lacks is not waited for, however long is retried."""
        self.begin(SOURCE, source=SOURCE, retry=30.0)
        self.plan.announcements.begin(SOURCE)
        self.plan.announcements.end(SOURCE, False)
        self.fail_with(PieceNotFound, self.ask())
        self.assertIsInstance(self.plan.failure(), TaskNotFound)

    def test_refused(self) -> None:
        """A source that refuses is not asked again."""
        self.begin_with(retry=30.0)
        requests = self.ask_all()
        self.fail_with(ParentRefused, requests[0])
        self.assertEqual(len(self.withdrawn()), 5)
        for request in requests[1:]:
            self.plan.record_cancelled(request)
        failure = self.plan.failure()
        self.assertIsInstance(failure, NoParentLeft)

    def test_retry_after(self) -> None:
        """A source that asks for a pause gets it at once, and is asked for its layout again if it has not told that."""
        self.begin(SOURCE, source=SOURCE, retry=60.0)
        self.plan.announcements.begin(SOURCE)
        self.plan.announcements.end(SOURCE, False)
        request = self.ask()
        error = why(ParentUnreachable, request)
        error.retry_after = 20.0
        self.plan.record_failure(request, error)
        self.wait(19.0)
        self.assertEqual(self.ask_all(), [])
        self.wait(1.5)
        self.assertEqual(self.plan.waits.next_inquiry(), SOURCE)
        self.assertEqual(self.numbers(self.ask_all()), [0])


class LastResortTests(SourceCase):
    """A source that is asked when no parent can give a piece, nor may come to have it."""

    def test_waits_while_a_peer_announces(self) -> None:
        """A peer that is still fetching is waited for; when it has told all that it has, the source gives the rest."""
        self.begin_with("a")
        self.announce("a", 0, 1)
        requests = self.ask_all()
        self.assertEqual((self.of("a", requests), self.of(SOURCE, requests)), ([0, 1], []))
        self.plan.announcements.end("a", True)
        self.assertEqual(self.of(SOURCE, self.ask_all()), [2, 3, 4, 5])
        self.assertEqual(self.from_source, {"not_found": 4})

    def test_not_for_ever(self) -> None:
        """Where nothing has arrived for 5 s, announcements are not waited for any more."""
        self.begin_with("a")
        self.wait(4.5)
        self.assertEqual(self.ask_all(), [])
        self.wait(0.6)
        self.assertEqual(self.of(SOURCE, self.ask_all()), [0, 1, 2, 3, 4, 5])
        self.assertEqual(self.from_source, {"not_announced": 6})

    def test_a_peer_without_the_task(self) -> None:
        """A peer that lacks the task is not waited for, even where it would be asked again after a while."""
        self.begin_with("a", retry=30.0)
        self.plan.announcements.end("a", True)
        self.assertEqual(self.of(SOURCE, self.ask_all()), [0, 1, 2, 3, 4, 5])

    def test_a_peer_that_cannot_say(self) -> None:
        """A peer that cannot say what it has is asked first; the source gives what it lacks, and all behind it."""
        self.begin_with("a", announces=False)
        requests = self.ask_all()
        self.assertEqual(self.of("a", requests), [0, 1, 2, 3, 4, 5])
        self.give(requests[0])
        self.fail_with(PieceNotFound, *requests[1:])
        self.assertEqual(self.of(SOURCE, self.ask_all()), [1, 2, 3, 4, 5])

    def test_a_peer_that_dies(self) -> None:
        """The pieces of a peer that dies come from the source at once; those that have arrived stay."""
        self.begin_with("a", retry=30.0, at_once=3)
        self.announce("a", *range(6))
        self.plan.announcements.end("a", True)
        requests = self.ask_all()
        self.assertEqual(self.of("a", requests), [0, 1, 2])
        self.give(requests[0])
        self.fail_with(PieceTimeout, requests[1])
        self.plan.record_cancelled(requests[2])
        requests = self.ask_all()
        self.assertEqual(self.of(SOURCE, requests), [1, 2, 3])
        self.assertEqual(self.from_source, {"failed": 3})

    def test_a_peer_that_stalls(self) -> None:
        """A piece of which nothing comes for long is asked of the source, too."""
        self.begin_with("a", at_once=2)
        self.announce("a", *range(6))
        requests = self.ask_all()
        self.give(requests[0])
        self.ask_all()
        for _ in range(40):
            self.wait(0.5)
        requests = self.ask_all()
        self.assertEqual({request.parent for request in requests}, {SOURCE})
        self.assertIn(1, self.numbers(requests))
        self.assertEqual(set(self.from_source), {"slow"})

    def test_a_peer_that_waits(self) -> None:
        """A peer that sends nothing for less than 10 s is waited for: it may serve others before."""
        self.begin_with("a", at_once=2)
        self.announce("a", *range(6))
        self.ask_all()
        for _ in range(19):
            self.wait(0.5)
        self.assertEqual(self.ask_all(), [])

    def test_a_source_that_lies(self) -> None:
        """A source that is found to lie is asked no more, and the peers go on."""
        self.begin_with("a")
        self.announce("a", 0)
        self.plan.announcements.end("a", True)
        requests = self.ask_all()
        self.fail_with(UnexpectedPiece, next(each for each in requests if each.parent == SOURCE))
        self.assertFalse(self.plan.parents[SOURCE].is_alive)
        self.assertTrue(self.plan.parents["a"].is_alive)


class ChildTests(SourceCase):
    """A child that is asked in turn: the source does not wait for it."""

    def meet(self, child: str) -> None:
        """A child asks, and is asked in turn."""
        self.plan.add_parent(child, is_awaited=False)
        self.plan.announcements.begin(child)

    def test_not_awaited(self) -> None:
        """The source is asked at once for what a child may announce."""
        for policy in (LAST_RESORT, ALWAYS):
            self.begin_with(policy=policy)
            self.meet("child")
            self.assertEqual(self.of(SOURCE, self.ask_all()), [0, 1, 2, 3, 4, 5])

    def test_asked_first(self) -> None:
        """What a child has announced is asked of it, and not of the source."""
        self.begin_with()
        self.meet("child")
        self.announce("child", 1, 4)
        requests = self.ask_all()
        self.assertEqual((self.of("child", requests), self.of(SOURCE, requests)), ([1, 4], [0, 2, 3, 5]))

    def test_beside_a_parent(self) -> None:
        """A parent beside the child is awaited as before, whether it asks, too, or is offered after it has asked."""
        self.begin_with("a")
        self.meet("a")
        self.assertEqual(self.ask_all(), [])
        self.begin_with()
        self.meet("child")
        self.plan.add_parent("child")
        self.plan.announcements.begin("child")
        self.assertEqual(self.ask_all(), [])


class AlwaysTests(SourceCase):
    """A source that is asked at once for what no peer has."""

    def test_a_second_for_the_first_word(self) -> None:
        """A peer has a second to say what it has; then the source gives what it has not announced."""
        self.begin_with("a", policy=ALWAYS)
        self.wait(0.5)
        self.assertEqual(self.ask_all(), [])
        self.wait(0.6)
        self.assertEqual(self.of(SOURCE, self.ask_all()), [0, 1, 2, 3, 4, 5])

    def test_beside_peers(self) -> None:
        """What peers have announced is asked of them, and the rest of the source at the same time."""
        self.begin_with("a", "b", policy=ALWAYS)
        self.announce("a", 0, 3)
        self.announce("b", 3, 5)
        self.wait(0.3)
        requests = self.ask_all()
        self.assertEqual(self.of(SOURCE, requests), [1, 2, 4])
        self.assertTrue(set(self.of("a", requests) + self.of("b", requests)) <= {0, 3, 5})
        for request in requests:
            self.give(request)
        for request in self.ask_all():
            self.give(request)
        self.assertTrue(self.plan.is_complete)
        self.assertEqual(self.from_source, {"not_announced": 3})

    def test_a_peer_that_waits(self) -> None:
        """A slow peer is not waited for."""
        self.begin_with("a", policy=ALWAYS, at_once=2)
        self.announce("a", *range(6))
        self.ask_all()
        for _ in range(9):
            self.wait(0.5)
        self.assertEqual({request.parent for request in self.ask_all()}, {SOURCE})
        self.assertEqual(set(self.from_source), {"slow"})

    def test_a_piece_that_a_peer_gets_meanwhile(self) -> None:
        """A piece that is announced before the source is asked comes from the peer."""
        self.begin_with("a", policy=ALWAYS, at_once=2)
        self.announce("a", 0)
        first = self.ask_all()
        self.assertEqual((self.of("a", first), self.of(SOURCE, first)), ([0], [1]))
        self.announce("a", 2, 3, 4, 5)
        for request in first:
            self.give(request)
        self.assertEqual(self.of("a", self.ask_all()), [2, 3])

    def test_many_pieces(self) -> None:
        """A task of many pieces takes no more than its share of time: what was seen is not looked at again."""
        self.count = 20_000
        self.begin_with("a", policy=ALWAYS, at_once=4)
        self.announce("a", *range(self.count))
        self.plan.announcements.end("a", True)
        while requests := self.ask_all():
            for request in requests:
                self.give(request)
        self.assertTrue(self.plan.is_complete)
        self.assertEqual(self.from_source, {})
