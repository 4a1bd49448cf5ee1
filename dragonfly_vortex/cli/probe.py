"""``dfvortex probe``: finds out whether a peer speaks Vortex at an address, and how well."""

from __future__ import annotations

import secrets
from argparse import Namespace
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from dragonfly_vortex.address import CONNECT_TIMEOUT, ParentAddress
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.options import read_config
from dragonfly_vortex.cli.reactor import load_reactor, run_reactor
from dragonfly_vortex.cli.terminal import counted
from dragonfly_vortex.config import Config, client_tls, default_config
from dragonfly_vortex.errors import NoVortexPeer, PieceNotFound, RemoteProtocolError, UsageError
from dragonfly_vortex.interfaces import DownloadPieceRequest, IPieceSink
from dragonfly_vortex.transport.endpoints import client_endpoint, connect_within
from dragonfly_vortex.transport.ratelimit import TokenBucket
from dragonfly_vortex.transport.wrong_port import LONGEST, what_is_sent
from dragonfly_vortex.transport_table import TCP, load_code
from dragonfly_vortex.vortex.client import why_unreachable
from dragonfly_vortex.wire import (
    Connection,
    ErrorCode,
    ErrorReply,
    PieceContent,
    PieceKind,
    PieceMetadata,
    PieceRequest,
    Role,
    Vortex,
)
from dragonfly_vortex.wire.messages import printable

if TYPE_CHECKING:
    from dragonfly_vortex.daemon.door import IPeerReactor

__all__ = ["probe"]

_MEASURED_SECONDS = 10.0
"""Seconds for which pieces are fetched to measure a rate."""

_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""
How a client of HTTP/2 begins: the preface, and settings without any (RFC 9113, section 3.4). A server of HTTP/1 answers
it, too: with an error.
"""


class _Findings(Struct, kw_only=True):
    """
    What is known of a peer.

    :param connect_seconds: how long it took to connect.
    :param reply_seconds: from a request to its reply; None before the first reply.
    :param kinds: the kinds of pieces that it answers requests for.
    :param is_kept: whether it answered a second request on a connection; None where that was not seen.
    """

    connect_seconds: float = 0.0
    reply_seconds: float | None = None
    kinds: list[PieceKind]
    is_kept: bool | None = None


class _Rate(Struct, frozen=True, kw_only=True):
    """
    What was fetched to measure a rate.

    :param length: bytes.
    :param piece_count: how many pieces these were.
    :param seconds: how long it took.
    """

    length: int
    piece_count: int
    seconds: float


class _Asking(Protocol):
    """A connection on which one request after the other can be sent."""

    transport: ITCPTransport

    def __init__(self) -> None:
        self.first = b""
        """The first bytes that came."""
        self.lost: Failure | None = None
        """Why the other side's end of the connection has gone; None as long as it has not."""
        self.is_open = True
        self._connection = Connection(Role.CHILD)
        self._waiting: Deferred[Vortex | None] | None = None

    def ask(self, kind: PieceKind, task_id: str) -> Deferred[Vortex | None]:
        """
        Ask for the first piece of a task.

        :returns: fires with the reply; None for the end of the connection, and for bytes that are no Vortex.
        """
        request = PieceRequest(packet_id=0, kind=kind, task_id=task_id, number=0)
        return self.send(self._connection.send(request))

    def send(self, data: bytes) -> Deferred[Vortex | None]:
        """Send any bytes. See :meth:`ask`."""
        waiting = self._waiting = Deferred(lambda _: self.end())
        if self.is_open:
            self.transport.write(data)
        else:
            self._answer(None)
        return waiting

    @property
    def is_silent(self) -> bool:
        """Whether the connection was given up before a byte arrived."""
        return not self.is_open and self.lost is None and not self.first

    def end(self) -> None:
        """Give the connection up."""
        self.is_open = False
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.first = (self.first + data)[:LONGEST]
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except RemoteProtocolError:
            event = None
            if what_is_sent(self.first) is None and len(self.first) < LONGEST:
                return  # the rest of the bytes that show another protocol is on its way
            self.end()
        if isinstance(event, PieceContent):  # the peer has such a task after all; its bytes are not wanted
            self.end()
        if isinstance(event, Vortex):
            self._answer(event)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.is_open:
            self.lost = reason
        self.is_open = False
        self._answer(None)

    def _answer(self, reply: Vortex | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(reply)


@implementer(IPieceSink)
class _Nowhere:
    """Drops a piece. Its content, for :meth:`finish`, is the number of its bytes."""

    def __init__(self) -> None:
        self.length = 0

    def begin(self, metadata: PieceMetadata) -> None:
        """See :meth:`IPieceSink.begin`."""
        self.length = metadata.length

    def write(self, data: bytes | memoryview) -> None:
        """See :meth:`IPieceSink.write`."""

    def finish(self) -> int:
        """How many bytes came."""
        return self.length

    def fail(self) -> None:
        """See :meth:`IPieceSink.fail`."""


class _Prober:
    """
    Probes one address.

    :param parent: the address.
    :param endpoint: connects to it.
    :param timeout: seconds for each answer; to connect it has at least :data:`CONNECT_TIMEOUT`.
    """

    def __init__(
        self, reactor: IPeerReactor, parent: ParentAddress, endpoint: IStreamClientEndpoint, timeout: float
    ) -> None:
        self._clock = IReactorTime(reactor)
        self._address = str(parent)
        self._is_secure = parent.is_secure
        self._endpoint = endpoint
        self._timeout = timeout
        self._connect_timeout = max(timeout, CONNECT_TIMEOUT)
        self._task_id = secrets.token_hex(32)  # no peer has it
        self._refusal = ""

    async def run(self) -> _Findings:
        """
        Probe.

        :raises NoVortexPeer: there is none.
        """
        findings = _Findings(kinds=[])
        started = self._clock.seconds()
        asking = await self._connect()
        findings.connect_seconds = self._clock.seconds() - started
        first = asking
        try:
            for kind in PieceKind:
                if first.is_silent or what_is_sent(first.first) is not None:
                    break  # it is no peer; to wait for other kinds, too, would take as long again
                if findings.is_kept is False:
                    asking.end()  # its end may be on its way
                if not asking.is_open:
                    asking = await self._connect()
                if await self._does_answer(asking, kind, findings):
                    findings.kinds.append(kind)
                    if findings.is_kept is None:
                        findings.is_kept = await self._does_answer(asking, kind, findings)
        finally:
            asking.transport.loseConnection()
        if not findings.kinds:
            raise NoVortexPeer(self._address, self._refusal or await self._what_answers(first))
        return findings

    async def _connect(self) -> _Asking:
        factory = Factory.forProtocol(_Asking)
        factory.noisy = False
        try:
            connecting = connect_within(self._connect_timeout, self._clock, self._endpoint, factory)
            return await connecting  # type: ignore[return-value]  # an endpoint promises any protocol
        except CancelledError:
            raise
        except Exception as error:
            reason = why_unreachable(error, self._connect_timeout)
            if reason.startswith("TLS: "):
                reason = f"a failure of {reason}"
            raise NoVortexPeer(self._address, reason) from error

    async def _does_answer(self, asking: _Asking, kind: PieceKind, findings: _Findings) -> bool:
        """Whether a request is answered as Vortex answers it: with an error, since no peer has the task."""
        started = self._clock.seconds()
        reply = await self._within(asking.ask(kind, self._task_id))
        if isinstance(reply, ErrorReply) and reply.code == ErrorCode.INVALID_ARGUMENT:
            self._refusal = f"error {reply.code}: {printable(reply.text)}"  # such as a peer with TLS answers
            return False
        if not isinstance(reply, (ErrorReply, PieceContent)):
            return False
        if findings.reply_seconds is None:
            findings.reply_seconds = self._clock.seconds() - started
        return True

    async def _within(self, answer: Deferred[Vortex | None]) -> Vortex | None:
        """Wait for an answer, but not for long."""
        answer.addTimeout(self._timeout, self._clock, lambda _, seconds: None)
        return await answer

    async def _what_answers(self, first: _Asking) -> str:
        """What a port sends that does not speak Vortex: to a request, to HTTP/2, or to TLS."""
        got = what_is_sent(first.first)
        if got is not None:
            return got
        tried = [first]
        openings = [_HTTP2] if self._is_secure else [_HTTP2, _client_hello()]
        asked = []
        for opening in openings:  # both at once: a silent port costs the timeout
            tried.append(await self._connect())
            asked.append(tried[-1].send(opening))
        for answer in asked:
            await self._within(answer)
        for asking in tried:
            asking.end()
        named = [each for each in map(what_is_sent, (asking.first for asking in tried)) if each is not None]
        unknown = [asking.first for asking in tried if asking.first]
        if named or unknown:
            return named[0] if named else f"another answer, which begins with {ascii(unknown[0])[1:]}"
        if first.lost is None:
            return f"no answer within {self._timeout:g} s"
        return "a connection that was closed without an answer"


def _client_hello() -> bytes:
    """How a client of TLS begins."""
    import ssl  # a peer is found without it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):  # the answer
        context.wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


def probe(arguments: Namespace) -> ExitStatus:
    """``dfvortex probe``: what is found, a line for each fact."""
    parent: ParentAddress = arguments.address
    if parent.transport is not TCP:
        known = " or ".join(f"{scheme}://HOST:PORT" for scheme in TCP.schemes)
        raise UsageError(f"expected HOST:PORT, {known}, got {parent}")
    config = default_config() if arguments.config is None else read_config(arguments.config)
    reactor = load_reactor(needs_tls=parent.is_secure)

    async def work() -> tuple[_Findings, _Rate | None]:
        endpoint = _endpoint(reactor, parent, config, max(arguments.timeout, CONNECT_TIMEOUT))
        findings = await _Prober(reactor, parent, endpoint, arguments.timeout).run()
        return findings, await _measure(reactor, arguments, config) if arguments.task else None

    result = run_reactor(reactor, lambda: Deferred.fromCoroutine(work()), None)
    if isinstance(result, ExitStatus):
        return result
    findings, rate = result
    missing = ", ".join(kind.label for kind in PieceKind if kind not in findings.kinds)
    kinds = ", ".join(kind.label for kind in findings.kinds) + (f"; not {missing}" if missing else "")
    print(f"{parent}: a Vortex peer")
    print(f"connected in:  {findings.connect_seconds * 1000:.1f} ms")
    print(f"answered in:   {(findings.reply_seconds or 0) * 1000:.1f} ms")
    print(f"kinds:         {kinds}")
    print(f"connections:   {'kept for the next request' if findings.is_kept else 'closed after each reply'}")
    if rate is not None:
        speed = f", {rate.length / rate.seconds / 1e6:.1f} MB/s over one connection" if rate.seconds else ""
        amount = f"{counted(rate.length, 'byte')} in {counted(rate.piece_count, 'piece')}"
        print(f"rate:          {amount} in {rate.seconds:.2f} s{speed}")
    return ExitStatus.DONE


def _endpoint(reactor: IPeerReactor, parent: ParentAddress, config: Config, timeout: float) -> IStreamClientEndpoint:
    """What connects to the address, in that many seconds at most."""
    if not parent.is_secure:
        return client_endpoint(reactor, str(parent), timeout)
    from dragonfly_vortex.transport.tls import client_tls_from

    return client_endpoint(reactor, str(parent), timeout, client_tls_from(client_tls(config)))


async def _measure(reactor: IPeerReactor, arguments: Namespace, config: Config) -> _Rate:
    """
    Fetch pieces of a task, one after the other as a download does, for some seconds or to the end. They are verified,
    and dropped.

    :raises PieceError: a piece cannot be had.
    """
    clock = IReactorTime(reactor)
    downloader = load_code(TCP.downloader)(config, reactor, TokenBucket(config.download.bandwidth_limit, clock))
    started = clock.seconds()
    length = fetched = 0
    try:
        for number in count():
            sink = _Nowhere()
            request = DownloadPieceRequest(kind=arguments.kind, task_id=arguments.task, number=number, sink=sink)
            await downloader.download(str(arguments.address), request)
            length += sink.length
            fetched += 1
            if clock.seconds() - started >= _MEASURED_SECONDS:
                break
    except PieceNotFound:
        if not fetched:
            raise
    finally:
        seconds = clock.seconds() - started
        await downloader.stop()
    return _Rate(length=length, piece_count=fetched, seconds=seconds)
