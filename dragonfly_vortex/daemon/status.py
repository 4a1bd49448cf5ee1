"""
What the status page of a peer shows, collected from its parts while a browser watches. Nothing is sampled or subscribed
to before the first browser comes and after the last one has gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import time

from msgspec import Struct
from twisted.internet.interfaces import IAddress, IReactorTime

from dragonfly_vortex import __version__
from dragonfly_vortex.daemon.stored_tasks import StoredTasks
from dragonfly_vortex.daemon.transfers import Meter, Transfers
from dragonfly_vortex.metrics.counters import Child, Tally
from dragonfly_vortex.storage.reactor.store import PieceStore
from dragonfly_vortex.wire.messages import printable

__all__ = ["ChildView", "Now", "PeerStatus", "PeerView", "ServingView"]

_SAMPLE = 1.0
"""Seconds between two samples of the throughput."""

_SAMPLES = 330
"""Samples that are kept: the page shows five minutes."""

_CHUNK = 30
"""Samples in a section: only the newest of these sections changes."""

_MOST_CHILDREN = 32
"""Children that are shown, those that took something last."""


class ServingView(Struct, frozen=True, kw_only=True):
    """
    A door, by which a peer serves.

    :param label: its transport, in messages.
    :param address: where it listens; None while it does not.
    :param tallies: counters of what it sends, one for each process.
    :param workers: how many processes serve in place of this one.
    """

    label: str
    address: IAddress | None
    tallies: Sequence[Tally]
    workers: int


class PeerView(Struct, frozen=True, kw_only=True):
    """
    The peer itself.

    :param started: in Unix seconds.
    :param doors: where it serves, in words.
    :param missing: what it lacks to be ready, a sentence each.
    :param limits: what the page does not show, a sentence each.
    """

    hostname: str
    version: str
    started: int
    doors: tuple[str, ...]
    missing: tuple[str, ...]
    limits: tuple[str, ...]


class Now(Struct, frozen=True, kw_only=True):
    """
    The throughput of this moment.

    :param at: the peer's time, in Unix seconds.
    :param received: bytes from parents since the start; without what other processes fetch into the storage.
    :param sent: bytes to children since the start, by all processes of the peer.
    :param sending: pieces that are being sent.
    """

    at: int
    received: int
    sent: int
    received_rate: int
    sent_rate: int
    sending: int


class _Samples(Struct, frozen=True, kw_only=True):
    """Some samples of the throughput: when, in Unix seconds, and bytes per second."""

    at: tuple[int, ...]
    received: tuple[int, ...]
    sent: tuple[int, ...]


class ChildView(Struct, frozen=True, kw_only=True):
    """
    A host that this peer sends pieces to.

    :param name: its address.
    :param task: the task that it asked for last.
    """

    name: str
    transport: str
    task: str
    sent: int
    rate: int
    state: str


class PeerStatus:
    """
    The status of a peer, as the page asks for it; see :class:`~dragonfly_vortex.metrics.status_page.Status`.

    :param clock: for rates and intervals.
    :param hostname: of the peer.
    :param store: its storage.
    :param transfers: its downloads.
    :param serving: gives what it serves by; called while a browser watches.
    :param missing: gives what it lacks to be ready.
    """

    def __init__(
        self,
        clock: IReactorTime,
        hostname: str,
        store: PieceStore,
        transfers: Transfers,
        serving: Callable[[], Sequence[ServingView]],
        missing: Callable[[], Sequence[str]],
    ) -> None:
        self._clock = clock
        self._hostname = hostname
        self._transfers = transfers
        self._serving = serving
        self._missing = missing
        self._started = int(time())
        self._throughput = _Throughput()
        self._children = _ChildRates()
        self._stored = StoredTasks(clock, store)

    def begin(self) -> None:
        """See :class:`~dragonfly_vortex.metrics.status_page.Status`."""
        self._stored.begin()

    def end(self) -> None:
        """See :class:`~dragonfly_vortex.metrics.status_page.Status`."""
        self._stored.end()

    def sections(self) -> Mapping[str, object]:
        """See :class:`~dragonfly_vortex.metrics.status_page.Status`."""
        now = self._clock.seconds()
        serving = self._serving()
        sections: dict[str, object] = {"peer": self._peer(serving)}
        tallies = [tally for each in serving for tally in each.tallies]
        sections["now"] = self._throughput.read(
            now,
            received=self._transfers.received(),
            sent=sum(tally.bytes_sent for tally in tallies),
            sending=sum(tally.pieces_under_way for tally in tallies),
        )
        sections.update(self._throughput.sections())
        sections["children"] = self._children.read(now, serving)
        for transfer in self._transfers.shown():
            sections[f"task/{transfer.number}"] = transfer.view(now)
        stored = self._stored.view()
        if stored is not None:
            sections["stored"] = stored
        return sections

    def _peer(self, serving: Sequence[ServingView]) -> PeerView:
        limits = []
        workers = sum(each.workers for each in serving)
        if workers:
            limits.append(
                f"The children of {workers} workers are not shown; what the workers send is part of the throughput."
            )
        more = self._transfers.hidden
        if more:
            limits.append(f"{more} more downloads are not shown.")
        return PeerView(
            hostname=self._hostname,
            version=__version__,
            started=self._started,
            doors=tuple(f"{each.label} on {_shown(each.address)}" for each in serving if each.address is not None),
            missing=tuple(self._missing()),
            limits=tuple(limits),
        )


class _Throughput:
    """The throughput of the last minutes, as far as a browser watched."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int]] = deque(maxlen=_SAMPLES)
        self._count = 0  # of all samples that there ever were
        self._last: tuple[float, int, int] | None = None
        self._received_meter, self._sent_meter = Meter(), Meter()

    def read(self, now: float, *, received: int, sent: int, sending: int) -> Now:
        """
        The throughput of this moment; also a sample of it, each second.

        :param now: seconds.
        """
        last = self._last
        if last is None or now - last[0] >= _SAMPLE:
            self._last = (now, received, sent)
            if last is not None and now - last[0] < 3 * _SAMPLE:  # otherwise there was a gap
                seconds = now - last[0]
                rates = (max(0, received - last[1]) / seconds, max(0, sent - last[2]) / seconds)
                self._samples.append((int(time()), round(rates[0]), round(rates[1])))
                self._count += 1
        return Now(
            at=int(time()),
            received=received,
            sent=sent,
            received_rate=round(self._received_meter.read(now, received)),
            sent_rate=round(self._sent_meter.read(now, sent)),
            sending=sending,
        )

    def sections(self) -> dict[str, object]:
        """The samples, some in each section."""
        first = self._count - len(self._samples)
        chunks: dict[int, list[tuple[int, int, int]]] = {}
        for number, sample in enumerate(self._samples, first):
            chunks.setdefault(number // _CHUNK, []).append(sample)
        return {
            f"history/{number}": _Samples(
                at=tuple(at for at, _, _ in chunk),
                received=tuple(received for _, received, _ in chunk),
                sent=tuple(sent for _, _, sent in chunk),
            )
            for number, chunk in chunks.items()
        }


class _ChildRates:
    """The rates of the children."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, Child], Meter] = {}

    def read(self, now: float, serving: Sequence[ServingView]) -> tuple[ChildView, ...]:
        """
        The children that took something last.

        :param now: seconds.
        """
        children = [
            (each.label, child)
            for each in serving
            for tally in each.tallies
            for child in tally.children.all()
            if child.sent
        ][:_MOST_CHILDREN]
        self._meters = {key: self._meters.get(key) or Meter() for key in children}
        views = []
        for (label, child), meter in self._meters.items():
            rate = round(meter.read(now, child.sent))
            views.append(
                ChildView(
                    name=printable(child.host) or "unknown",
                    transport=label,
                    task=printable(child.task_id),
                    sent=child.sent,
                    rate=rate,
                    state="takes" if rate else "idle",
                )
            )
        return tuple(sorted(views, key=lambda view: -view.rate))


def _shown(address: IAddress) -> str:
    """An address of a socket."""
    host = str(getattr(address, "host", ""))
    return f"{f'[{host}]' if ':' in host else host}:{getattr(address, 'port', '')}"
