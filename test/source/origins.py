"""A source and its origin for tests: real sockets of 127.0.0.1, and what came of each fetch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IOpenSSLServerConnectionCreator, IProducer, IReactorTCP, IReactorTime
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dragonfly_vortex.model import NO_CREDENTIALS, Credentials, Origin
from dragonfly_vortex.source.agent import MayConnect, SourceAgent
from dragonfly_vortex.source.http import HTTPSource
from dragonfly_vortex.source.location import Header, locate
from dragonfly_vortex.source.proxies import Proxies
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin
from dragonfly_vortex.transport.tls import server_tls_from
from test.certificates import Authority

__all__ = ["CONTENT", "Gathering", "SourceCase", "pattern"]

_T = TypeVar("_T")


def pattern(length: int) -> bytes:
    """Bytes that differ from place to place."""
    return b"".join(number.to_bytes(4, "big") for number in range(-(-length // 4)))[:length]


CONTENT = pattern(300_000)


@implementer(IConsumer)
class Gathering:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.producer: IProducer | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.data += data


class SourceCase(TestCase):
    """A case with an origin, and sources that ask it."""

    timeout = 120.0

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor = cast(IReactorTCP, reactor)
        self.clock = IReactorTime(reactor)

    def origin(
        self, content: bytes = CONTENT, *, tls: IOpenSSLServerConnectionCreator | None = None, **how: object
    ) -> ScriptedOrigin:
        """An origin that runs."""
        origin = ScriptedOrigin(content, **how)  # type: ignore[arg-type]
        origin.start(self.reactor, tls)
        self.addCleanup(origin.stop)
        return origin

    def agent(
        self, proxies: Mapping[str, str] | None = None, may_connect: MayConnect = lambda host, address: True
    ) -> SourceAgent:
        """An agent that knows these proxies."""
        agent = SourceAgent(
            self.reactor,
            Proxies({} if proxies is None else proxies),
            connections=8,
            read_size=65536,
            may_connect=may_connect,
        )
        self.addCleanup(agent.close)
        return agent

    def source(
        self,
        url: str,
        headers: Sequence[Header] = (),
        *,
        credentials: Credentials = NO_CREDENTIALS,
        proxies: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> HTTPSource:
        """A source."""
        location = locate(Origin(url=url), headers, credentials=credentials, environment=environment)
        return HTTPSource(location, self.agent(proxies))

    def fetched(self, source: HTTPSource, start: int, length: int | None) -> Deferred[bytes]:
        """What a range is."""
        consumer = Gathering()
        return source.fetch(start, length, consumer).addCallback(lambda _: consumer.data)

    def secure(self, hosts: tuple[str, ...] = ("127.0.0.1",)) -> ScriptedOrigin:
        """An origin under TLS, whose authority is trusted by this process."""
        directory = Path(self.mktemp())
        directory.mkdir()
        authority = Authority(directory)
        os.environ["SSL_CERT_FILE"] = str(authority.file.absolute())
        self.addCleanup(os.environ.pop, "SSL_CERT_FILE", None)
        tls = server_tls_from(authority.issue(hosts=hosts).identity())
        return self.origin(tls=tls)

    async def failure_of(self, deferred: Deferred[_T]) -> Exception:
        """What a Deferred fails with."""
        try:
            got = await deferred
        except Exception as error:
            self.assertNotIn("secret", "".join(Failure(error).getTraceback()) + repr(error))
            return error
        self.fail(f"expected a failure, got {got!r}")
