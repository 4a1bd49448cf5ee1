"""What the tests of downloads share: a directory, a clock that stands still, and parents played in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.events import DownloadedTask, DownloadEvent, PieceKept, Waiting
from dragonfly_vortex.interfaces import IDownloader, InThread, IPieceAnnouncer
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.output import OutputTarget
from dragonfly_vortex.wire import PieceKind
from test.task.parents import PlayedDownloader, PlayedParent

__all__ = ["CONTENT", "MIB", "DownloadTestCase", "at_once", "sha256"]

_T = TypeVar("_T")

MIB = 1024 * 1024
CONTENT = os.urandom(1000)


def sha256(content: bytes) -> str:
    """The ID of a task with that content."""
    return hashlib.sha256(content).hexdigest()


def at_once(function: Callable[[], _T], /) -> Deferred[_T]:
    """No thread at all: for what does not depend on there being one."""
    return execute(function)


class DownloadTestCase(SynchronousTestCase):
    """Downloads whose time stands still, into a directory of their own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.target = self.directory / "file"
        self.clock = Clock()
        self.events: list[DownloadEvent] = []
        self.on_event: Callable[[DownloadEvent], None] = self.events.append

    def play(self, *, is_held: bool = False, **parents: PlayedParent) -> PlayedDownloader:
        """Parents, by their addresses."""
        self.downloader = PlayedDownloader(parents, is_held=is_held)
        return self.downloader

    def download(
        self,
        content: bytes = CONTENT,
        *,
        overwrite: bool = False,
        concurrency: int = 4,
        in_thread: InThread = at_once,
        downloader: IDownloader | None = None,
        announcers: Mapping[str, IPieceAnnouncer] | None = None,
        retry: float = 0.0,
        task_id: str | None = None,
        digest: str | None = None,
    ) -> Deferred[DownloadedTask]:
        """Start a download of that content from all parents."""
        self.task = TaskDownload(
            self.clock,
            in_thread,
            downloader or self.downloader,
            kind=PieceKind.STANDARD,
            task_id=task_id or sha256(content),
            digest=digest,
            parents=[*self.downloader.parents, *self.downloader.parents],
            target=OutputTarget(self.target, in_thread, overwrite=overwrite),
            announcers=announcers,
            concurrent_piece_count=concurrency,
            retry=retry,
            on_event=self.on_event,
        )
        return self.task.start()

    @property
    def kept(self) -> list[PieceKept]:
        """The pieces that were reported, in order."""
        return [event for event in self.events if isinstance(event, PieceKept)]

    @property
    def waits(self) -> list[str]:
        """The lines about waits that were reported, in order."""
        return [event.text for event in self.events if isinstance(event, Waiting)]

    def names(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.directory))

    def assert_complete(self, started: Deferred[DownloadedTask], content: bytes = CONTENT) -> DownloadedTask:
        """Assert that a download has ended well, with that content and nothing else in the directory."""
        done = self.successResultOf(started)
        self.assertEqual((self.names(), self.target.read_bytes() == content), (["file"], True))
        self.assertEqual(done.content_length, len(content))
        return done

    def assert_failed(self, started: Deferred[DownloadedTask], error: type[Exception], *said: str) -> Exception:
        """Assert that a download has failed, has said this, and has left nothing."""
        failure = self.failureResultOf(started, error)
        for text in said:
            self.assertIn(text, str(failure.value))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return error("") if not isinstance(failure.value, error) else failure.value
