"""What children at once cost a parent and themselves, in lines, which no load of the machine changes."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.trial.unittest import TestCase

from dragonfly_vortex.interfaces import DownloadPieceRequest
from dragonfly_vortex.testing.memory_store import MemoryStore
from dragonfly_vortex.transport.endpoints import client_endpoint
from dragonfly_vortex.transport.ratelimit import UploadLimiter
from dragonfly_vortex.vortex.client import TCPClient
from dragonfly_vortex.vortex.client_protocol import ClientSettings
from dragonfly_vortex.vortex.connections import ConnectionRegistry, ServerSettings
from dragonfly_vortex.vortex.server import VortexServerFactory
from dragonfly_vortex.wire import PieceKind
from test.lines import LineCount

PIECES, PIECE_LENGTH = 3, 1000
PATIENCE = 100.0
"""Seconds that a child has for a piece, however busy the machine is."""


class GrowthTests(TestCase):
    """A few children at once, and five times as many, over real sockets."""

    async def lines(self, count: int) -> int:
        """How many lines of the package run so that each child has all pieces over a connection of its own."""
        tcp, clock = IReactorTCP(reactor), IReactorTime(reactor)
        store = MemoryStore()
        task_id = store.add(bytes(PIECES * PIECE_LENGTH), PIECE_LENGTH)
        factory = VortexServerFactory(
            store,
            ServerSettings(clock=clock, limiter=UploadLimiter(10**9, clock)),
            ConnectionRegistry(clock, max_connections=count),
        )
        port = await TCP4ServerEndpoint(tcp, 0, backlog=count, interface="127.0.0.1").listen(factory)
        address = f"127.0.0.1:{port.getHost().port}"

        async def fetch() -> None:
            client = TCPClient(
                address,
                lambda address: client_endpoint(tcp, address, PATIENCE),
                ClientSettings(clock=clock),
                connect_timeout=PATIENCE,
            )
            for number in range(PIECES):
                request = DownloadPieceRequest(kind=PieceKind.STANDARD, task_id=task_id, number=number)
                response = await client.download_piece(request, PATIENCE)
                self.assertEqual(response.metadata.length, PIECE_LENGTH)
            await client.stop()

        with LineCount() as lines:
            await gatherResults([Deferred.fromCoroutine(fetch()) for _ in range(count)], consumeErrors=True)
        await port.stopListening()
        return lines.count

    async def test_children(self) -> None:
        """
        A child costs no more lines beside many others than beside few. One line for each other child would be a fifth
        more. A loaded machine gives a few per cent more, as replies arrive in more parts.
        """
        few, many = await self.lines(20), await self.lines(200)
        self.assertGreater(few, 1000)
        self.assertLessEqual(many, 1.1 * 10 * few)
