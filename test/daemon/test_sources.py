"""Tests of a running peer that asks sources what they have."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from dragonfly_vortex.config import Config, DownloadConfig
from dragonfly_vortex.errors import NoSourceKnown, PoolClosed, SourceRefused
from dragonfly_vortex.model import BackToSource, Origin, TaskRequest
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


class ListTests(DownloadsTestCase):
    """The files of a repository, of which ``dfget -r`` makes downloads."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        self.hub = ScriptedOrigin(b'{"siblings": [{"rfilename": "one", "size": 3}]}')
        self.hub.start(peer_reactor)
        self.addCleanup(self.hub.stop)

    def repository(self, *, is_foreign: bool) -> TaskRequest:
        """A request for the files of a repository of the hub."""
        origin = Origin(url="hf://owner/repository/", endpoint=self.hub.url("").rstrip("/"))
        return TaskRequest(kind=PieceKind.STANDARD, task_id="", origin=origin, is_foreign=is_foreign)

    async def test_list(self) -> None:
        """A hub says which files there are."""
        files = await self.downloads().sources.list_files(self.repository(is_foreign=False))
        self.assertEqual([(each.url, each.content_length) for each in files], [("hf://owner/repository/one", 3)])

    async def test_never(self) -> None:
        """A peer that asks no source asks no hub either."""
        downloads = self.downloads()
        downloads.reload(Config(download=DownloadConfig(back_to_source=BackToSource.NEVER)))
        listing = downloads.sources.list_files(self.repository(is_foreign=False))
        error = await self.assertFailure(listing, NoSourceKnown)
        self.assertIn("download.back_to_source", str(error))
        self.assertEqual(self.hub.asked, [])

    async def test_stranger(self) -> None:
        """For a stranger no hub is asked that only this machine can reach."""
        listing = self.downloads().sources.list_files(self.repository(is_foreign=True))
        await self.assertFailure(listing, SourceRefused)
        self.assertEqual(self.hub.asked, [])
