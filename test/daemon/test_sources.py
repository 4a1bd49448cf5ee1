"""Tests of a running peer that asks sources what they have."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from dragonfly_vortex.errors import PoolClosed
from dragonfly_vortex.model import Origin, TaskRequest
from dragonfly_vortex.testing.scripted_origin import ScriptedOrigin, hang
from dragonfly_vortex.wire import PieceKind
from test.daemon.test_downloads import DownloadsTestCase, peer_reactor


def request_for(origin: ScriptedOrigin) -> TaskRequest:
    """A request for the content of a source."""
    return TaskRequest(kind=PieceKind.STANDARD, task_id="", origin=Origin(url=origin.url()))


class AskTests(DownloadsTestCase):
    """Questions before a download."""

    async def test_answer(self) -> None:
        """A source says how long its content is."""
        origin = ScriptedOrigin(self.content)
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        downloads = self.downloads()
        stat = await downloads.sources.ask(request_for(origin))
        self.assertEqual(stat.content_length, len(self.content))

    async def test_stop_while_asking(self) -> None:
        """The end of the peer does not wait for a source that says nothing, which is asked no more."""
        origin = ScriptedOrigin(self.content, always=hang)
        origin.start(peer_reactor)
        self.addCleanup(origin.stop)
        downloads = self.downloads()
        asking = downloads.sources.ask(request_for(origin))
        await origin.until_asked(1)
        await downloads.stop()
        await self.assertFailure(asking, CancelledError)
        again = downloads.sources.ask(request_for(origin))
        await self.assertFailure(again, PoolClosed)
