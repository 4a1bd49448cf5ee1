"""The page over HTTP, on a real socket."""

from __future__ import annotations

import gc
import http.client
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.internet.testing import EventLoggingObserver
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics import http as metrics_http
from dragonfly_vortex.metrics.http import HealthServer, IHTTPReactor, IMetricsReactor, MetricsServer
from dragonfly_vortex.metrics.instruments import CONTENT_TYPE, Family, family
from test.metrics.page import answered

REACTOR = cast(IMetricsReactor, reactor)


class ServerTests(TestCase):
    """A server with one metric, which says how often it was collected."""

    timeout = 120

    def setUp(self) -> None:
        self.collected = 0
        self.threads: set[str] = set()
        self.wait = threading.Event()
        self.wait.set()
        self.observer = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        self.server = self.make()

    def make(self, port: int = 0) -> MetricsServer:
        """A server that is stopped in the end."""
        made = MetricsServer(REACTOR, self.collect, ip="127.0.0.1", port=port)
        self.addCleanup(made.stop, 0.0)
        return made

    def collect(self) -> Iterator[Family]:
        """The one metric."""
        self.threads.add(threading.current_thread().name)
        self.wait.wait(120)
        self.collected += 1
        yield family("collected_total", "counter", "How often.", self.collected)

    def start(self) -> int:
        """Serve; the port."""
        return cast(IPv4Address, self.server.start()).port

    async def ask(
        self, connection: http.client.HTTPConnection, method: str = "GET", path: str = "/metrics", body: bytes = b""
    ) -> tuple[int, str | None, bytes]:
        """Status, content type and body of an answer."""

        def exchange() -> tuple[int, str | None, bytes]:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.getheader("content-type"), response.read()

        return await deferToThread(exchange)

    def connect(self, port: int) -> http.client.HTTPConnection:
        """A connection, made when it is used, that is closed in the end."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.addCleanup(connection.close)
        return connection

    def test_interface(self) -> None:
        """It is a server."""
        self.assertTrue(verifyObject(IServer, self.server))

    async def test_page(self) -> None:
        """Each request of a connection has a page that was collected for it, elsewhere than in the reactor's thread."""
        connection = self.connect(self.start())
        for number in (b"1", b"2"):
            status, kind, page = await self.ask(connection)
            self.assertEqual((status, kind), (200, CONTENT_TYPE))
            self.assertEqual(page.splitlines()[-1], b"collected_total " + number)
        self.assertNotIn(threading.main_thread().name, self.threads)
        said = [formatEvent(event) for event in self.observer]
        self.assertEqual([line for line in said if line and "GET" in line], [])

    async def test_nothing_else(self) -> None:
        """No other path exists, and no request resets a metric; bodies are not kept, in no file either."""
        self.patch(tempfile, "tempdir", "/nonexistent")
        connection = self.connect(self.start())
        for path in ("/", "/metrics/", "/metrics/more", "/metric"):
            self.assertEqual((await self.ask(connection, path=path))[0], 404, path)
        for method in ("DELETE", "POST", "PUT"):
            status, _, _ = await self.ask(connection, method, body=bytes(300_000))
            self.assertIn(status, (405, 501), method)
        self.assertEqual(self.collected, 0)
        self.assertEqual((await self.ask(connection, body=bytes(300_000)))[0], 200)

    async def test_no_http(self) -> None:
        """What cannot be HTTP, as a request of Vortex, is answered at once, and its connection ends."""
        with socket.create_connection(("127.0.0.1", self.start()), timeout=120) as connection:
            connection.sendall(bytes(3))
            with connection.makefile("rb") as answer:
                self.assertRegex(await deferToThread(answer.read), rb"\AHTTP/1.1 400 ")

    async def test_endless_length(self) -> None:
        """A length of thousands of digits, which Twisted cannot read, ends its connection; the log has no error."""
        with socket.create_connection(("127.0.0.1", self.start()), timeout=120) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n")
            with self.assertRaises(ConnectionResetError):
                await deferToThread(connection.recv, 1)

    async def test_defect(self) -> None:
        """What goes wrong is in the log, and no word of it on the page."""
        self.patch(self, "wait", None)
        connection = self.connect(self.start())
        status, _, page = await self.ask(connection)
        self.assertEqual((status, page), (500, b""))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    async def test_stop_while_the_disk_hangs(self) -> None:
        """A page for which the disk does not answer keeps neither the server nor the process from ending."""
        self.wait.clear()
        self.addCleanup(self.wait.set)
        asking = Deferred.fromCoroutine(self.ask(self.connect(self.start())))
        while not self.threads:
            await deferLater(REACTOR, 0.01)
        await self.server.stop(0.0)
        with self.assertRaises(ConnectionError):
            await asking
        busy = [thread for thread in threading.enumerate() if "metrics" in thread.name]
        self.assertEqual([thread.daemon for thread in busy], [True])

    async def test_one_thread(self) -> None:
        """While a disk does not answer, one thread waits for it, however many ask."""
        self.wait.clear()
        port = self.start()
        asking = [self.ask(self.connect(port)) for _ in range(4)]
        pages = gatherResults([Deferred.fromCoroutine(one) for one in asking])
        while not self.threads:
            await deferLater(REACTOR, 0.01)
        await deferLater(REACTOR, 0.1)
        self.assertEqual(len(self.threads), 1)
        self.wait.set()
        self.assertEqual([status for status, _, _ in await pages], [200] * 4)

    async def test_gone(self) -> None:
        """For clients that have disconnected before their turn nothing is collected."""
        self.wait.clear()
        port = self.start()
        for waiting in range(5):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
                while not self.threads or len(self.server._page._one_at_a_time.waiting) < waiting:
                    await deferLater(REACTOR, 0.01)
        for _ in range(5):  # turns of the reactor, in which it hears of the last one's end
            await deferLater(REACTOR, 0.01)
        self.wait.set()
        await self.ask(self.connect(port))
        self.assertEqual(self.collected, 2)

    async def test_full(self) -> None:
        """Where there are as many connections as there may be, the oldest makes room: no client can shut others out."""
        self.patch(metrics_http, "_MAX_CONNECTIONS", 2)
        port = self.start()
        one, two, three = self.connect(port), self.connect(port), self.connect(port)
        for each in (one, two, three, two, three):
            self.assertEqual((await self.ask(each))[0], 200)
        with self.assertRaises((http.client.RemoteDisconnected, ConnectionError)):
            await self.ask(one)

    async def test_many_at_once(self) -> None:
        """Of many connections that come in one turn of the reactor, no more stay than there may be."""
        self.patch(metrics_http, "_MAX_CONNECTIONS", 2)
        port = self.start()
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
        for each in connections:
            self.addCleanup(each.close)
            each.setblocking(False)
        for each in connections[:-2]:
            each.setblocking(True)
            with self.assertRaises(ConnectionError):
                await deferToThread(each.recv, 1)
        for each in connections[-2:]:
            self.assertRaises(BlockingIOError, each.recv, 1)

    async def test_stop(self) -> None:
        """When it has stopped, no client is connected or can connect; it can be started again."""
        port = self.start()
        self.assertEqual(self.server.address, IPv4Address("TCP", "127.0.0.1", port))
        connection = self.connect(port)
        await self.ask(connection)
        await self.server.stop(0.0)
        self.assertIsNone(self.server.address)
        with self.assertRaises(ConnectionError):
            await self.ask(connection)
        with self.assertRaises(ConnectionRefusedError):
            await self.ask(self.connect(port))
        self.assertEqual((await self.ask(self.connect(self.start())))[0], 200)

    async def test_stop_while_collecting(self) -> None:
        """A page that is still collected is not waited for."""
        self.wait.clear()
        port = self.start()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
            while not self.threads:
                await deferLater(REACTOR, 0.01)
            await self.server.stop(0.0)
            self.wait.set()
            with self.assertRaises(ConnectionResetError):
                await deferToThread(connection.recv, 1)
        while not self.collected:
            await deferLater(REACTOR, 0.01)
        await deferLater(REACTOR, 0.05)
        gc.collect()  # an unhandled error is in the log then, and fails the test

    def test_address_taken(self) -> None:
        """An address that is taken cannot be had."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = self.make(other.getsockname()[1])
            self.assertRaises(CannotListenError, taken.start)
        self.assertIsNone(taken.address)


class HealthTests(TestCase):
    """A server for a peer of which the test says what it lacks."""

    timeout = 120

    def setUp(self) -> None:
        self.missing: list[str] = []
        self.server = HealthServer(cast(IHTTPReactor, reactor), lambda: self.missing, ip="127.0.0.1", port=0)
        self.addCleanup(self.server.stop, 0.0)
        self.port = cast(IPv4Address, self.server.start()).port

    async def ask(self, page: str, method: str = "GET") -> tuple[int, str]:
        """Status and text of an answer."""
        return await deferToThread(answered, self.port, page, method)

    def test_interface(self) -> None:
        """It is a server."""
        self.assertTrue(verifyObject(IServer, self.server))

    async def test_ready(self) -> None:
        """A peer that lacks nothing is healthy and ready."""
        for page in ("/healthy", "/readiness"):
            self.assertEqual(await self.ask(page), (200, "ok\n"))
            self.assertEqual(await self.ask(page, "HEAD"), (200, ""))

    async def test_quiet_head(self) -> None:
        """A probe by HEAD writes no line to the log."""
        with capturedLogs() as logged:
            await self.ask("/healthy", "HEAD")
        self.assertNotIn("HEAD", " ".join(str(formatEvent(event)) for event in logged))

    async def test_not_ready(self) -> None:
        """A peer that lacks something is healthy, not ready, and says what it lacks, each time anew."""
        self.missing = ["the storage is not open", "the local door is not open"]
        self.assertEqual(await self.ask("/healthy"), (200, "ok\n"))
        self.assertEqual(await self.ask("/readiness"), (503, "the storage is not open\nthe local door is not open\n"))
        self.missing = []
        self.assertEqual(await self.ask("/readiness"), (200, "ok\n"))

    async def test_nothing_else(self) -> None:
        """No other page exists, and no other method."""
        for page in ("/", "/healthy/", "/readiness/more", "/metrics"):
            self.assertEqual((await self.ask(page))[0], 404, page)
        for method in ("DELETE", "POST", "PUT"):
            self.assertIn((await self.ask("/healthy", method))[0], (405, 501), method)
