"""
The zope interfaces of the parts of a peer. The values that pass through them are in :mod:`dragonfly_vortex.model`.

``IClient``, ``IServer`` and ``IDownloader`` are the design document's traits. A kind of piece is an argument here,
except in the three methods of :class:`IDownloader`, whose names the design document gives.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol, TypeVar

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConsumer, IPushProducer, ITCPTransport
from zope.interface import Attribute, Interface

from dragonfly_vortex.model import (
    DownloadedPiece,
    DownloadPieceResponse,
    FilePlace,
    OpenPiece,
    SourceStat,
    StoredPiece,
    StoredTask,
)
from dragonfly_vortex.wire import PieceKind, PieceMetadata

__all__ = [
    "DownloadPieceRequest",
    "IClient",
    "IConnectionTransport",
    "IDownloader",
    "IFileSink",
    "IPieceAnnouncer",
    "IPieceSink",
    "IPieceStore",
    "IServer",
    "ISource",
    "ITaskStore",
    "InThread",
]

_T = TypeVar("_T")


class InThread(Protocol):
    """
    Calls a function in a thread, such as ``partial(deferToThreadPool, reactor, reactor.getThreadPool())``. The provider
    decides in which thread, and whether calls run one after the other.
    """

    def __call__(self, function: Callable[[], _T], /) -> Deferred[_T]:
        """Call it. Fires, in the reactor's thread, with what it returns."""


# -- where a piece comes from


class IPieceStore(Interface):
    """
    The store from which a Vortex server takes pieces. A server calls only these two methods; your program may provide
    them over any files. Neither blocks the reactor.
    """

    def open_piece(
        kind: PieceKind, task_id: str, number: int, start: int = 0, length: int | None = None
    ) -> Deferred[OpenPiece]:
        """
        Open a piece, or a range of it. The caller closes the descriptor. Cancelling the Deferred closes it.

        :param start: the range's first byte, counted from the piece's first.
        :param length: bytes of the range; None means up to the piece's end.
        :returns: fires with an :class:`OpenPiece`. Fails with :class:`~dragonfly_vortex.errors.NotStored` for a piece
            that is missing or damaged, :class:`~dragonfly_vortex.errors.PieceDamaged` where the file is missing, and
            :class:`~dragonfly_vortex.errors.StorageFailure`.
        """

    def mark_damaged(kind: PieceKind, task_id: str, number: int, reason: str) -> Deferred[None]:
        """
        Stop offering a piece, over a restart too, until its task is imported or fetched anew. A server calls this when
        the file ends before the piece does.

        :param reason: what was expected and what was found, for ``dfvortex stat``.
        :returns: fails as :meth:`open_piece` does.
        """


class IHotPieceStore(IPieceStore):
    """A store that has some pieces at hand. A server asks for these first."""

    def hot_piece(kind: PieceKind, task_id: str, number: int) -> OpenPiece | None:
        """
        A piece that can be handed out at once. Its descriptor stays the store's: it is open until the caller returns to
        the reactor, and the caller does not close it.

        :returns: None where :meth:`open_piece` is to be asked, which also says why there is no such piece.
        """


class ITaskStore(IPieceStore):
    """A store that can also list its pieces, which the gRPC door announces."""

    def get_task(kind: PieceKind, task_id: str) -> Deferred[StoredTask]:
        """
        A task's row. Fails with :class:`~dragonfly_vortex.errors.NotStored`, or
        :class:`~dragonfly_vortex.errors.StorageFailure`.
        """

    def get_pieces(kind: PieceKind, task_id: str, first: int = 0) -> Deferred[list[StoredPiece]]:
        """
        The pieces of a task from a number on, damaged ones too, by number. Fails as :meth:`get_task` does.

        :param first: the lowest number that is asked for.
        """

    def offer_mark() -> object:
        """
        An object that changes when a piece that was offered is taken back. While it is the same object, no process has
        taken back a piece that was offered before. It is cheap, and belongs to the reactor's thread.
        """

    def subscribe(changed: Callable[[], None]) -> Callable[[], None]:
        """
        Have a function called after changes of any row, by any process.

        :param changed: called in the reactor's thread soon after a change, when the change can be read. One call may
            stand for several changes, or for none.
        :returns: ends the subscription.
        """


# -- where a piece goes to


class IPieceSink(Interface):
    """
    Receives the bytes of one piece. A client calls :meth:`begin`, then :meth:`write` any number of times, then
    :meth:`finish` when the digest was right, or :meth:`fail` at any point instead. A sink that has failed may be
    begun again: a client asks a second time when a kept connection turns out to have ended.
    """

    def begin(metadata: PieceMetadata) -> None:
        """
        Called with the metadata of the piece; its number is the requested one.

        :raises PieceRefused: this cannot be the piece that was asked for. The parent is not asked again then.
        """

    def write(data: bytes | memoryview) -> None:
        """
        Called with the next bytes, which are valid only during the call.

        :raises OSError: they cannot be written.
        """

    def finish() -> object:
        """Called when the piece is complete and verified. Returns the response's ``content``."""

    def fail() -> None:
        """Called when the piece will not be completed: forget what was written."""


class IFileSink(IPieceSink):
    """
    A sink that writes into a file, and lets the client put bytes there: so content can go from a socket to the file
    without passing through this process. A client may do so at any time instead of calling ``write``, and for any part
    of a piece.
    """

    def place() -> FilePlace | None:
        """
        The place of the next byte; valid only until the reactor's next turn.

        :returns: None where the bytes are to be written after all, because the file cannot be read back, say.
        :raises OSError: nothing can be written any more.
        """

    def wrote(length: int) -> None:
        """
        Count bytes that the client has put into the file.

        :param length: how many.
        """


# -- transports


class IConnectionTransport(ITCPTransport, IConsumer, IPushProducer):
    """The three interfaces of Twisted's TCP connections, plain or under TLS, under one name."""


class DownloadPieceRequest(Struct, frozen=True, kw_only=True, eq=False):
    """
    A request for one piece. It is here and not in the model because it holds an :class:`IPieceSink`.

    :param kind: the kind of the piece.
    :param task_id: the task.
    :param number: the piece's number, from 0.
    :param host_id: the parent's host ID, ``{ip}-{hostname}``; may be empty. Vortex does not send it, gRPC does.
    :param sink: an :class:`IPieceSink` for the bytes; None means memory.
    :param announced_length: bytes that this parent has said the piece has, at the most; None where it has not.
    :param is_whole_verified: whether the whole task will be verified against a digest, so that the piece itself need
        not have one.
    """

    kind: PieceKind
    task_id: str
    number: int
    host_id: str = ""
    sink: IPieceSink | None = None
    announced_length: int | None = None

    def __eq__(self, other: object) -> bool:
        """Two requests are equal where they ask for the same, whatever their sinks."""
        return isinstance(other, DownloadPieceRequest) and self._asked() == other._asked()

    def __hash__(self) -> int:
        """The same for equal requests."""
        return hash(self._asked())

    def _asked(self) -> tuple[object, ...]:
        return self.kind, self.task_id, self.number, self.host_id, self.announced_length

    is_whole_verified: bool = False


class IPieceAnnouncer(Interface):
    """
    Asks a parent for a task's lengths, and for which pieces it has. The download compares the answers with the pieces
    that it receives.
    """

    def start(
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        """
        Begin to ask. Nothing is called before this has returned; then each in the reactor's thread.

        A parent whose list ends before the task is complete is asked again by the announcer itself, silently; a piece
        may be announced twice.

        :param on_layout: called with the task's content length and piece length in bytes, None for what the parent does
            not say.
        :param on_piece: called with the number, offset and length of a piece that is there, as often as there is one.
        :param on_end: called once, when the announcements have ended. True: the parent has announced all that it has,
            and will have no more. False: it cannot be asked any more, so from now on it may have anything.
        :returns: ends it; nothing is called from then on. It may be called again, for nothing.
        """


class IClient(Interface):
    """A client of one parent, over one transport (the design document's ``Client``)."""

    def download_piece(request: DownloadPieceRequest, timeout: float) -> Deferred[DownloadPieceResponse]:
        """
        Fetch a piece and verify it. Cancelling the Deferred ends the transfer at once.

        :param timeout: seconds in which something of the piece must come. They count from the last progress; over a
            transport that shows none, from the last whole piece of this parent. Time in which this side's own limit
            delays the piece does not count.
        :returns: fires with a :class:`DownloadPieceResponse`; fails with a
            :class:`~dragonfly_vortex.errors.PieceError`, with :class:`~dragonfly_vortex.errors.SinkFailed`, or with
            :class:`~dragonfly_vortex.errors.LocalProtocolError` for a request that the transport cannot carry.
        """

    def stop() -> Deferred[None]:
        """Give up the connections that are kept, and fail what is under way. Fires when all are gone."""


class ISocketConsumer(Interface):
    """A consumer that can also take its bytes from a socket, so that they do not pass through this process."""

    def take(sock: socket.socket, length: int) -> int:
        """
        Take the next bytes that a socket holds. What is not taken comes by ``write``, or by this again later.

        :param sock: a socket that does not block, and whose bytes are the content as it is.
        :param length: bytes at the most.
        :returns: how many were taken; 0 also while the consumer has its producer paused.
        :raises ConnectionLost: the connection has failed; the socket will not say so again.
        :raises Exception: the bytes cannot be written; some are lost.
        """


class ISource(Interface):
    """
    The content that a task is made from, at one place outside of Dragonfly: the interface of a backend. It knows no
    pieces.
    """

    name: str = Attribute("what it is called in messages, without secrets")

    def stat() -> Deferred[SourceStat]:
        """
        Ask for the length and the version of the content. What came once is what later answers must fit.

        :returns: fires with a :class:`~dragonfly_vortex.model.SourceStat`; fails with a
            :class:`~dragonfly_vortex.errors.SourceError`.
        """

    def fetch(start: int, length: int | None, consumer: IConsumer) -> Deferred[None]:
        """
        Send a range to a consumer, to which an :class:`~twisted.internet.interfaces.IPushProducer` is registered.
        Cancelling the Deferred ends the transfer at once. To be called after :meth:`stat`.

        :param start: the first byte.
        :param length: bytes of the range, at least 1; None for all, from the first byte on.
        :param consumer: an error that its ``write`` raises ends the transfer, and is what the Deferred fails with. One
            that is an :class:`ISocketConsumer` may be given the socket.
        :returns: fires when all bytes have been written to the consumer. Fails with a
            :class:`~dragonfly_vortex.errors.SourceError`; with
            :class:`~dragonfly_vortex.errors.SourceChanged` before a byte of another version is written.
        """

    def stop() -> Deferred[None]:
        """Give up the connections that are kept. Fires when they have ended."""


class IServer(Interface):
    """A server of this peer, over one transport (the design document's ``Server``)."""

    address = Attribute("the IAddress that it listens on, None while it does not")

    def start() -> IAddress:
        """
        Listen.

        :raises twisted.internet.error.CannotListenError: the address cannot be had.
        """

    def stop(timeout: float) -> Deferred[None]:
        """
        Stop accepting, end idle connections at once, let the pieces under way finish.

        :param timeout: seconds after which what is still under way is aborted.
        :returns: fires when the last connection has ended.
        """


class IDownloader(Interface):
    """
    Fetches pieces from any parent: the interface of the design document.

    Each method takes the parent's address ``HOST:PORT``, the piece's number, the parent's host ID (which may be
    empty) and the task, and an :class:`IPieceSink` where the bytes are not wanted in memory. Each gives a Deferred
    that fires with a
    :class:`DownloadedPiece` and fails as :meth:`IClient.download_piece` does; cancelling it ends the transfer.
    """

    def download_piece(
        addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        """Fetch a piece of a standard task."""

    def download_persistent_piece(
        addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        """Fetch a piece of a persistent task."""

    def download_persistent_cache_piece(
        addr: str, number: int, host_id: str, task_id: str, sink: IPieceSink | None = None
    ) -> Deferred[DownloadedPiece]:
        """Fetch a piece of a persistent cache task."""

    def download(addr: str, request: DownloadPieceRequest) -> Deferred[DownloadPieceResponse]:
        """Fetch a piece of any kind. The three methods above call this; cache pieces have no method of their own."""

    def stop() -> Deferred[None]:
        """Close all connections, and fail later requests with :class:`~dragonfly_vortex.errors.PoolClosed`."""
