"""
Objects that this peer makes in an object storage, by URLs that are signed for one method.
"""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import BinaryIO

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from dragonfly_vortex.deferreds import add_deadline
from dragonfly_vortex.errors import InvalidOrigin, SourceUnavailable, StorageFailure
from dragonfly_vortex.geometry import BLOCK_LENGTH
from dragonfly_vortex.identity import shown_url
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.metrics.task_metrics import TaskMetrics
from dragonfly_vortex.model import Credentials, Origin
from dragonfly_vortex.source.agent import Discarding, SourceAgent
from dragonfly_vortex.source.answers import failure_of, is_cancelled, refusal_of
from dragonfly_vortex.source.location import locate
from dragonfly_vortex.system_calls import reason_of

__all__ = ["FileBody", "ObjectUpload"]


class ObjectUpload:
    """
    An object that may be made.

    :param origin: where it is to be: URL, region and endpoint of its storage.
    :param credentials: what the storage is shown.
    :param agent: asks. Its creator closes it.
    :param clock: for the timeout.
    :param timeout: seconds without progress after which a request fails.
    :param metrics: where requests are counted; None: nowhere.
    :raises InvalidOrigin: the origin is no object, or its storage has no address.
    """

    def __init__(
        self,
        origin: Origin,
        credentials: Credentials,
        agent: SourceAgent,
        *,
        clock: IReactorTime,
        timeout: float,
        metrics: TaskMetrics | None = None,
    ) -> None:
        if not origin.url.startswith("s3://"):
            raise InvalidOrigin(f"expected s3://BUCKET/KEY, got {shown_url(origin.url)!r}")
        self._agent = agent
        self._clock = clock
        self._timeout = timeout
        self._metrics = metrics
        self._locate = partial(locate, origin, credentials=credentials)
        self._name = self._locate().name

    async def exists(self) -> bool:
        """
        Whether the object is there.

        :raises SourceError: the storage does not say.
        """
        response = await self._ask("HEAD")
        if response.code == 404:
            return False
        if response.code != 200:
            raise refusal_of(self._name, response, 200, 404)
        return True

    async def put(self, body: FileBody) -> None:
        """
        Make the object.

        :param body: its content.
        :raises SourceError: the storage does not take it, or says that it has it before all of it was sent.
        :raises StorageFailure: the content cannot be read.
        """
        response = await self._ask("PUT", body)
        if response.code not in (200, 201, 204):
            raise refusal_of(self._name, response, 200)
        if body.sent < body.length:
            reason = f"expected an answer after {body.length} bytes, got {response.code} after {body.sent}"
            raise SourceUnavailable(self._name, reason)

    def _ask(self, method: str, body: FileBody | None = None) -> Deferred[IResponse]:
        """Send a request, for as long as there is progress."""
        sent, since = 0, self._clock.seconds()

        def look() -> None:
            nonlocal sent, since
            if body is not None and body.sent != sent:
                sent, since = body.sent, self._clock.seconds()

        def too_late(_: IResponse | Failure) -> Failure:
            return Failure(SourceUnavailable(self._name, f"no progress for {self._timeout:g} s"))

        asking = Deferred.fromCoroutine(self._exchange(method, body))
        return add_deadline(asking, self._clock, self._timeout, since=lambda: since, too_late=too_late, look=look)

    async def _exchange(self, method: str, body: FileBody | None) -> IResponse:
        """Send a request, and discard the content of its answer."""
        with self._counted(method):
            url = self._locate(method=method).url
            try:
                response = await self._agent.request(method.encode(), url.encode(), None, body)
            except Exception as error:
                if is_cancelled(error):
                    raise CancelledError from None
                if body is not None and body.error is not None:
                    raise StorageFailure(f"cannot put {self._name}: {reason_of(body.error)}") from body.error
                # Without the cause, whose text may have the whole URL.
                raise failure_of(self._name, error) from None
            discarding = Discarding()
            response.deliverBody(discarding)
            await discarding.done
            return response

    def _counted(self, method: str) -> AbstractContextManager[None]:
        """Count a request."""
        if self._metrics is None:
            return nullcontext()
        return self._metrics.backend_request(self._name.partition("://")[0], method)


@implementer(IBodyProducer)
class FileBody:
    """
    The bytes of a file, as the content of a request. They are read in a thread, and no faster than they are sent.

    :param file: open for reading, at its first byte. Its owner closes it.
    :param length: its bytes.
    :param in_thread: reads.
    """

    def __init__(self, file: BinaryIO, length: int, in_thread: InThread) -> None:
        self.length = length
        self.sent = 0
        """Bytes that were sent so far."""
        self.error: BaseException | None = None
        """Why the file cannot be read; None as long as it can."""
        self._file = file
        self._in_thread = in_thread
        self._sending: Deferred[None] | None = None
        self._resumed: Deferred[None] | None = None  # fires when more may be sent
        self._is_stopped = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """See :meth:`twisted.web.iweb.IBodyProducer.startProducing`."""
        done: Deferred[None] = Deferred()

        def ended(result: Failure | None) -> None:
            if isinstance(result, Failure):
                self.error = result.value
            if not self._is_stopped:  # then it must not fire
                done.callback(result)  # a Failure is taken as one

        self._sending = Deferred.fromCoroutine(self._send(consumer))
        self._sending.addBoth(ended)
        return done

    def pauseProducing(self) -> None:
        """See :meth:`twisted.web.iweb.IBodyProducer.pauseProducing`."""
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        """See :meth:`twisted.web.iweb.IBodyProducer.resumeProducing`."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        """See :meth:`twisted.web.iweb.IBodyProducer.stopProducing`."""
        self._is_stopped = True
        if self._sending is not None:
            self._sending.cancel()

    async def _send(self, consumer: IConsumer) -> None:
        while self.sent < self.length:
            block = await self._in_thread(partial(self._file.read, min(BLOCK_LENGTH, self.length - self.sent)))
            if not block:
                raise OSError(errno.EIO, f"expected a file of {self.length} bytes, got one of {self.sent}")
            if self._resumed is not None:
                await self._resumed
            consumer.write(block)
            self.sent += len(block)
