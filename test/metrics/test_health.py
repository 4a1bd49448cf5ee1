"""The pages for probes, on a real socket."""

from __future__ import annotations

from typing import cast

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.interfaces import IServer
from dragonfly_vortex.metrics.health import HealthServer
from dragonfly_vortex.metrics.http import IHTTPReactor
from test.metrics.page import answered


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
