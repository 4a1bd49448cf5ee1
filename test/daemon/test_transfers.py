"""What the events of downloads make."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.daemon.piece_map import CELLS
from dragonfly_vortex.daemon.transfers import Meter, ParentView, Transfers, TransferView
from dragonfly_vortex.errors import NoParentKnown, StorageFailure
from dragonfly_vortex.events import (
    LayoutFound,
    ParentAdded,
    ParentDropped,
    PieceKept,
    PiecesDropped,
    PieceUnderWay,
    Waiting,
    WaitReason,
)
from dragonfly_vortex.model import Origin, TaskRequest
from dragonfly_vortex.wire import PieceKind

REQUEST = TaskRequest(
    kind=PieceKind.STANDARD,
    task_id="ab" * 32,
    origin=Origin(url="https://user:secret@origin.example/model?token=secret"),
)

KEPT = PieceKept(number=0, offset=0, length=100, kept_bytes=0, kept_pieces=0, content_length=None)

WAITING = Waiting(
    reason=WaitReason.SILENT_PARENT, text="parent peer-1:4005 has sent nothing for 7 s", parent="peer-1:4005", seconds=7
)


def kept(number: int, parent: str = "", transport: str = "tcp") -> PieceKept:
    """A piece that is there."""
    return replace(KEPT, number=number, parent=parent, transport=transport if parent else "")


class TransferTests(SynchronousTestCase):
    """One download of a task of ten pieces, the last of which is half as long."""

    def setUp(self) -> None:
        self.transfers = Transfers()
        self.transfer = self.transfers.begin(REQUEST)
        self.under_way: list[PieceUnderWay] = []

    def hear(self, *events: object) -> None:
        """Record events."""
        for event in events:
            self.transfer.hear(event)  # type: ignore[arg-type]  # all are events

    def run_it(self) -> None:
        """The download runs."""
        self.transfer.follow(lambda: self.under_way, "https://origin.example/model")
        self.hear(LayoutFound(content_length=950, piece_length=100))

    def view(self, now: float = 0.0) -> TransferView:
        """What there is to be seen of it."""
        (transfer,) = self.transfers.shown()
        return transfer.view(now)

    def parent(self, name: str, now: float = 0.0) -> ParentView:
        """One of its parents."""
        (found,) = (parent for parent in self.view(now).parents if parent.name == name)
        return found

    def test_waits_for_its_turn(self) -> None:
        """A download that has not begun is queued; its URL is shown without secrets."""
        view = self.view()
        self.assertEqual((view.state, view.id, view.kind), ("queued", REQUEST.task_id, "standard"))
        self.assertEqual(view.name, "https://origin.example/model?...")
        self.assertEqual((view.piece_count, view.content_length, view.received, view.fill), (None, None, 0, ""))

    def test_pieces(self) -> None:
        """Each piece is counted for its parent, with its bytes, and has its place in the map."""
        self.run_it()
        self.hear(kept(0), kept(1, "peer-1:4005"), kept(9, "grpc://peer-2:4000", "grpc"))
        view = self.view()
        self.assertEqual((view.pieces, view.piece_count, view.received), (3, 10, 250))
        self.assertEqual((view.fill, view.owner), ("9900000009", "01.......2"))
        self.assertEqual([parent.name for parent in view.parents], ["", "peer-1:4005", "grpc://peer-2:4000"])
        self.assertEqual([parent.bytes for parent in view.parents], [100, 100, 50])
        self.assertEqual([parent.transport for parent in view.parents], ["", "tcp", "grpc"])
        self.assertEqual(self.transfers.received(), 150)

    def test_again(self) -> None:
        """A piece that another parent gives in the end counts for that one alone; one that is dropped, for none."""
        self.run_it()
        self.hear(kept(1, "a:1"), kept(1, "b:1"), kept(2, "a:1"))
        self.hear(PiecesDropped(numbers=(2, 7), kept_bytes=100, kept_pieces=1))
        view = self.view()
        self.assertEqual([(parent.name, parent.pieces) for parent in view.parents[1:]], [("a:1", 0), ("b:1", 1)])
        self.assertEqual((view.pieces, view.fill), (1, "0900000000"))

    def test_under_way(self) -> None:
        """What has arrived of pieces under way counts, and gives the rates and the time that is left."""
        self.run_it()
        self.hear(ParentAdded(parent="a:1"), ParentAdded(parent="b:1"))
        self.view(now=10.0)
        self.under_way = [PieceUnderWay(number=3, parent="a:1", received=60)]
        view = self.view(now=12.0)
        self.assertEqual((view.received, view.rate, view.busy), (60, 30, (3,)))
        self.assertEqual(view.seconds_left, 30)
        self.under_way = [PieceUnderWay(number=3, parent="a:1", received=90)]
        a, b = self.parent("a:1", 13.0), self.parent("b:1", 13.0)
        self.assertEqual((a.bytes, a.rate, a.asked, a.state), (90, 30, 1, "gives"))
        self.assertEqual((b.bytes, b.rate, b.asked, b.state), (0, 0, 0, "idle"))

    def test_waits(self) -> None:
        """A wait names its parent, and ends when that gives a piece, or is asked no more."""
        self.run_it()
        self.hear(WAITING)
        (wait,) = self.view().waits
        self.assertEqual((wait.parent, wait.text), ("peer-1:4005", "has sent nothing for 7 s"))
        self.hear(kept(0, "peer-1:4005"))
        self.assertEqual(self.view().waits, ())
        self.hear(WAITING, ParentDropped(parent="peer-1:4005", reason="it has lied"))
        self.assertEqual(self.view().waits, ())
        self.hear(replace(WAITING, parent="", text="process 7 has not gone on"), kept(1, "peer-2:4005"))
        self.assertEqual(self.view().waits, ())

    def test_dropped_parent(self) -> None:
        """A parent that is asked no more stays, with the reason, until it is asked again."""
        self.run_it()
        self.hear(ParentAdded(parent="a:1"), ParentDropped(parent="a:1", reason="piece 3 has another digest"))
        self.assertEqual(self.parent("a:1").state, "not asked any more: piece 3 has another digest")
        self.assertTrue(self.parent("a:1").is_gone)
        self.hear(ParentAdded(parent="a:1"))
        self.assertFalse(self.parent("a:1").is_gone)

    def test_source(self) -> None:
        """The source is marked."""
        self.run_it()
        self.hear(kept(0, "https://origin.example/model", "http"))
        self.assertTrue(self.parent("https://origin.example/model").is_source)

    def test_done(self) -> None:
        """A download that has ended stays for a while, and what it has had from parents counts for ever."""
        self.run_it()
        self.hear(kept(0, "a:1"), WAITING)
        self.transfers.end(self.transfer)
        view = self.view()
        self.assertEqual((view.state, view.waits, view.busy, view.rate), ("done", (), (), 0))
        self.assertIsNotNone(view.ended)
        for _ in range(50):
            self.transfers.end(self.transfers.begin(REQUEST))
        self.assertLess(len(self.transfers.shown()), 20)
        self.assertEqual(self.transfers.received(), 100)

    def test_failed(self) -> None:
        """The reason of a failure is shown, but not that of the storage, which may name paths."""
        for error, text in (
            (NoParentKnown(REQUEST.task_id, "none"), "none"),
            (StorageFailure("cannot write /var/lib/secret"), "the log of the peer says why"),
            (CancelledError(), "cancelled"),
            (ValueError(), "ValueError"),
        ):
            self.transfers = Transfers()
            self.transfers.end(self.transfers.begin(REQUEST), error)
            self.assertEqual(self.view().state, "failed")
            self.assertIn(text, self.view().error)
            self.assertNotIn("/var", self.view().error)

    def test_strangers(self) -> None:
        """Texts of strangers are on one line, and not longer than a line of the log may be."""
        self.run_it()
        self.hear(ParentDropped(parent="a:1", reason="\x1b[2J\nbad" + 100_000 * "x"))
        state = self.parent("a:1").state
        self.assertTrue(state.isprintable())
        self.assertLess(len(state), 2000)

    def test_many_parents(self) -> None:
        """Of a hundred parents the last ones are shown together."""
        self.run_it()
        self.hear(LayoutFound(content_length=10_000, piece_length=100))
        self.hear(*(kept(number, f"peer-{number}:4005") for number in range(100)))
        view = self.view()
        self.assertEqual(view.parents[-1].name, "other parents")
        self.assertEqual(sum(parent.pieces for parent in view.parents), 100)
        self.assertLess(len(view.parents), 40)
        self.assertEqual(self.transfers.received(), 10_000)

    def test_many_pieces(self) -> None:
        """A task of 100,000 pieces has a map of limited size; a number beyond all bounds takes no memory."""
        self.run_it()
        self.hear(LayoutFound(content_length=10_000_000, piece_length=100))
        self.hear(kept(99_999, "a:1"), kept(2**60, "a:1"))
        self.under_way = [PieceUnderWay(number=50_000, parent="a:1", received=1)]
        view = self.view()
        self.assertEqual((len(view.fill), len(view.owner), view.pieces, view.busy), (CELLS, CELLS, 1, (512,)))


class TransfersTests(SynchronousTestCase):
    """Many downloads."""

    def test_shown(self) -> None:
        """Those that run come first; how many are left out is known."""
        transfers = Transfers()
        begun = [transfers.begin(REQUEST) for _ in range(40)]
        begun[33].follow(list, "")
        shown = transfers.shown()
        self.assertIs(shown[0], begun[33])
        self.assertEqual(len(shown) + transfers.hidden, 40)

    def test_two_of_one_request(self) -> None:
        """A download that waits for the end of another one of the same request is one of its own."""
        transfers = Transfers()
        first, second = transfers.begin(REQUEST), transfers.begin(REQUEST)
        transfers.end(first)
        self.assertEqual([each.state for each in transfers.shown()], ["queued", "done"])
        transfers.end(second)


class MeterTests(SynchronousTestCase):
    """Rates."""

    def test_mean(self) -> None:
        """A rate is the mean of the last five seconds."""
        meter = Meter()
        self.assertEqual(meter.read(0.0, 1000), 0.0)
        self.assertEqual(meter.read(1.0, 1100), 100.0)
        for second in range(2, 20):
            rate = meter.read(second, 1100 + 200 * (second - 1))
        self.assertEqual(rate, 200.0)

    def test_after_a_pause(self) -> None:
        """What came while it was not read counts for no rate."""
        meter = Meter()
        meter.read(0.0, 0)
        self.assertEqual(meter.read(100.0, 10**9), 0.0)
        self.assertEqual(meter.read(101.0, 10**9 + 5), 5.0)

    def test_taken_back(self) -> None:
        """Bytes that are dropped make no negative rate."""
        meter = Meter()
        meter.read(0.0, 100)
        self.assertEqual(meter.read(1.0, 50), 0.0)
