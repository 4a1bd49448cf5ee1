"""
Producers that send a header and a range of a file: by sendfile, encrypted, or by a copy where the transport is another.

The calls when content is sent by sendfile::

    the sender   send(header, range)   registers the producer with the transport
    transport    resumeProducing()     at once, from inside registerProducer: only the header is written. It goes into
                                       the transport's buffer, and a sendfile now would put content before it
    transport    resumeProducing()     whenever its buffer is empty: one step of content goes out
    the limiter  has the reply wait    it grants the step when it is the reply's turn
    the disk     is to be waited for   a thread reads what the step needs, and the step is taken when it is back
    transport    stopProducing()       the connection is lost

Under TLS the second producer takes the same calls, from the transport beneath: it encrypts each step and sends it to
the socket itself. What the socket does not take goes into that transport's buffer.

Where the content is copied, the producer takes its steps itself, one in a turn of the reactor, until the transport
pauses it. (A pull producer would do on a plain transport; but TLS calls one again and again, even while it rests.)

A step is at most :attr:`TokenBucket.step` bytes, so that many connections share the reactor fairly. Nothing else may
be written to the transport until the Deferred of :meth:`FileRangeProducer.send` has fired: it would land inside the
content. The end comes once: the producer is unregistered, the descriptor closed, the Deferred fired. A file that is too
short is never a silent short reply.

A range that is being sent must not be rewritten in place: its pages are sent by reference.
"""

from __future__ import annotations

import abc
import errno
import os
import socket
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPullProducer, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.errors import PieceDamaged, StorageFailure
from dragonfly_vortex.interfaces import IConnectionTransport
from dragonfly_vortex.system_calls import is_refused
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.transport.readahead import Pages
from dragonfly_vortex.transport.serving_order import Turn
from dragonfly_vortex.transport.socket_options import beneath

if TYPE_CHECKING:
    from dragonfly_vortex.transport.tls_transport import TLSTransport

__all__ = ["CopyProducer", "EncryptingProducer", "FileRangeProducer", "SendfileProducer"]

_COPY_LENGTH = 128 * 1024  # bytes per turn where the content is copied: larger writes fall out of the processor's cache
_CONNECTION_ENDED = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ESHUTDOWN, errno.ETIMEDOUT, errno.EBADF}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}
)


class FileRangeProducer(abc.ABC):
    """
    The common part of the producers. A subclass defines how a step of content is sent, and what requests the next.

    :param transport: where to. Nothing else writes to it meanwhile.
    :param clock: for the rests that the limiter asks for.
    :param limiter: what the bytes are taken from.
    :param progressed: called with the number of bytes after each step.
    :param sock: the transport's, where content goes to it directly.
    :ivar copies: whether content goes through the transport's buffer, where its end may still be when all is done.
    """

    copies = False

    def __init__(
        self,
        transport: IConnectionTransport,
        clock: IReactorTime,
        limiter: UploadLimiter,
        progressed: Callable[[int], None],
        sock: socket.socket | None = None,
    ) -> None:
        self._transport = transport
        self._paced_by = transport  # calls the producer, when its buffer is empty
        self._clock = clock
        self._limiter = limiter
        self._progressed = progressed
        self._socket = sock
        self._header: bytes | None = None
        self._pages: Pages | None = None
        self._fetching = False
        self._offset = 0
        self._left = 0
        self._granted = 0  # bytes that the limiter has let us send and that have not gone yet
        self._piece: Hashable = None
        self._turn: Turn | None = None  # in the limiter's order, once the reply has had to wait
        self._is_queued = False
        self._done: Deferred[None] | None = None
        self._later: IDelayedCall | None = None  # takes the next step

    @property
    def resting(self) -> bool:
        """Whether it is our own limit or our own disk, and not the other side, that is waited for."""
        return self._fetching or self._is_queued

    def send(self, header: bytes | None, pages: Pages | None, piece: Hashable = None) -> Deferred[None]:
        """
        Send the header and then the range.

        :param header: may be empty. None: the transport's buffer is empty, and the range is sent from now on.
        :param pages: the range, closed at the end, whatever the end is. None: there is only the header, and
            what was written before it, to be waited for.
        :param piece: identifies the piece, for the limiter's order.
        :returns: fires when the last byte has been handed to the transport. Fails with
            :class:`~dragonfly_vortex.errors.PieceDamaged` when the file ends too early,
            :class:`~dragonfly_vortex.errors.StorageFailure` when it cannot be read, and
            :class:`~twisted.internet.error.ConnectionLost` when the connection is gone. After a failure the only
            thing left to do with the connection is to abort it.
        """
        self._header = header
        if pages is not None:
            self._pages = pages
            _, self._offset, self._left = pages.source
        self._piece = piece
        done = self._done = Deferred()
        self._register()
        return done

    def cancel(self, error: Exception) -> None:
        """Send nothing more, and give the transport back; :meth:`send` fails with this error, unless it has fired."""
        self._end(error)

    def stopProducing(self) -> None:
        """Called by the transport: the connection is lost."""
        self._end(ConnectionLost("the child ended the connection inside a piece"))

    @abc.abstractmethod
    def _register(self) -> None:
        """Register with the transport, and take the first turn."""

    @abc.abstractmethod
    def _ask_again(self) -> None:
        """Have :meth:`_take_turn` called when the transport can take more."""

    @abc.abstractmethod
    def _step(self, pages: Pages, length: int) -> int | None:
        """
        Send up to ``length`` bytes of what is left.

        :returns: how many went out, 0 at the end of the file; None when something has to be waited for, which has been
            seen to.
        :raises OSError: from the file or from the socket.
        """

    def _take_turn(self) -> None:
        """Write the header, or a step of content when the limiter allows it: the transport can take more."""
        if self._done is None or self._later is not None or self._fetching or self._is_queued:
            return
        if self._header is not None:
            header, self._header = self._header, None
            self._transport.write(header)
            self._ask_again()
        elif self._pages is None or not self._left:
            self._end(None)
        elif self._may_step():
            self._take_step(self._pages)

    def _may_step(self) -> bool:
        """Whether the limiter lets us send now; else it calls :meth:`_grant`."""
        if not self._granted:
            length = min(self._left, self._limiter.step)
            if not self._limiter.try_spend(length):
                self._queue()
                return False
            self._granted = length
        return True

    def _queue(self) -> None:
        if self._turn is None:
            is_begun = self._pages is not None and self._left < self._pages.source.length
            self._turn = self._limiter.enter(self._piece, self._left, is_begun=is_begun)
        self._turn.left = self._left
        self._is_queued = True
        self._limiter.wait(self._turn, self._grant)

    def _grant(self, length: int) -> None:
        self._is_queued = False
        self._granted = length
        self._take_later_turn()

    def _take_later_turn(self) -> None:
        self._later = None
        self._take_turn()

    def _take_step(self, pages: Pages) -> None:
        try:
            sent = self._step(pages, self._granted)
        except OSError as error:
            self._fail(error)
            return
        except ConnectionLost as error:
            self._end(error)
            return
        if sent is None:
            return
        if not sent:
            expected = f"expected {self._left} more bytes at offset {self._offset} of the file"
            self._end(PieceDamaged(f"{expected}, which ends there"))
        else:
            self._granted -= sent
            self._offset += sent
            self._left -= sent
            self._progressed(sent)
            if self._left:
                self._ask_again()
            else:
                self._end(None)

    def _fetch(self, pages: Pages) -> None:
        """Fetch granted bytes that are not in memory."""
        self._fetching = True
        pages.fetch(self._offset, self._granted).addCallbacks(self._fetched, self._not_fetched)

    def _fetched(self, _: None) -> None:
        self._fetching = False
        self._take_later_turn()

    def _not_fetched(self, failure: Failure) -> None:
        self._fetching = False
        error = failure.value
        if isinstance(error, OSError):
            self._fail(error)
        else:
            self._end(StorageFailure(f"reading a piece's file failed: {error}"))

    def _copy(self, pages: Pages, length: int) -> int | None:
        """Send a step by reading and writing."""
        data = pages.read(self._offset, min(length, _COPY_LENGTH))
        if data is None:
            self._fetch(pages)
            return None
        if data:
            self._transport.write(bytes(data))
        return len(data)

    def _fail(self, error: OSError) -> None:
        ended: Exception
        if error.errno in _CONNECTION_ENDED:
            ended = ConnectionLost(f"the connection ended inside a piece: {error.strerror}")
        else:
            ended = StorageFailure(f"reading a piece's file failed: {error.strerror}")
        ended.__cause__ = error
        self._end(ended)

    def _end(self, error: Exception | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._fetching = self._is_queued = False
        if self._granted:
            self._limiter.give_back(self._granted)
            self._granted = 0
        if self._turn is not None:
            self._limiter.leave(self._turn, is_whole=error is None)
        elif self._pages is not None and error is None:
            self._limiter.sent(self._piece)
        if self._pages is not None:
            self._pages.close()
        self._paced_by.unregisterProducer()
        if error is None:
            done.callback(None)
        else:
            done.errback(Failure(error))


@implementer(IPullProducer)
class SendfileProducer(FileRangeProducer):
    """Sends by ``sendfile(2)``: the content goes from the page cache to the socket and never through Python."""

    def resumeProducing(self) -> None:
        """Called by the transport when its buffer is empty, and first from inside ``registerProducer``."""
        self._take_turn()

    def _register(self) -> None:
        self._paced_by.registerProducer(self, False)

    def _ask_again(self) -> None:
        self._paced_by.startWriting()  # type: ignore[attr-defined] # public in FileDescriptor, in no interface

    def _step(self, pages: Pages, length: int) -> int | None:
        if self.copies or self._socket is None:
            return self._copy(pages, length)
        if not pages.resident(self._offset, length):
            self._fetch(pages)
            return None
        try:
            return os.sendfile(self._socket.fileno(), pages.source.descriptor, self._offset, length)
        except BlockingIOError:
            self._ask_again()
            return None
        except OSError as error:
            if not is_refused(error, errno.EINVAL):
                raise
            # A sandbox forbids it, or a file system cannot do it (FUSE has some). The rest is copied.
            self.copies = True
            return self._copy(pages, length)


class EncryptingProducer(SendfileProducer):
    """
    Sends under TLS, past the transport's own writes: some records are read, encrypted and sent at a time.

    :param transport: TLS over a transport that has a socket.
    :param sock: the socket.
    """

    copies = True

    def __init__(
        self,
        transport: TLSTransport,
        clock: IReactorTime,
        limiter: UploadLimiter,
        progressed: Callable[[int], None],
        sock: socket.socket,
    ) -> None:
        super().__init__(cast(IConnectionTransport, transport), clock, limiter, progressed, sock)
        self._tls = transport
        self._plain_socket = sock
        self._paced_by = beneath(self._transport)

    def _take_later_turn(self) -> None:
        # TLS may have written to the transport meanwhile: its records are numbered, and go first.
        self._later = None
        if self._done is not None:
            self._ask_again()

    def _step(self, pages: Pages, length: int) -> int | None:
        done, is_full = 0, False
        while done < length and not is_full:
            window = self._tls.window(min(_COPY_LENGTH, length - done))
            got = pages.read_into(self._offset + done, window)
            if not got:
                break
            is_full = not self._send(self._tls.encrypt(window[:got]))
            done += got
        if done or got is not None:
            return done
        self._fetch(pages)
        return None

    def _send(self, data: bytes | memoryview) -> bool:
        """Send bytes, to the socket and where that is full to the transport; whether the socket has taken all."""
        try:
            sent = self._plain_socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._paced_by.write(bytes(data[sent:]))
        return sent == len(data)


@implementer(IPushProducer)
class CopyProducer(FileRangeProducer):
    """Sends by reading and writing: for TLS, and for platforms that have no sendfile."""

    copies = True
    _paused = False

    def pauseProducing(self) -> None:
        """Called by the transport when its buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Called by the transport when its buffer is empty."""
        self._paused = False
        self._take_turn()

    def _register(self) -> None:
        self._paced_by.registerProducer(self, True)
        self._take_turn()

    def _ask_again(self) -> None:
        if not self._paused:
            self._later = self._clock.callLater(0, self._take_later_turn)

    def _take_later_turn(self) -> None:
        self._later = None
        if not self._paused:
            self._take_turn()

    def _step(self, pages: Pages, length: int) -> int | None:
        return self._copy(pages, length)
