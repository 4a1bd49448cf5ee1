"""What a child learns from its parent's gRPC API, over real sockets: its pieces, and where its Vortex door is."""

from __future__ import annotations

from typing import cast

from dragonfly_api import dfdaemon_pb2
from twisted.internet import reactor
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.limited_log import LINES
from dragonfly_vortex.rpc.channel import GRPCSettings, IRPCReactor
from dragonfly_vortex.rpc.piece_discovery import PieceDiscovery, tcp_address_of
from dragonfly_vortex.testing.pieces import TASK_ID
from dragonfly_vortex.wire import PieceKind
from test.rpc.announcing_parent import AnnouncingParent, Stream, piece, says_and_waits
from test.rpc.told import Told

_STAT = dfdaemon_pb2.StatLocalTaskResponse(task_id=TASK_ID, content_length=250, piece_length=100)


class AddressTests(SynchronousTestCase):
    """Where a parent offers Vortex."""

    def test_own_host(self) -> None:
        """By default it is the host of the gRPC address, whatever address the parent gives."""
        for text, host in (
            ("grpc://192.0.2.1:4000", "192.0.2.1"),
            ("grpc://[2001:db8::1]:1", "[2001:db8::1]"),
            ("grpc://parent.example:4000", "parent.example"),
        ):
            parent = ParentAddress.from_text(text)
            for ip in ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.9", "2001:db8::9", "169.254.169.254", "127.0.0.1", ""):
                self.assertEqual(tcp_address_of(parent, ip, 4005), f"{host}:4005", ip)

    def test_one_of_several(self) -> None:
        """Of a name's addresses it is the one that the parent gives, and none that the name does not have."""
        parent = ParentAddress.from_text("grpc://parents.example:4000")
        resolved = {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
        for ip, address in (
            ("192.0.2.2", "192.0.2.2:4005"),
            ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]:4005"),
            ("2001:db8:0::1", "[2001:db8:0::1]:4005"),
            ("192.0.2.9", "parents.example:4005"),
            ("no address", "parents.example:4005"),
        ):
            self.assertEqual(tcp_address_of(parent, ip, 4005, resolved=resolved), address)

    def test_followed(self) -> None:
        """If that is wanted the address that it gives is taken, of either family, and any port."""
        parent = ParentAddress.from_text("grpc://parent.example:4000")
        self.assertEqual(tcp_address_of(parent, "192.0.2.9", 4005, follow=True), "192.0.2.9:4005")
        self.assertEqual(tcp_address_of(parent, "2001:db8::9", 443, follow=True), "[2001:db8::9]:443")

    def test_local(self) -> None:
        """Followed, an address that is good on the parent's machine alone, or none, means the gRPC address's host."""
        for text, host in (
            ("grpc://parent.example:4000", "parent.example"),
            ("grpc://[2001:db8::1]:1", "[2001:db8::1]"),
        ):
            for ip in ("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "", "no address"):
                parent = ParentAddress.from_text(text)
                self.assertEqual(tcp_address_of(parent, ip, 4005, follow=True), f"{host}:4005", ip)

    def test_secure(self) -> None:
        """Under TLS it is the host that the certificate is for."""
        parent = ParentAddress.from_text("grpcs://parent.example:4000")
        for follow in (False, True):
            address = tcp_address_of(parent, "192.0.2.9", 4005, resolved={"192.0.2.9"}, follow=follow)
            self.assertEqual(address, "tls://parent.example:4005")

    def test_privileged(self) -> None:
        """A port of a system's services is not asked, unless that is wanted."""
        parent = ParentAddress.from_text("grpc://192.0.2.1:4000")
        for port in (1, 22, 1023):
            self.assertIsNone(tcp_address_of(parent, "192.0.2.1", port))
        self.assertEqual(tcp_address_of(parent, "192.0.2.1", 1024), "192.0.2.1:1024")

    def test_no_port(self) -> None:
        """Without a port there is no address."""
        parent = ParentAddress.from_text("grpc://parent.example:4000")
        for port in (0, -1, 65_536):
            self.assertIsNone(tcp_address_of(parent, "192.0.2.9", port))


class DiscoveryTests(TestCase):
    """A child that records what is announced to it."""

    timeout = 120

    def setUp(self) -> None:
        self.told = Told()
        self.doors: list[str] = []
        self.known: list[list[str]] = []

    def ask(self, stream: Stream, *, follow: bool = False) -> AnnouncingParent:
        """Ask a parent that says this."""
        parent = AnnouncingParent(reactor, [_STAT], [stream])
        parent.start()
        self.addCleanup(parent.stop)
        address = ParentAddress(scheme="grpc", host="127.0.0.1", port=parent.port)
        settings = GRPCSettings(reactor=cast(IRPCReactor, reactor))
        announcer = PieceDiscovery(address, settings, self.doors.append, follow=follow)
        verifyObject(IPieceAnnouncer, announcer)
        told = self.told
        self.stop = announcer.start(PieceKind.STANDARD, TASK_ID, told.on_layout, self.on_piece, told.on_end)
        self.addCleanup(self.stop)
        self.assertEqual((told.layouts, told.pieces, told.ends), ([], [], []))
        return parent

    def on_piece(self, number: int, offset: int, length: int) -> None:
        """Record which doors are known when a piece is announced."""
        self.known.append(list(self.doors))
        self.told.on_piece(number, offset, length)

    async def test_no_door(self) -> None:
        """A parent that offers no Vortex has pieces, and no door."""
        self.ask(says_and_waits(piece(0), piece(1), piece(2, 50)))
        await self.told.until_end()
        self.assertEqual((self.told.layouts, len(self.told.pieces), self.told.ends), ([(250, 100)], 3, [True]))
        self.assertEqual(self.doors, [])

    async def test_told_first(self) -> None:
        """The door is reported before the piece that it came with, and once."""
        self.ask(says_and_waits(*(piece(number, ip="127.0.0.1", tcp_port=4005) for number in range(2))))
        await self.told.until_pieces(2)
        self.assertEqual(self.known, [["127.0.0.1:4005"]] * 2)

    async def test_changes(self) -> None:
        """A door that changes later is reported then."""
        self.ask(says_and_waits(piece(0), piece(1, tcp_port=4005), piece(2, 10, tcp_port=4006)))
        await self.told.until_pieces(3)
        self.assertEqual(self.doors, ["127.0.0.1:4005", "127.0.0.1:4006"])

    async def test_other_host(self) -> None:
        """What is announced of another host, or of port 22, is not followed."""
        self.ask(says_and_waits(piece(0, ip="192.0.2.9", tcp_port=4005), piece(1, tcp_port=22), piece(2, 50)))
        await self.told.until_end()
        self.assertEqual(self.doors, ["127.0.0.1:4005"])

    async def test_log(self) -> None:
        """What a parent announces fills no log, and is one line in it."""
        told = [piece(n % 2, ip="192.0.2.9\n\x1b[2J", tcp_port=port) for n, port in enumerate(range(924, 1124))]
        with capturedLogs() as events:
            self.ask(says_and_waits(*told, piece(2, 50)))
            await self.told.until_end()
            self.stop()
        lines = [line for event in events if "announces" in (line := formatEvent(event))]
        self.assertLessEqual(len(lines), 2 * LINES + 2)
        self.assertTrue(all(line.isprintable() for line in lines), lines)

    async def test_followed(self) -> None:
        """It is followed if that is wanted."""
        self.ask(says_and_waits(piece(0, ip="192.0.2.9", tcp_port=22), piece(1)), follow=True)
        await self.told.until_pieces(2)
        self.assertEqual(self.doors, ["192.0.2.9:22"])

    async def test_name(self) -> None:
        """A name's addresses are looked up: of several, the one that the parent gives is offered."""
        parent = AnnouncingParent(reactor, [_STAT], [says_and_waits(piece(0, ip="127.0.0.1", tcp_port=4005))])
        parent.start()
        self.addCleanup(parent.stop)
        settings = GRPCSettings(reactor=cast(IRPCReactor, reactor))
        address = ParentAddress(scheme="grpc", host="localhost", port=parent.port)
        announcer = PieceDiscovery(address, settings, self.doors.append)
        told = self.told
        while self.doors[-1:] != ["127.0.0.1:4005"]:  # the first time the name may be resolved too late
            told.pieces.clear()
            stop = announcer.start(PieceKind.STANDARD, TASK_ID, told.on_layout, told.on_piece, told.on_end)
            await told.until_pieces(1)
            stop()
        self.assertLessEqual(set(self.doors), {"localhost:4005", "127.0.0.1:4005"})

    async def test_stop(self) -> None:
        """What was started can be ended."""
        parent = self.ask(says_and_waits(piece(0)))
        await self.told.until_pieces(1)
        self.stop()
        await parent.until_ended()
        self.assertEqual(self.told.ends, [])
