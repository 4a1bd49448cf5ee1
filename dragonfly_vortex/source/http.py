"""
A source over HTTP. What a server says of its content, in the first answer, is what all later ones must fit: another
version, another range or another length is refused before a byte of it is used.

The rules are those of RFC 9110: ranges 14, validators 8.8, conditional requests 13, redirects 15.4, retries 10.2.3.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import implementer

from dragonfly_vortex.errors import (
    RangesIgnored,
    SourceChanged,
    SourceError,
    SourceRefused,
    SourceTruncated,
    SourceUnavailable,
)
from dragonfly_vortex.interfaces import ISocketConsumer, ISource
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import SourceStat
from dragonfly_vortex.source.agent import Discarding, SourceAgent, client_over
from dragonfly_vortex.source.answers import (
    Range,
    condition_of,
    failure_of,
    header,
    is_cancelled,
    length_of,
    origin_of_url,
    redirected,
    refusal_of,
    version_of,
)
from dragonfly_vortex.source.connections import Reading, SourceConnection
from dragonfly_vortex.source.location import Header, Location

__all__ = ["HTTPSource"]

_MOST_REDIRECTS = 10

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

_EXPIRED = frozenset({401, 403, 404, 410})
"""Answers of a place to which a redirect led, after which the redirect is asked for again."""

_HARMLESS = frozenset({"accept", "accept-language", "user-agent"})
"""Headers of the user that go to another host after a redirect. Any other may be a credential."""


class _PushTransport(ITransport, IPushProducer):
    """What the body of an answer is connected to."""


@implementer(ISource)
class HTTPSource:
    """
    The content behind a URL.

    :param location: the URL and the headers.
    :param agent: asks. Its creator closes it.
    :param metrics: where requests are counted; None: nowhere.
    """

    def __init__(self, location: Location, agent: SourceAgent, metrics: TaskMetrics | None = None) -> None:
        self.name = location.name
        self._metrics = metrics
        self._location = location
        self._client: HTTPClient = client_over(agent)
        self._reading = agent.reading
        self._stat: SourceStat | None = None
        self._validator: Header | None = None
        self._landed: tuple[str, Sequence[Header]] | None = None  # where a redirect led, and what is sent there

    def stat(self) -> Deferred[SourceStat]:
        return Deferred.fromCoroutine(self._ask_for_stat())

    def fetch(self, start: int, length: int | None, consumer: IConsumer) -> Deferred[None]:
        return Deferred.fromCoroutine(self._fetch(start, length, consumer))

    def stop(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        done.callback(None)  # the connections are the agent's
        return done

    # -- what it has ---------------------------------------------------------------------------------------------------

    async def _ask_for_stat(self) -> SourceStat:
        """Ask for the first byte, as the reference does: many sources answer a HEAD in another way, or not at all."""
        with self._counted("HEAD"):  # the reference's word for it
            response = await self._ask([("Range", "bytes=0-0")])
            await _discard(response)
            self._check_status(response, 200, 206, 416)
            if response.code == 416 and Range.of(response.headers) is None:
                # Storages of S3's kind say nothing else of an empty object.
                response = await self._ask([])
                await _discard(response)
                self._check_status(response, 200)
        found = Range.of(response.headers)
        length = length_of(response) if response.code == 200 else None
        if found is not None and found.whole == 0:  # nothing has a first byte
            length = 0
        elif response.code == 206 and found is not None and (found.start, found.length) == (0, 1):
            length = found.whole
        # A source whose ranges are not what they should be, or that does not say how much there is, is read as one
        # stream: some servers answer "bytes 0--1/0" for an empty file.
        has_ranges = response.code == 206 and length is not None
        stat = SourceStat(content_length=length, has_ranges=has_ranges, version=version_of(response.headers))
        if self._stat is not None and stat != self._stat:
            raise SourceChanged(self.name, f"expected {_described(self._stat)}, got {_described(stat)}")
        self._stat = stat
        self._validator = condition_of(response.headers)
        return stat

    # -- a range of it -------------------------------------------------------------------------------------------------

    async def _fetch(self, start: int, length: int | None, consumer: IConsumer) -> None:
        headers = [] if length is None else [("Range", f"bytes={start}-{start + length - 1}")]
        if self._validator is not None:
            headers.append(self._validator)
        with self._counted("GET"):
            response = await self._ask(headers)
            try:
                self._check_answer(response, start, length)
            except SourceError:
                await _discard(response)
                raise
        expected = length if length is not None or self._stat is None else self._stat.content_length
        is_counted = expected is not None and response.length == expected  # by its header, and not in chunks
        body = _Body(self.name, consumer, expected, self._reading if is_counted else None)
        response.deliverBody(body)
        await body.done

    def _check_answer(self, response: IResponse, start: int, length: int | None) -> None:
        """
        Check whether what comes is what was asked for.

        :raises SourceError: it is not.
        """
        stat = self._stat
        if response.code in (412, 416):
            raise self._changed("expected the same version as before", response)
        self._check_status(response, 200, 206)
        version = version_of(response.headers)
        if stat is not None and version != stat.version:
            raise SourceChanged(self.name, f"expected version {stat.version or '-'}, got {version or '-'}")
        if length is None:
            if response.code != 200:
                raise self._changed("expected the whole", response)
            if stat is not None and length_of(response) != stat.content_length is not None:
                raise self._changed(f"expected {stat.content_length} bytes", response)
            return
        if response.code == 200:
            raise RangesIgnored(self.name, "expected a range, got the whole")
        found = Range.of(response.headers)
        whole = None if stat is None else stat.content_length
        if found is None or (found.start, found.length, found.whole) != (start, length, whole):
            raise self._changed(f"expected bytes {start}-{start + length - 1} of {whole}", response)
        if length_of(response) not in (length, None):
            raise self._changed(f"expected {length} bytes", response)

    def _counted(self, method: str) -> AbstractContextManager[None]:
        """Count a request."""
        if self._metrics is None:
            return nullcontext()
        return self._metrics.backend_request(self.name.partition("://")[0], method)

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _ask(self, headers: Sequence[Header]) -> IResponse:
        """
        Send a request, to where the last one was redirected: another mirror may have another version. Where that place
        gives nothing any more, as a signed URL does after its time, begin at the URL of the user.

        :param headers: in addition to those of the user.
        :raises SourceError: there is no answer, or none that can be used.
        """
        landed = self._landed
        if landed is not None:
            try:
                response = await self._follow(*landed, headers)
            except SourceUnavailable:
                self._landed = None
                raise
            if response.code not in _EXPIRED:
                return response
            self._landed = None
            await _discard(response)
        return await self._follow(self._location.url, self._location.headers, headers)

    async def _follow(self, url: str, of_user: Sequence[Header], headers: Sequence[Header]) -> IResponse:
        """
        Send a request, and follow redirects. Twisted's ``RedirectAgent`` is not used: it resolves a relative address
        in the second redirect against the first URL (26.10).

        :param of_user: headers for the host of the URL.
        :param headers: headers for all hosts.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._send(url, [*of_user, *headers])
            if response.code not in _REDIRECTS:
                if response.code in (200, 206) and url != self._location.url:
                    self._landed = url, of_user
                return response
            await _discard(response)
            there = redirected(url, response.headers)
            if there is None:
                raise SourceRefused(self.name, f"expected a redirect to a URL of http, got status {response.code}")
            if origin_of_url(there) != origin_of_url(url):
                of_user = tuple(each for each in of_user if each[0].lower() in _HARMLESS)
            url = there
        raise SourceRefused(self.name, f"expected at most {_MOST_REDIRECTS} redirects, got more")

    async def _send(self, url: str, headers: Sequence[Header]) -> IResponse:
        """Send a request."""
        fields = Headers()
        for name, value in headers:
            fields.addRawHeader(name, value)
        try:
            return await self._client.request("GET", url, headers=fields, allow_redirects=False, unbuffered=True)
        except Exception as error:
            if is_cancelled(error):
                raise CancelledError from None
            # Without the cause, whose text may have the whole URL.
            raise failure_of(self.name, error) from None

    def _check_status(self, response: IResponse, *expected: int) -> None:
        """
        Check whether an answer has one of these statuses.

        :raises SourceError: it has another one.
        """
        if response.code not in expected:
            raise refusal_of(self.name, response, *expected[:2])

    def _changed(self, expected: str, response: IResponse) -> SourceChanged:
        """An answer that contradicts what was said, or what was asked for."""
        got = [f"status {response.code}"]
        found, length = header(response.headers, "Content-Range"), length_of(response)
        if found:
            got.append(f"Content-Range {found[:60]!r}")
        if length is not None:
            got.append(f"{length} bytes")
        return SourceChanged(self.name, f"{expected}, got {', '.join(got)}")


async def _discard(response: IResponse) -> None:
    """Take the body of an answer that is of no use."""
    discarding = Discarding()
    response.deliverBody(discarding)
    await discarding.done


class _Body(Protocol):
    """
    The content of an answer, on its way to a consumer.

    :param source: its name.
    :param expected: bytes; None where the end of the answer says how many there are.
    :param reading: knows the connection, where bytes may be taken from its socket; else None.
    """

    transport: _PushTransport

    def __init__(self, source: str, consumer: IConsumer, expected: int | None, reading: Reading | None) -> None:
        self.done: Deferred[None] = Deferred(self._cancel)
        """Fires when all of it has been written to the consumer."""
        self._source = source
        self._consumer = consumer
        self._taker: ISocketConsumer | None = ISocketConsumer(consumer, None)
        self._expected = expected
        self._reading = reading
        self._connection: SourceConnection | None = None
        self._received = 0
        self._uncounted = 0  # bytes that were taken, and that the client will count
        self._error: BaseException | None = None

    @property
    def left(self) -> int:
        """Bytes that are missing; 0 where no more are wanted."""
        return 0 if self._expected is None or self._error is not None else self._expected - self._received

    def connectionMade(self) -> None:
        self._consumer.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        if self._uncounted:
            self._uncounted -= len(data)
            return
        if self._error is not None:
            return
        self._received += len(data)
        if self._expected is not None and self._received > self._expected:
            self._end(SourceChanged(self._source, f"expected {self._expected} bytes, got more"))
            return
        try:
            self._consumer.write(data)
        except Exception as error:
            self._end(error)
            return
        if self._taker is not None and self._reading is not None and self._reading.connection is not None:
            self._connection = self._reading.connection
            self._connection.body = self

    def take(self, sock: socket.socket) -> int:
        """See :meth:`~dragonfly_vortex.source.connections.Body.take`."""
        taken = 0
        try:
            if self._taker is not None and self.left:
                taken = self._taker.take(sock, self.left)
        except ConnectionLost:
            self._end(self._truncated())
        except Exception as error:
            self._end(error)
        self._received += taken
        self._uncounted += taken
        return taken

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._connection is not None and self._connection.body is self:
            self._connection.body = None
        self._consumer.unregisterProducer()
        is_whole = reason.check(ResponseDone) is not None
        # Without a length and chunks, the end of the connection is the end of the content.
        is_whole = is_whole or (self._expected is None and reason.check(PotentialDataLoss) is not None)
        if self._error is None and self._received != self._expected is not None and is_whole:
            self._error = SourceChanged(self._source, f"expected {self._expected} bytes, got {self._received}")
        elif self._error is None and not is_whole:
            self._error = self._truncated()
        if not self.done.called:
            if self._error is None:
                self.done.callback(None)
            else:
                self.done.errback(self._error)

    def _truncated(self) -> SourceTruncated:
        of = "" if self._expected is None else f" of {self._expected}"
        return SourceTruncated(self._source, f"the connection ended after {self._received}{of} bytes")

    def _end(self, error: BaseException) -> None:
        self._error = error
        self.transport.loseConnection()

    def _cancel(self, _: Deferred[None]) -> None:
        self._end(CancelledError())
        self.done.errback(CancelledError())


def _described(stat: SourceStat) -> str:
    """What a source has, for messages."""
    length = "content" if stat.content_length is None else f"{stat.content_length} bytes"
    return f"{length} of version {stat.version or '-'}"
