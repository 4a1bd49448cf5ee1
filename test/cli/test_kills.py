"""
Downloads that are killed at random moments, again and again: nothing that was committed is lost or fetched again.

``DFVORTEX_KILLS`` says how many kills each test makes, ``DFVORTEX_KILLS_SEED`` which.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.errors import NotStored
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.remover import remove_task
from dragonfly_vortex.testing.scripted_parent import Pause, ScriptedParent, Send, Step
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceContent, PieceKind, PieceMetadata, PieceRequest
from test.processes import PROGRAMS, dfvortex, start, write_config

KILLS = int(os.environ.get("DFVORTEX_KILLS", "4"))
SEED = int(os.environ.get("DFVORTEX_KILLS_SEED", "1"))

_PIECE_LENGTH = 20_000
_COUNT = 40


class KillTests(TestCase):
    """One task, from a parent that counts what it is asked for."""

    timeout = 300 + 30 * KILLS

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.output = self.directory / "out"
        self.content = random.Random(5).randbytes((_COUNT - 1) * _PIECE_LENGTH + 1)
        self.task_id = hashlib.sha256(self.content).hexdigest()
        self.parent = ScriptedParent(IReactorTCP(reactor), self.answer)
        self.parent.start()
        self.addCleanup(self.parent.stop)
        self.random = random.Random(SEED)

    def answer(self, request: PieceRequest) -> Iterable[Step]:
        """A piece, after a moment."""
        offset = request.number * _PIECE_LENGTH
        data = self.content[offset : offset + _PIECE_LENGTH]
        if not data:
            missing = ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text="no such piece")
            return (Send(missing.to_bytes()),)
        metadata = PieceMetadata(
            number=request.number, offset=offset, length=len(data), digest=f"crc32:{zlib.crc32(data)}"
        )
        reply = PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=metadata)
        return (Pause(0.005), Send(reply.to_bytes() + data))

    def command(self, *target: str) -> tuple[str, ...]:
        """The download."""
        return ("download", self.task_id, "--parent", self.parent.address, "--concurrency", "4", "--quiet", *target)

    async def killed_at_random(
        self, target: tuple[str, ...], committed: Callable[[], set[int]], restart: Callable[[int], object]
    ) -> None:
        """
        Kill a download at random moments, and in the end let it finish.

        :param target: where it goes.
        :param committed: gives the pieces that are there to stay.
        :param restart: checks and deletes what a download has finished, after that many kills.
        """
        kills = 0
        while kills < KILLS:
            there, asked_before = committed(), len(self.parent.requests)
            moment = self.random.randrange(16)
            process = start([PROGRAMS / "dfvortex", *self.command(*target)], cwd=self.directory)
            while process.poll() is None and len(self.parent.requests) < asked_before + moment:
                await deferLater(IReactorTime(reactor), 0.002)
            await deferLater(IReactorTime(reactor), self.random.random() * 0.05)
            process.kill()
            status = await deferToThread(process.wait)
            asked = {request.number for request in self.parent.requests[asked_before:]}
            self.assertEqual(asked & there, set(), f"kill {kills}")
            if status == -signal.SIGKILL:
                kills += 1
            else:
                self.assertEqual(status, 0)
            if status == 0 or self.output.exists():
                restart(kills)
        there, asked_before = committed(), len(self.parent.requests)
        ran = await deferToThread(dfvortex, *self.command(*target), directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
        self.assertEqual({request.number for request in self.parent.requests[asked_before:]} & there, set())

    def kept(self) -> set[int]:
        """The pieces that the journal beside the output names."""
        pieces: set[int] = set()
        for journal in self.directory.glob(".out.*.dfvortex-journal"):
            if not journal.with_name(journal.name.replace("-journal", "-kept")).exists():
                continue  # the file has been published
            for line in journal.read_bytes().split(b"\n")[:-1]:
                entry = json.loads(line)
                pieces |= {entry["piece"][0]} if "piece" in entry else set()
                pieces -= set(entry.get("dropped", ()))
        return pieces

    def stored(self) -> set[int]:
        """The pieces that the catalog names."""
        if not (self.directory / "data" / "catalog.sqlite3").exists():
            return set()
        with contextlib.suppress(NotStored), Catalog(self.directory / "data", Access.READ) as catalog:
            return {each.metadata.number for each in catalog.get_pieces(PieceKind.STANDARD, self.task_id)}
        return set()

    async def test_output(self) -> None:
        """A download to a file."""

        def restart(kills: int) -> None:
            self.assertTrue(self.output.read_bytes() == self.content, f"kill {kills}")
            self.output.unlink()

        await self.killed_at_random(("-O", "out"), self.kept, restart)
        self.assertTrue(self.output.read_bytes() == self.content)
        left = sorted(each.name for each in self.directory.iterdir())
        self.assertEqual(left, ["out", "tap.yaml"])

    async def test_store(self) -> None:
        """A download into the storage."""

        def restart(kills: int) -> None:
            self.assertEqual(self.stored(), set(range(_COUNT)), f"kill {kills}")
            remove_task(self.directory / "data", PieceKind.STANDARD, self.task_id)

        await self.killed_at_random(("--store",), self.stored, restart)
        self.assertEqual(self.stored(), set(range(_COUNT)))
        ran = await deferToThread(dfvortex, "verify", "--quiet", directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "", ""))
