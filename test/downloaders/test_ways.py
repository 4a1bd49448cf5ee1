"""What is known of the ways to a parent, told step by step: no piece is fetched here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.downloaders.ways import REST, KnownParent, Way
from test.downloaders.played import Played

_PARENT = "192.0.2.1:4000"


def way(name: str, address: str) -> Way:
    """A way of which nothing is known."""
    return Way(name=name, address=address, downloader=Played, can_be_heard=True)


class WayTests(SynchronousTestCase):
    """One way, at 100 seconds."""

    def setUp(self) -> None:
        self.way = way("TCP", "192.0.2.1:4005")

    def test_rests(self) -> None:
        """A way that has failed rests for a while, and works before that."""
        self.assertFalse(self.way.is_resting(100.0))
        self.assertTrue(self.way.failed(0, 100.0, "refused"))
        self.assertTrue(self.way.is_resting(100.0 + REST - 0.1))
        self.assertFalse(self.way.is_resting(100.0 + REST))

    def test_one_at_a_time(self) -> None:
        """While a piece tries it again, it rests for all others."""
        self.way.failed(0, 100.0, "refused")
        self.way.is_tried = True
        self.assertTrue(self.way.is_resting(100.0 + REST))

    def test_old_news(self) -> None:
        """The failure of a piece that was asked for before a change says nothing about the way as it is now."""
        self.way.failed(0, 100.0, "refused")
        self.assertFalse(self.way.failed(0, 120.0, "reset"))
        self.assertEqual((self.way.failed_at, self.way.why), (100.0, "refused"))
        self.assertTrue(self.way.failed(1, 140.0, "reset"))
        self.assertEqual((self.way.failed_at, self.way.why), (140.0, "reset"))


class KnownParentTests(SynchronousTestCase):
    """A parent with two ways."""

    def setUp(self) -> None:
        self.tcp, self.grpc = way("TCP", "192.0.2.1:4005"), way("gRPC", _PARENT)
        self.parent = KnownParent(address=_PARENT)
        self.parent.offer([self.tcp, self.grpc])

    def answered(self, way: Way) -> str | None:
        """The way answers what has been asked on it now."""
        return self.parent.answered(way, way.round)

    def fall_back(self) -> None:
        """TCP has failed after it had answered, and gRPC answers."""
        self.answered(self.tcp)
        self.tcp.failed(0, 100.0, "refused")
        self.answered(self.grpc)

    def test_order(self) -> None:
        """The ways are tried in their order, those that rest last; while all rest they are in their order again."""
        self.assertEqual(self.parent.in_order(100.0), [self.tcp, self.grpc])
        self.tcp.failed(0, 100.0, "refused")
        self.assertEqual(self.parent.in_order(100.0), [self.grpc, self.tcp])
        self.grpc.failed(0, 100.0, "gone")
        self.assertEqual(self.parent.in_order(100.0), [self.tcp, self.grpc])

    def test_best(self) -> None:
        """The best way is the first that works."""
        self.assertIs(self.parent.best, self.tcp)
        self.tcp.failed(0, 100.0, "refused")
        self.assertIs(self.parent.best, self.grpc)
        self.grpc.failed(0, 100.0, "gone")
        self.assertIsNone(self.parent.best)

    def test_first_answer(self) -> None:
        """That the best way answers is nothing to speak of, the first time and the next."""
        self.assertEqual((self.answered(self.tcp), self.answered(self.tcp)), (None, None))
        self.assertIs(self.parent.in_use, self.tcp)

    def test_another_way(self) -> None:
        """That another way has to be used is said once, and why."""
        self.tcp.failed(0, 100.0, "refused")
        line = f"parent {_PARENT}: TCP port 4005 does not answer (refused), using gRPC"
        self.assertEqual((self.answered(self.grpc), self.answered(self.grpc)), (line, None))

    def test_another_host(self) -> None:
        """The whole address of a way that leads to another host is said."""
        for parent, address, named in (
            ("grpc://192.0.2.1:4000", "192.0.2.9:4005", "TCP at 192.0.2.9:4005"),
            ("grpcs://parent.example:4000", "tls://parent.example:4005", "TCP port 4005"),
            ("grpc://[2001:db8::1]:4000", "[2001:db8::1]:4005", "TCP port 4005"),
        ):
            tcp, grpc = way("TCP", address), way("gRPC", parent)
            known = KnownParent(address=parent)
            known.offer([tcp, grpc])
            tcp.failed(0, 100.0, "refused")
            line = f"parent {parent}: {named} does not answer (refused), using gRPC"
            self.assertEqual(known.answered(grpc, 0), line)

    def test_the_other_way_round(self) -> None:
        """A way without a port of its own fails by its name."""
        self.fall_back()
        self.grpc.failed(0, 110.0, "gone")
        self.assertEqual(self.answered(self.tcp), f"parent {_PARENT}: gRPC does not answer (gone), using TCP")

    def test_answers_again(self) -> None:
        """A way that answers again works again, which is said once."""
        self.fall_back()
        line = f"parent {_PARENT}: TCP answers again, using TCP"
        self.assertEqual((self.answered(self.tcp), self.answered(self.tcp)), (line, None))
        self.assertIs(self.parent.best, self.tcp)

    def test_back_together(self) -> None:
        """A parent that has answered on neither, and comes back by its best way, is nothing to speak of."""
        self.tcp.failed(0, 100.0, "refused")
        self.grpc.failed(0, 100.0, "gone")
        self.assertIsNone(self.answered(self.tcp))

    def test_old_answer(self) -> None:
        """An answer to what was asked before the way failed does not make it work again."""
        self.fall_back()
        self.assertIsNone(self.parent.answered(self.tcp, 0))
        self.assertEqual((self.parent.best, self.parent.in_use), (self.grpc, self.grpc))

    def test_the_same_again(self) -> None:
        """What is offered again, at the same address, is remembered."""
        self.fall_back()
        self.parent.offer([way("TCP", "192.0.2.1:4005"), way("gRPC", _PARENT)])
        self.assertEqual((self.parent.ways, self.parent.in_use), ((self.tcp, self.grpc), self.grpc))

    def test_another_address(self) -> None:
        """Of another address nothing is known, and what is used next is nothing to speak of."""
        self.fall_back()
        moved = way("TCP", "192.0.2.1:4007")
        self.parent.offer([moved, way("gRPC", _PARENT)])
        self.assertEqual((self.parent.ways, self.parent.in_use), ((moved, self.grpc), None))
        self.assertIsNone(self.answered(moved))
