"""What a child learns from its parent's gRPC API, over real sockets: its pieces, and where its Vortex door is."""

from __future__ import annotations

from typing import cast

from dragonfly_api import dfdaemon_pb2
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.parents import ParentAddress
from dragonfly_vortex.rpc.client import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.discovery import PieceDiscovery, tcp_address_of
from dragonfly_vortex.testing.pieces import TASK_ID
from dragonfly_vortex.wire import PieceKind
from test.rpc.announcing_parent import AnnouncingParent, Stream, piece, says_and_waits
from test.rpc.told import Told

_STAT = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=250, piece_length=100)


class AddressTests(SynchronousTestCase):
    """Where a parent offers Vortex."""

    def test_given(self) -> None:
        """The address that it gives is taken, of either family."""
        parent = ParentAddress.from_text("grpc://parent.example:4000")
        self.assertEqual(tcp_address_of(parent, "192.0.2.9", 4005), "192.0.2.9:4005")
        self.assertEqual(tcp_address_of(parent, "2001:db8::9", 4005), "[2001:db8::9]:4005")

    def test_local(self) -> None:
        """An address that is good for nobody else, or none, means the host of the gRPC address."""
        for text, host in (
            ("grpc://parent.example:4000", "parent.example"),
            ("grpc://[2001:db8::1]:1", "[2001:db8::1]"),
        ):
            for ip in ("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "", "no address"):
                self.assertEqual(tcp_address_of(ParentAddress.from_text(text), ip, 4005), f"{host}:4005", ip)

    def test_secure(self) -> None:
        """Under TLS it is the host that the certificate is for."""
        parent = ParentAddress.from_text("grpcs://parent.example:4000")
        self.assertEqual(tcp_address_of(parent, "192.0.2.9", 4005), "tls://parent.example:4005")

    def test_no_port(self) -> None:
        """Without a port there is no address."""
        parent = ParentAddress.from_text("grpc://parent.example:4000")
        for port in (0, -1, 65_536):
            self.assertIsNone(tcp_address_of(parent, "192.0.2.9", port))


class DiscoveryTests(TestCase):
    """A child that writes down what it is told."""

    timeout = 30

    def setUp(self) -> None:
        self.told = Told()
        self.doors: list[str] = []
        self.known: list[list[str]] = []

    def ask(self, stream: Stream) -> AnnouncingParent:
        """Ask a parent that says this."""
        parent = AnnouncingParent(reactor, [_STAT], [stream])
        parent.start()
        self.addCleanup(parent.stop)
        address = ParentAddress(scheme="grpc", host="127.0.0.1", port=parent.port)
        announcer = PieceDiscovery(address, GRPCSettings(reactor=cast(IRPCReactor, reactor)), self.doors.append)
        verifyObject(IPieceAnnouncer, announcer)
        told = self.told
        self.stop = announcer.start(PieceKind.STANDARD, TASK_ID, told.on_layout, self.on_piece, told.on_end)
        self.addCleanup(self.stop)
        self.assertEqual((told.layouts, told.pieces, told.ends), ([], [], []))
        return parent

    def on_piece(self, number: int, offset: int, length: int) -> None:
        """Write down which doors are known when a piece is told."""
        self.known.append(list(self.doors))
        self.told.on_piece(number, offset, length)

    async def test_no_door(self) -> None:
        """A parent that offers no Vortex has pieces, and no door."""
        self.ask(says_and_waits(piece(0), piece(1), piece(2, 50)))
        await self.told.until_end()
        self.assertEqual((self.told.layouts, len(self.told.pieces), self.told.ends), ([(250, 100)], 3, [True]))
        self.assertEqual(self.doors, [])

    async def test_told_first(self) -> None:
        """The door is known before the piece is told that it came with, and told once."""
        self.ask(says_and_waits(*(piece(number, ip="127.0.0.1", tcp_port=4005) for number in range(2))))
        await self.told.until_pieces(2)
        self.assertEqual(self.known, [["127.0.0.1:4005"]] * 2)

    async def test_changes(self) -> None:
        """A door that is another one later is told then."""
        self.ask(says_and_waits(piece(0), piece(1, tcp_port=4005), piece(2, 10, tcp_port=4006)))
        await self.told.until_pieces(3)
        self.assertEqual(self.doors, ["127.0.0.1:4005", "127.0.0.1:4006"])

    async def test_stop(self) -> None:
        """What was started can be ended."""
        parent = self.ask(says_and_waits(piece(0)))
        await self.told.until_pieces(1)
        self.stop()
        await parent.until_ended()
        self.assertEqual(self.told.ends, [])
