"""The status page over HTTP, on real sockets, with a status of the test's own."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyRequest

from dragonfly_vortex.metrics import http as metrics_http
from dragonfly_vortex.metrics import status_page
from dragonfly_vortex.metrics.http import IMetricsReactor, MetricsServer
from dragonfly_vortex.metrics.status_page import Audience, StatusPage

REACTOR = cast(IMetricsReactor, reactor)

LOCAL = IPv4Address("TCP", "127.0.0.1", 50_000)
REMOTE = IPv4Address("TCP", "192.0.2.7", 50_000)


class OwnStatus:
    """A status that a test changes."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {"peer": {"hostname": "here"}, "task/1": {"pieces": 0}}
        self.asked = 0
        self.watched: list[bool] = []

    def begin(self) -> None:
        self.watched.append(True)

    def end(self) -> None:
        self.watched.append(False)

    def sections(self) -> Mapping[str, object]:
        self.asked += 1
        return dict(self.values)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; the test's own timeout ends the wait."""
    while not condition():
        await deferLater(REACTOR, 0.01)


class PageTests(TestCase):
    """A server with the page."""

    timeout = 120

    def setUp(self) -> None:
        self.patch(status_page, "INTERVAL", 0.02)
        self.status = OwnStatus()
        self.server = self.make(Audience())

    def make(self, audience: Audience, ip: str = "127.0.0.1") -> MetricsServer:
        """A server that is stopped in the end."""
        page = StatusPage(REACTOR, self.status, audience)
        made = MetricsServer(REACTOR, tuple, ip=ip, port=0, status=page)
        self.addCleanup(made.stop, 0.0)
        return made

    def start(self) -> int:
        """Serve; the port."""
        return cast(IPv4Address, self.server.start()).port

    async def ask(
        self, port: int, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of an answer."""

        def exchange() -> tuple[int, http.client.HTTPMessage, bytes]:
            connection = http.client.HTTPConnection(host, port, timeout=120)
            try:
                connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
                response = connection.getresponse()
                return response.status, response.headers, response.read()
            finally:
                connection.close()

        return await deferToThread(exchange)

    async def watch(self, port: int, source: str = "127.0.0.1") -> Any:
        """Open a stream; the answer, which closes the connection when it is closed, without its body."""

        def open_stream() -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120, source_address=(source, 0))
            connection.request("GET", "/events", headers={"Connection": "close"})
            return connection.getresponse()

        response = await deferToThread(open_stream)
        self.addCleanup(response.close)
        return response

    async def event(self, stream: Any) -> dict[str, Any]:
        """The next event of a stream."""
        while True:
            line: bytes = await deferToThread(stream.readline)
            if not line:
                raise AssertionError("expected an event, got the end of the stream")
            if line.startswith(b"data: "):
                event: dict[str, Any] = json.loads(line[6:])
                return event

    async def test_files(self) -> None:
        """All files of the page are there, with their types; scripts and styles come from nowhere else."""
        port = self.start()
        for path, kind in (
            ("/", "text/html"), ("/status.css", "text/css"),
            ("/status.js", "text/javascript"), ("/status.svg", "image/svg+xml"),
        ):  # fmt: skip
            status, headers, body = await self.ask(port, path)
            self.assertEqual((status, str(headers["content-type"]).partition(";")[0]), (200, kind))
            self.assertTrue(body)
            policy = str(headers["content-security-policy"])
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertIsNone(headers["access-control-allow-origin"])
        self.assertEqual((await self.ask(port, "/metrics"))[0], 200)
        self.assertEqual(self.status.asked, 0)

    async def test_self_contained(self) -> None:
        """No file names another site, or has a script or style within the page."""
        port = self.start()
        for path in ("/", "/status.css", "/status.js"):
            _, _, body = await self.ask(port, path)
            text = body.decode().replace("http://www.w3.org/2000/svg", "")
            self.assertNotRegex(text, r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(")
        _, _, body = await self.ask(port, "/")
        self.assertEqual(re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", body.decode()), [])

    async def test_methods(self) -> None:
        """A page is for reading; a question about the stream opens none."""
        port = self.start()
        for path in ("/", "/events"):
            self.assertEqual((await self.ask(port, path, "POST"))[0], 405)
            with capturedLogs() as logged:
                self.assertEqual((await self.ask(port, path, "HEAD"))[::2], (200, b""))
            self.assertNotIn("HEAD", " ".join(str(formatEvent(event)) for event in logged))
        self.assertEqual(self.status.watched, [])

    async def test_events(self) -> None:
        """The first event has all sections, a later one those that have changed, and null for one that is gone."""
        stream = await self.watch(self.start())
        self.assertEqual(stream.getheader("content-type"), "text/event-stream")
        self.assertEqual(await self.event(stream), self.status.values)
        self.status.values["task/1"] = {"pieces": 1}
        self.assertEqual(await self.event(stream), {"task/1": {"pieces": 1}})
        del self.status.values["task/1"]
        self.assertEqual(await self.event(stream), {"task/1": None})

    async def test_quiet(self) -> None:
        """While nothing changes a line says now and then that the peer is there."""
        self.patch(status_page, "_KEPT_ALIVE", 0.05)
        stream = await self.watch(self.start())
        await self.event(stream)
        lines = [await deferToThread(stream.readline) for _ in range(3)]
        self.assertIn(b":\n", lines)

    async def test_later_watcher(self) -> None:
        """A browser that comes later has all sections at first, too."""
        port = self.start()
        first = await self.watch(port)
        await self.event(first)
        self.assertEqual(await self.event(await self.watch(port)), self.status.values)
        self.assertEqual(self.status.watched, [True])

    async def test_unwatched(self) -> None:
        """Nothing is asked before a browser watches, and nothing after the last one has gone."""
        port = self.start()
        self.assertEqual(self.status.asked, 0)
        streams = [await self.watch(port) for _ in range(2)]
        await self.event(streams[0])
        for stream in streams:
            stream.close()
        await until(lambda: self.status.watched == [True, False])
        asked = self.status.asked
        await deferLater(REACTOR, 0.1)
        self.assertEqual(self.status.asked, asked)
        await self.event(await self.watch(port))
        self.assertEqual(self.status.watched, [True, False, True])

    async def test_too_many(self) -> None:
        """One stream too many is refused, and has room when another one has ended."""
        self.patch(status_page, "MOST_STREAMS", 2)
        port = self.start()
        streams = [await self.watch(port) for _ in range(2)]
        status, headers, _ = await self.ask(port, "/events")
        self.assertEqual((status, headers["retry-after"]), (503, "10"))
        streams[0].close()

        async def has_room() -> bool:
            stream = await self.watch(port)
            return bool(stream.status == 200)

        while not await has_room():
            await deferLater(REACTOR, 0.01)

    async def test_many_of_one_address(self) -> None:
        """One address has at most half of the streams that others leave; another one still gets a stream."""
        self.patch(status_page, "share_of", lambda ip: ip)  # as if they were of other machines
        port = self.start()
        for source, statuses in (("127.0.0.2", [200] * 4 + [503]), ("127.0.0.3", [200] * 2 + [503])):
            self.assertEqual([(await self.watch(port, source)).status for _ in statuses], statuses)
        self.assertEqual((await self.watch(port, "127.0.0.4")).status, 200)

    async def test_unread(self) -> None:
        """A browser that does not read has one event waiting for it at most, and loses its connection in the end."""
        self.patch(status_page, "_PATIENCE", 0.5)
        self.status.values = {"large": "x" * 8_000_000}  # more than the kernel holds
        stream = await self.watch(self.start())
        await until(lambda: self.status.asked)
        await deferLater(REACTOR, 0.1)
        self.assertEqual(self.status.asked, 1)
        await until(lambda: self.status.watched == [True, False])
        with self.assertRaises((ConnectionError, http.client.IncompleteRead)):
            await deferToThread(stream.read)

    async def test_slow_reader(self) -> None:
        """A browser that reads late has the newest sections then, without those in between."""
        self.status.values = {"large": 8_000_000 * "x", "count": 0}
        stream = await self.watch(self.start())
        await until(lambda: self.status.asked)
        for count in range(1, 4):
            self.status.values["count"] = count
            await deferLater(REACTOR, 0.05)
        self.assertEqual((await self.event(stream))["count"], 0)
        self.assertEqual(await self.event(stream), {"count": 3})

    async def test_no_room_made(self) -> None:
        """Where there are as many connections as there may be, a stream is not the one that makes room."""
        self.patch(metrics_http, "_MAX_CONNECTIONS", 2)
        port = self.start()
        stream = await self.watch(port)
        await self.event(stream)
        for _ in range(4):
            other = socket.create_connection(("127.0.0.1", port))
            self.addCleanup(other.close)
        self.assertEqual((await self.ask(port, "/metrics"))[0], 200)
        self.status.values["more"] = 1
        self.assertEqual(await self.event(stream), {"more": 1})

    async def test_defect(self) -> None:
        """A status that cannot be collected is in the log, and the stream goes on when it can be again."""
        stream = await self.watch(self.start())
        await self.event(stream)
        self.status.values["peer"] = object()
        await until(lambda: self.flushLoggedErrors(TypeError))
        self.status.values["peer"] = "back"
        self.assertEqual(await self.event(stream), {"peer": "back"})
        self.flushLoggedErrors(TypeError)

    async def test_stop(self) -> None:
        """When the server stops, the streams end."""
        stream = await self.watch(self.start())
        await self.event(stream)
        await self.server.stop(0.0)
        self.assertEqual(self.status.watched, [True, False])
        with self.assertRaises((ConnectionError, http.client.IncompleteRead)):
            await deferToThread(stream.read)

    async def test_foreign_name(self) -> None:
        """A name that a web site has made to lead here, and a page of another site, get nothing."""
        port = self.start()
        for path in ("/", "/status.js", "/events"):
            status, _, body = await self.ask(port, path, Host="evil.example")
            self.assertEqual(status, 403)
            self.assertIn(b"metrics.status.hosts", body)
            status, _, _ = await self.ask(port, path, Origin="http://evil.example")
            self.assertEqual(status, 403)
        self.assertEqual(self.status.watched, [])
        self.assertEqual((await self.ask(port, "/metrics", Host="peer-1.example"))[0], 200)

    async def test_another_machine(self) -> None:
        """A client with another address than one of loopback is refused, though the port is open to all."""
        address = own_address()
        if address is None:
            self.skipTest("this machine has no address but those of loopback")
        self.server = self.make(Audience(), ip="0.0.0.0")
        port = self.start()
        for path in ("/", "/events"):
            status, _, body = await self.ask(port, path, host=address)
            self.assertEqual(status, 403)
            self.assertIn(b"metrics.status.allow_remote", body)
        self.assertEqual((await self.ask(port, "/metrics", host=address))[0], 200)
        self.assertEqual((await self.ask(port, "/"))[0], 200)


def own_address() -> str | None:
    """An address of this machine that is not one of loopback; None where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        address = str(asking.getsockname()[0])
    return None if address.startswith("127.") else address


class AudienceTests(SynchronousTestCase):
    """Who may read the page, by request."""

    def refused(self, audience: Audience, client: IAddress, path: bytes = b"/events", **headers: str) -> bool:
        """Whether a request is refused."""
        request = DummyRequest([])
        request.path = path  # type: ignore[attr-defined]  # it is set when a request is read
        request.client = client
        for name, value in headers.items():
            request.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
        return bool(audience.refusal(cast(Request, request)))

    def test_loopback(self) -> None:
        """Every address of loopback is one, also in the form of IPv6; no other one is."""
        for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertFalse(self.refused(Audience(), IPv6Address("TCP", host, 1), host="localhost:4002"))
        for host in ("192.0.2.7", "10.0.0.1", "0.0.0.0", "::", "fe80::1%eth0", "::ffff:10.0.0.1", ""):
            self.assertTrue(self.refused(Audience(), IPv6Address("TCP", host, 1), host="localhost:4002"), host)

    def test_names(self) -> None:
        """From this machine a name of loopback is good, with any port: a tunnel may have another one."""
        for name in ("localhost", "LOCALHOST:8080", "127.0.0.1:4002", "[::1]:4002"):
            self.assertFalse(self.refused(Audience(), LOCAL, host=name), name)
        for name in ("evil.example", "192.0.2.1:4002", "localhost.evil.example", "[::1", "", "a@localhost:x"):
            self.assertTrue(self.refused(Audience(), LOCAL, host=name), name)
        self.assertTrue(self.refused(Audience(), LOCAL))

    def test_remote(self) -> None:
        """Where other machines may read it, they call it by an address, or by a name that is configured."""
        audience = Audience(allow_remote=True, hosts=frozenset({"Peer-1.example"}))
        for name in ("192.0.2.1:4002", "[2001:db8::1]:4002", "peer-1.EXAMPLE:4002", "localhost:4002"):
            self.assertFalse(self.refused(audience, REMOTE, host=name), name)
        self.assertTrue(self.refused(audience, REMOTE, host="evil.example"))
        self.assertTrue(self.refused(Audience(hosts=frozenset({"peer-1"})), LOCAL, host="peer-1"))

    def test_origins(self) -> None:
        """A page of another origin gets nothing, another port of the same machine included."""
        for origin in ("http://evil.example", "null", "http://localhost:3000", "https://localhost:4002"):
            self.assertTrue(self.refused(Audience(), LOCAL, host="localhost:4002", origin=origin), origin)
        self.assertFalse(self.refused(Audience(), LOCAL, host="localhost:4002", origin="http://localhost:4002"))

    def test_sites(self) -> None:
        """Of what another site asks for, only a link that is followed to the page is good."""
        for site in ("cross-site", "same-site"):
            for path, mode in (
                (b"/events", "cors"),
                (b"/events", "navigate"),
                (b"/", "no-cors"),
                (b"/status.js", "cors"),
            ):
                self.assertTrue(
                    self.refused(
                        Audience(), LOCAL, path, host="localhost:4002", sec_fetch_site=site, sec_fetch_mode=mode
                    )
                )
            self.assertFalse(
                self.refused(
                    Audience(), LOCAL, b"/", host="localhost:4002", sec_fetch_site=site, sec_fetch_mode="navigate"
                )
            )
        for site in ("same-origin", "none"):
            self.assertFalse(self.refused(Audience(), LOCAL, host="localhost:4002", sec_fetch_site=site))
