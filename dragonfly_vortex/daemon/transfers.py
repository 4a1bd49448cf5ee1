"""
What a peer knows of its downloads, for its status page: each transfer that runs or waits, and the last ones that have
ended. It follows from the events of the downloads, at a cost for each event and none between them. No I/O.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from time import time

from msgspec import Struct, field
from twisted.internet.defer import CancelledError

from dragonfly_vortex.daemon.piece_map import MOST_OWNERS, MOST_PIECES, PieceMap, cells_of
from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.events import (
    DownloadEvent,
    LayoutFound,
    ParentAdded,
    ParentDropped,
    PieceKept,
    PiecesDropped,
    PieceUnderWay,
    Waiting,
)
from dragonfly_vortex.geometry import piece_count
from dragonfly_vortex.identity import shown_url
from dragonfly_vortex.model import TaskRequest
from dragonfly_vortex.wire.messages import printable

__all__ = ["Meter", "ParentView", "Transfer", "TransferView", "Transfers", "WaitView"]

_MOST_WAITS = 8
"""Waits that a view of a transfer has at most, the newest ones."""

_MOST_ENDED = 12
"""Transfers that are kept after their end."""

_MOST_SHOWN = 24
"""Transfers that are shown at most."""

_WINDOW = 5.0
"""Seconds over which a rate is a mean."""


class Meter:
    """A rate, from totals that are read now and then."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, now: float, total: int) -> float:
        """
        The mean of the last seconds.

        :param now: seconds.
        :param total: bytes so far; fewer than before where some have been dropped.
        :returns: bytes per second; 0 before the second reading.
        """
        readings = self._readings
        if readings and now - readings[-1][0] > _WINDOW:
            readings.clear()  # it was not read for a while: the mean would be one of a time that is over
        readings.append((now, total))
        while len(readings) > 2 and now - readings[1][0] >= _WINDOW:
            readings.popleft()
        seconds = now - readings[0][0]
        return max(0, total - readings[0][1]) / seconds if seconds > 0 else 0.0


class WaitView(Struct, frozen=True, kw_only=True):
    """
    A wait of a download.

    :param at: when it began, in Unix seconds.
    :param parent: which parent is waited for; empty where none is.
    :param text: what it has not done.
    """

    at: float
    parent: str
    text: str


class ParentView(Struct, frozen=True, kw_only=True):
    """
    A parent of a download.

    :param name: its address; empty for the storage, which had pieces before.
    :param pieces: how many came from it.
    :param bytes: of these, and of those under way.
    :param rate: bytes per second.
    :param asked: how many pieces are under way.
    :param state: in words.
    :param note: a word for a parent that is not as the others.
    """

    name: str
    transport: str
    pieces: int
    bytes: int
    rate: float
    asked: int
    state: str
    note: str
    is_source: bool
    is_gone: bool


class TransferView(Struct, frozen=True, kw_only=True):
    """
    A download, as the page shows it. Times are in Unix seconds.

    :param state: ``queued``, ``running``, ``done`` or ``failed``.
    :param name: where it comes from, without secrets; empty where that is not known.
    :param pieces: how many are there.
    :param received: bytes of these, and of those under way.
    :param seconds_left: at this rate; None where that is not known.
    :param fill: for each cell of the map how full it is, from 0 to 9; empty for no map.
    :param owner: for each cell the place in ``parents`` of the one that filled it, as a digit of base 36, or a dot.
    :param busy: the cells with a piece that is under way.
    """

    number: int
    kind: str
    id: str
    name: str
    state: str
    begun: float
    ended: float | None
    content_length: int | None
    piece_length: int | None
    piece_count: int | None
    pieces: int
    received: int
    rate: float
    seconds_left: float | None
    fill: str
    owner: str
    busy: tuple[int, ...]
    parents: tuple[ParentView, ...]
    waits: tuple[WaitView, ...]
    error: str


class _Parent(Struct, kw_only=True):
    """
    What a download has had of a parent.

    :param gone: why it is not asked any more; empty while it is.
    """

    name: str
    transport: str = ""
    pieces: int = 0
    gone: str = ""
    meter: Meter = field(default_factory=Meter)


class Transfer:
    """
    A download. Its methods record what happens to it, and :meth:`view` shows it.

    :param number: distinguishes it from all others of this process.
    :param request: what was asked for.
    """

    def __init__(self, number: int, request: TaskRequest) -> None:
        self.number = number
        self.state = "queued"
        self._request = request
        self._begun = time()
        self._ended: float | None = None
        self._error = ""
        self._content_length: int | None = None
        self._piece_length: int | None = None
        self._map = PieceMap()
        self._parents: list[_Parent] = [_Parent(name="")]  # the owner of a piece is its parent's place, from 1 on
        self._places: dict[str, int] = {"": 0}
        self._waits: dict[str, WaitView] = {}
        self._source = ""
        self._meter = Meter()
        self._under_way: Callable[[], Sequence[PieceUnderWay]] = tuple

    def follow(self, under_way: Callable[[], Sequence[PieceUnderWay]], source: str) -> None:
        """
        Record that the download runs.

        :param under_way: gives the pieces that are under way; called for a view only.
        :param source: which parent is the source; empty for none.
        """
        self.state = "running"
        self._under_way = under_way
        self._source = source

    def hear(self, event: DownloadEvent) -> None:
        """Record an event of the download."""
        if isinstance(event, PieceKept):
            self._keep(event)
        elif isinstance(event, LayoutFound):
            self._content_length = event.content_length
            self._piece_length = event.piece_length or self._piece_length
        elif isinstance(event, PiecesDropped):
            for number in event.numbers:
                self._take(number, 0)
        elif isinstance(event, Waiting):
            self._wait(event)
        elif isinstance(event, ParentAdded):
            self._parents[self._place(event.parent)].gone = ""
        elif isinstance(event, ParentDropped):
            self._parents[self._place(event.parent)].gone = printable(event.reason) or "removed"
            self._waits.pop(event.parent, None)

    def _keep(self, event: PieceKept) -> None:
        """Record a verified piece."""
        place = self._place(event.parent)
        parent = self._parents[place]
        parent.transport = event.transport or parent.transport
        self._take(event.number, place + 1)
        self._waits.pop(event.parent, None)
        self._waits.pop("", None)  # another process goes on

    def _wait(self, event: Waiting) -> None:
        """Record that the download waits for a parent, or for another process if the event names none."""
        self._waits.pop(event.parent, None)
        self._waits[event.parent] = WaitView(
            at=time() - event.seconds,
            parent=printable(event.parent),
            text=printable(event.text.removeprefix(f"parent {event.parent} ")),
        )
        if len(self._waits) > _MOST_WAITS:
            del self._waits[next(iter(self._waits))]

    def finish(self, error: BaseException | None = None) -> None:
        """Record the end; with an error where the download has failed."""
        self.state = "done" if error is None else "failed"
        self._ended = time()
        self._under_way = tuple
        self._waits.clear()
        if isinstance(error, StorageError):  # its text may name paths, and the log has it
            self._error = "the storage failed; the log of the peer says why"
        elif isinstance(error, CancelledError):
            self._error = "all its callers have cancelled it"
        elif error is not None:
            self._error = printable(str(error) or type(error).__name__)

    def _place(self, name: str) -> int:
        """The place of a parent; the last place is that of all which are too many."""
        place = self._places.get(name)
        if place is None:
            place = min(len(self._parents), MOST_OWNERS - 1)
            if place == len(self._parents):
                self._parents.append(_Parent(name=name if place < MOST_OWNERS - 1 else "other parents"))
            if place < MOST_OWNERS - 1:
                self._places[name] = place
        return place

    def _take(self, number: int, owner: int) -> None:
        """Count a piece for its owner, and not for the one before."""
        if number >= MOST_PIECES:
            return
        before = self._map.put(number, owner)
        for place, count in ((owner - 1, 1), (before - 1, -1)):
            if place >= 0:
                self._parents[place].pieces += count

    @property
    def _count(self) -> int | None:
        """How many pieces the task has; None while that is not known."""
        if self._content_length is None or not self._piece_length:
            return None
        return piece_count(self._content_length, self._piece_length)

    def _bytes(self, place: int) -> int:
        """Bytes of the pieces that came from a parent; the last one of the task may be shorter than the others."""
        length, count = self._piece_length or 0, self._count
        missing = 0
        if count and self._content_length is not None and self._map.owner(count - 1) == place + 1:
            missing = count * length - self._content_length
        return self._parents[place].pieces * length - missing

    def received(self) -> int:
        """Bytes that have arrived from parents, of the pieces that are there and of those under way."""
        there = sum(self._bytes(place) for place in range(1, len(self._parents)))
        return there + sum(piece.received for piece in self._under_way())

    def view(self, now: float) -> TransferView:
        """
        Return the download as a page shows it.

        :param now: seconds of a clock, for the rates.
        """
        under_way = self._under_way()
        coming, asked = Counter[int](), Counter[int]()
        for piece in under_way:
            coming[self._place(piece.parent)] += piece.received
            asked[self._place(piece.parent)] += 1
        there = {place: self._bytes(place) + coming[place] for place in range(len(self._parents))}
        received, length, count = sum(there.values()), self._content_length, self._count
        rate = self._meter.read(now, received - there[0]) if self.state == "running" else 0.0
        fill, owner = self._map.cells(count)
        origin = self._request.origin
        return TransferView(
            number=self.number,
            kind=self._request.kind.label,
            id=printable(self._request.task_id),
            name=printable(shown_url(origin.url)) if origin is not None else "",
            state=self.state,
            begun=self._begun,
            ended=self._ended,
            content_length=length,
            piece_length=self._piece_length,
            piece_count=count,
            pieces=sum(parent.pieces for parent in self._parents),
            received=received if length is None else min(received, length),
            rate=round(rate),
            seconds_left=None if length is None or rate < 1 else round(max(0, length - received) / rate),
            fill=fill,
            owner=owner,
            busy=cells_of((piece.number for piece in under_way), count),
            parents=tuple(
                self._show(parent, now, there[place], asked[place]) for place, parent in enumerate(self._parents)
            ),
            waits=tuple(self._waits.values()),
            error=self._error,
        )

    def _show(self, parent: _Parent, now: float, received: int, asked: int) -> ParentView:
        rate = parent.meter.read(now, received) if self.state == "running" and parent.name else 0.0
        if parent.gone:
            state = f"not asked any more: {parent.gone}"
        elif self.state != "running" or not parent.name:
            state = ""
        elif rate >= 1:
            state = "gives"
        else:
            state = "is asked" if asked else "idle"
        is_source = bool(parent.name) and parent.name == self._source
        return ParentView(
            name=printable(parent.name),
            transport=parent.transport,
            pieces=parent.pieces,
            bytes=received,
            rate=round(rate),
            asked=asked,
            state=state,
            note="source" if is_source else "",
            is_source=is_source,
            is_gone=bool(parent.gone),
        )


class Transfers:
    """The downloads of a peer that have not ended, and the last ones that have."""

    def __init__(self) -> None:
        self._count = 0
        self._received = 0  # by those that have ended
        self._running: dict[int, Transfer] = {}  # by their numbers
        self._ended: deque[Transfer] = deque(maxlen=_MOST_ENDED)

    def begin(self, request: TaskRequest) -> Transfer:
        """Add a download that waits for its turn."""
        self._count += 1
        transfer = self._running[self._count] = Transfer(self._count, request)
        return transfer

    def end(self, transfer: Transfer, error: BaseException | None = None) -> None:
        """Record the end of a download; with an error where it has failed."""
        del self._running[transfer.number]
        transfer.finish(error)
        self._received += transfer.received()
        self._ended.append(transfer)

    @property
    def hidden(self) -> int:
        """The number of running or waiting downloads that the page does not show."""
        return max(0, len(self._running) - _MOST_SHOWN)

    def received(self) -> int:
        """Bytes that all downloads have had from parents."""
        return self._received + sum(transfer.received() for transfer in self._running.values())

    def shown(self) -> list[Transfer]:
        """
        The downloads that a page shows: first those that run, then those that wait, then the last that have ended.
        """
        running = sorted(self._running.values(), key=lambda each: (each.state != "running", each.number))
        return [*running, *reversed(self._ended)][:_MOST_SHOWN]
