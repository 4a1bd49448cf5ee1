"""Tests of the way into a peer over TCP."""

from __future__ import annotations

from typing import cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.transport.socket_options import SocketOptions
from dragonfly_vortex.vortex.server import TCPServer
from test.vortex.child import Child
from test.vortex.serving import REACTOR, ServingTestCase

MIB = 1024 * 1024


class TCPServerTests(ServingTestCase):
    """Starting and stopping."""

    def server(self, *lengths: int, port: int = 0) -> TCPServer:
        """A server of pieces of these lengths."""
        self.store = self.shelf(*lengths)
        self.connections = self.factory(self.store)
        reactor = cast(IReactorFDSet, REACTOR)
        server = TCPServer(reactor, self.connections, ip="127.0.0.1", port=port, options=SocketOptions())
        self.addCleanup(server.stop, 0)
        return server

    def start(self, server: TCPServer) -> tuple[str, int]:
        """Start it; its address."""
        address = server.start()
        self.assertEqual(server.address, address)
        if not isinstance(address, IPv4Address):
            self.fail(f"expected an IPv4 address, got {address}")
        return address.host, address.port

    def test_interface(self) -> None:
        """It is a server."""
        self.assertTrue(verifyObject(IServer, self.server()))

    async def test_start(self) -> None:
        """It listens where it says, and nowhere before or after."""
        server = self.server(10)
        self.assertIsNone(server.address)
        address = self.start(server)
        child = await self.child(address)
        await deferToThread(child.ask, 0)
        self.assertEqual((await deferToThread(child.reply)).content, self.store.content(0))
        await server.stop(1.0)
        self.assertIsNone(server.address)
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(Child, address)

    async def test_start_again(self) -> None:
        """It can be stopped, stopped again, and started again."""
        server = self.server(10)
        for _ in range(2):
            child = await self.child(self.start(server))
            await deferToThread(child.ask, 0)
            self.assertEqual((await deferToThread(child.reply)).content, self.store.content(0))
            await server.stop(1.0)
            await server.stop(1.0)

    async def test_address_taken(self) -> None:
        """An address that is taken cannot be had, and that server listens nowhere."""
        _, port = self.start(self.server())
        other = self.server(port=port)
        self.assertRaises(CannotListenError, other.start)
        self.assertIsNone(other.address)

    async def test_stop(self) -> None:
        """Stopping ends idle connections at once and busy ones after their piece, and takes no new ones meanwhile."""
        server = self.server(32 * MIB)
        address = self.start(server)
        idle, busy = await self.child(address), await self.child(address, receive_buffer=64 * 1024)
        await self.until(lambda: self.connections.connections == 2)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)
        stopped = server.stop(10.0)
        self.assertEqual(await deferToThread(idle.end), b"")
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(Child, address)
        self.assertFalse(stopped.called)
        self.assertTrue((await deferToThread(busy.end)).endswith(self.store.content(0)))
        busy.close()
        await stopped

    async def test_stop_in_time(self) -> None:
        """What is still under way after the time that it was given is aborted."""
        server = self.server(32 * MIB)
        busy = await self.child(self.start(server), receive_buffer=64 * 1024)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)
        await server.stop(0.2)
        with self.assertRaises(ConnectionResetError):
            await deferToThread(busy.end)

    async def test_stop_while_full(self) -> None:
        """A server that has stopped accepting because it is full stops all the same."""
        server = self.server(32 * MIB)
        self.connections.max_connections = 1
        busy = await self.child(self.start(server), receive_buffer=64 * 1024)
        await deferToThread(busy.ask, 0)
        await deferToThread(busy.receive, 1)
        stopped = server.stop(10.0)
        busy.close()
        await stopped
