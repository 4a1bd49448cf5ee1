"""``dfvortex download --store`` as processes: pieces are served at once, shared, and survive ``kill -9``."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.directories import locked
from dragonfly_vortex.testing.scripted_parent import Pause, ScriptedParent, Send, Step
from dragonfly_vortex.wire import ErrorCode, ErrorReply, PieceContent, PieceKind, PieceMetadata, PieceRequest
from test.processes import PROGRAMS, Child, Daemon, dfvortex, start, wait_until_open, write_config

_PIECE_LENGTH = 50_000
_COUNT = 21

_IMPATIENT = """
import sys
from dragonfly_vortex.cli import download, main
download._PATIENCE = 0.1
sys.exit(main())
"""

_HANGING = """
import sys, time
from dragonfly_vortex.cli import download, main
from dragonfly_vortex.task import file_hash

def hang(*arguments):
    print("hangs", flush=True)
    time.sleep(1000)

download._PATIENCE = 0.1
file_hash.read_exactly = hang
sys.exit(main())
"""

_ROUNDS = int(os.environ.get("DFVORTEX_ROUNDS", "1"))
"""How often processes are frozen at random."""

_QUICK = """
import sys
from dragonfly_vortex.cli import main
from dragonfly_vortex.storage import piece_locks
piece_locks.TAKE_OVER_AFTER = 2.0
sys.exit(main())
"""
"""The command, with another time after which it takes over what a frozen process is fetching."""


class StoreTests(TestCase):
    """One task, from a parent that takes its time and counts."""

    timeout = 300

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory)
        self.content = random.Random(5).randbytes((_COUNT - 1) * _PIECE_LENGTH + 1)
        self.task_id = hashlib.sha256(self.content).hexdigest()
        self.seconds = 0.0
        self.processes: list[subprocess.Popen[str]] = []
        self.parent = ScriptedParent(IReactorTCP(reactor), self.answer)
        self.parent.start()
        self.addCleanup(self.parent.stop)

    def answer(self, request: PieceRequest) -> Iterable[Step]:
        """A piece, after a while."""
        start = request.number * _PIECE_LENGTH
        data = self.content[start : start + _PIECE_LENGTH]
        if not data:
            missing = ErrorReply(packet_id=request.packet_id, code=ErrorCode.NOT_FOUND, text="no such piece")
            return (Send(missing.to_bytes()),)
        metadata = PieceMetadata(
            number=request.number, offset=start, length=len(data), digest=f"crc32:{zlib.crc32(data)}"
        )
        reply = PieceContent(packet_id=request.packet_id, kind=request.kind, metadata=metadata)
        return (Pause(self.seconds), Send(reply.to_bytes() + data))

    def command(self, *options: str | Path) -> list[str | Path]:
        """The command that puts the task into the storage."""
        return ["download", self.task_id, "--store", "--parent", self.parent.address, *options]

    def start(self, *options: str | Path) -> subprocess.Popen[str]:
        """Start it as a process."""
        process = start(
            [PROGRAMS / "dfvortex", *self.command(*options)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.processes.append(process)
        return process

    def start_quick(self, *options: str | Path) -> subprocess.Popen[str]:
        """Start it as a process that takes pieces over soon."""
        process = subprocess.Popen(
            [sys.executable, "-c", _QUICK, *self.command(*options)],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.processes.append(process)
        return process

    async def assert_sound(self) -> None:
        """Assert that the task is in the storage, whole, and that nothing is left of the claims."""
        ran = await deferToThread(dfvortex, "verify", self.task_id, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)
        await self.assert_stored()
        self.assertEqual([path for path in (self.directory / "data" / "claims").rglob("*") if path.is_file()], [])

    async def end(self, process: subprocess.Popen[str]) -> None:
        """Wait for the good end of a process."""
        out, err = await deferToThread(process.communicate)
        self.assertEqual((process.returncode, err), (0, ""), out)

    async def until_asked(self, count: int) -> None:
        """Wait until the parent has been asked so often, unless a process fails before."""
        while len(self.parent.requests) < count:
            for process in self.processes:
                if (process.poll() or 0) > 0:
                    raise self.failureException(process.communicate())
            await deferLater(IReactorTime(reactor), 0.01)

    async def until_there(self, number: int) -> None:
        """Wait until the storage has a piece: the disk decides when a piece that has arrived is committed."""
        while number not in self.there():
            await deferLater(IReactorTime(reactor), 0.01)

    def asked(self) -> Counter[int]:
        """How often each piece was asked for."""
        return Counter(request.number for request in self.parent.requests if request.number < _COUNT)

    def there(self) -> set[int]:
        """The pieces that the storage has."""
        with Catalog(self.directory / "data", Access.READ) as catalog:
            return {piece.metadata.number for piece in catalog.get_pieces(PieceKind.STANDARD, self.task_id)}

    async def assert_stored(self) -> None:
        """Assert that the task is in the storage, whole."""
        target = self.directory / "exported"
        ran = await deferToThread(
            dfvortex, "export", self.task_id, "--output", target, "--overwrite", directory=self.directory
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertTrue(target.read_bytes() == self.content)

    async def test_served_at_once(self) -> None:
        """
        The running daemon serves each piece as soon as it has arrived, and a second child gets from there what is
        there, and the rest from the slow parent.
        """
        self.seconds = 0.3
        with Daemon(self.directory) as daemon:
            first = self.start("--concurrency", "1")
            await self.until_asked(6)
            await self.until_there(3)
            self.assertLess(self.asked().total(), _COUNT - 4)
            with Child(daemon.address) as child:
                child.ask(self.task_id, 3)
                self.assertIsInstance(child.next_event(), PieceContent)
                self.assertEqual(child.content(), self.content[3 * _PIECE_LENGTH : 4 * _PIECE_LENGTH])
            ran = await deferToThread(dfvortex, "stat", self.task_id, directory=self.directory)
            self.assertRegex(ran.stdout, r"bytes: +unknown\n(.*\n)*pieces: +\d+ of unknown, 0 damaged")
            await self.until_asked(12)  # so that the daemon has something to give, however soon a program starts
            output = self.directory / "second"
            second = await deferToThread(
                dfvortex,
                *("download", self.task_id, "--parent", daemon.parent, "--parent", self.parent.address),
                *("--concurrency", "2", "--output", output),
                directory=self.directory,
            )
            self.assertEqual((second.returncode, second.stderr), (0, ""))
            self.assertTrue(output.read_bytes() == self.content)
            await self.end(first)
        self.assertLess(self.asked().total(), 2 * _COUNT - 4)
        await self.assert_stored()

    async def test_two_at_once(self) -> None:
        """Two downloads into one storage fetch every piece once in sum."""
        self.seconds = 0.1
        processes = [self.start(), self.start()]
        for process in processes:
            await self.end(process)
        self.assertEqual(self.asked(), Counter(range(_COUNT)))
        await self.assert_stored()

    async def test_killed(self) -> None:
        """With one of two killed in the middle the other finishes, and fetches nothing that was there again."""
        self.seconds = 0.5
        first = self.start("--concurrency", "2")
        await self.until_asked(5)
        second = self.start("--concurrency", "2")
        await self.until_asked(9)
        first.kill()
        await deferToThread(first.wait)
        there, before = self.there(), len(self.parent.requests)
        await self.end(second)
        self.assertEqual(set(self.asked()), set(range(_COUNT)))
        self.assertEqual({request.number for request in self.parent.requests[before:]} & there, set())
        await self.assert_stored()

    async def test_takes_over(self) -> None:
        """A waiter takes over when the one that fetches is killed, long before it gives up for want of progress."""
        self.seconds = 60.0
        first = self.start()
        await self.until_asked(1)
        # It would fail for want of progress later than this test.
        second = self.start("--retry", "3600")
        claims = self.directory / "data" / "claims" / "tasks" / self.task_id
        await deferToThread(wait_until_open, second.pid, claims)
        self.seconds = 0.0
        first.kill()
        await self.end(second)
        self.assertEqual(self.asked()[0], 2)
        await self.assert_stored()

    async def test_resumes(self) -> None:
        """After a kill what is there is not fetched again."""
        self.seconds = 0.2
        first = self.start("--concurrency", "1")
        await self.until_asked(8)
        first.kill()
        await deferToThread(first.wait)
        there = self.there()
        self.assertGreater(len(there), 0)
        before = len(self.parent.requests)
        self.seconds = 0.0
        await self.end(self.start())
        again = {request.number for request in self.parent.requests[before:] if request.number < _COUNT}
        self.assertEqual(again, set(range(_COUNT)) - there)
        await self.assert_stored()

    async def test_prefix(self) -> None:
        """The beginning of the ID is enough for a task of which the storage has a part, and only for such a one."""
        prefix = self.task_id[:10]
        command = ["download", prefix, "--store", "--parent", self.parent.address]
        ran = await deferToThread(dfvortex, *command, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, len(ran.stderr.splitlines())), (2, "", 1))
        self.assertIn(f"got '{prefix}'", ran.stderr)
        self.seconds = 0.2
        first = self.start("--concurrency", "1")
        await self.until_asked(4)
        first.kill()
        self.seconds = 0.0
        ran = await deferToThread(dfvortex, *command, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn(f"sha256:{self.task_id}", ran.stdout)
        await self.assert_stored()

    async def test_hard_link(self) -> None:
        """With ``--force-hard-link`` the output is the storage's file; without a storage there is nothing to link."""
        output = self.directory / "output"
        await self.end(self.start("--output", output, "--force-hard-link"))
        (stored,) = (self.directory / "data" / "content").rglob(self.task_id)
        self.assertTrue(output.samefile(stored))
        for target in (("--store",), ("--output", "other"), ("--store", "--output", "-")):
            ran = await deferToThread(
                dfvortex,
                *("download", self.task_id, "--parent", self.parent.address, "--force-hard-link", *target),
                directory=self.directory,
            )
            self.assertEqual((ran.returncode, ran.stdout), (2, ""))
            self.assertIn("expected --force-hard-link with --store and the --output of a file", ran.stderr)

    async def test_output_too(self) -> None:
        """With an output as well, the task is in both, and was fetched once; an output that exists stops it before."""
        output = self.directory / "output"
        await self.end(self.start("--output", output))
        self.assertTrue(output.read_bytes() == self.content)
        await self.assert_stored()
        self.assertEqual(self.asked(), Counter(range(_COUNT)))
        ran = await deferToThread(dfvortex, *self.command("--output", output), directory=self.directory)
        self.assertEqual((ran.returncode, ran.stdout, len(ran.stderr.splitlines())), (2, "", 1))

    async def test_cannot_be_opened(self) -> None:
        """Where the storage cannot be opened, one line says why, and the command ends."""
        catalog = self.directory / "data" / "catalog.sqlite3"
        catalog.parent.mkdir()
        catalog.write_bytes(b"this is no database, and is longer than the header of one" * 2)
        ran = await deferToThread(dfvortex, *self.command(), directory=self.directory, timeout=120)
        self.assertEqual((ran.returncode, ran.stdout, len(ran.stderr.splitlines())), (1, "", 1))
        self.assertIn("catalog.sqlite3: file is not a database", ran.stderr)
        self.assertEqual(self.parent.requests, [])

    async def test_frozen(self) -> None:
        """What a frozen process is fetching is taken over; when it runs again it ends well, and nothing is damaged."""
        self.seconds = 60.0
        frozen = self.start("--concurrency", "3")
        await self.until_asked(1)
        frozen.send_signal(signal.SIGSTOP)
        self.seconds = 0.0
        await self.end(self.start_quick())
        await self.assert_stored()
        frozen.send_signal(signal.SIGCONT)
        await self.end(frozen)
        await self.assert_sound()

    async def test_taker_killed(self) -> None:
        """A process that has taken over and is killed keeps nothing: a third one has the piece within seconds."""
        self.seconds = 60.0
        frozen = self.start()
        await self.until_asked(1)
        frozen.send_signal(signal.SIGSTOP)
        taker = self.start_quick()
        await self.until_asked(2)
        taker.kill()
        self.seconds = 0.0
        await self.end(self.start())
        frozen.send_signal(signal.SIGCONT)
        await self.end(frozen)
        await self.assert_sound()

    async def test_frozen_at_random(self) -> None:
        """However two downloads are frozen and go on, both end well, and nothing is damaged."""
        chance = random.Random(os.environ.get("DFVORTEX_SEED", "7"))
        for _ in range(_ROUNDS):
            self.seconds = 0.1
            processes = [self.start_quick("--concurrency", "3") for _ in range(2)]
            for _ in range(2):
                process = chance.choice(processes)
                await deferLater(IReactorTime(reactor), chance.uniform(0.2, 1.5))
                if process.poll() is None:
                    process.send_signal(signal.SIGSTOP)
                    await deferLater(IReactorTime(reactor), chance.uniform(0.1, 4.5))
                    process.send_signal(signal.SIGCONT)
            for process in processes:
                await self.end(process)
            await self.assert_sound()
            await deferToThread(dfvortex, "remove", self.task_id, directory=self.directory)

    test_frozen_at_random.timeout = 120.0 * _ROUNDS  # type: ignore[attr-defined]

    async def test_lock_of_a_frozen_process(self) -> None:
        """SIGTERM ends a command that waits for the storage's lock, although nothing can end that wait."""
        (self.directory / "data").mkdir()
        with locked(self.directory / "data"):
            process = subprocess.Popen(
                [sys.executable, "-c", _IMPATIENT, *self.command()],
                cwd=self.directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            await deferToThread(wait_until_open, process.pid, self.directory / "data")
            process.terminate()
            self.assertEqual(await deferToThread(process.wait, 30), 143)

    async def test_hanging_disk(self) -> None:
        """SIGTERM ends a download although the disk does not answer a read."""
        command = ["download", self.task_id, "--parent", self.parent.address, "--output", "file"]
        process = subprocess.Popen(
            [sys.executable, "-c", _HANGING, *command], cwd=self.directory, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        if process.stdout is None:
            raise self.failureException("expected a pipe")
        self.assertEqual(await deferToThread(process.stdout.readline), "hangs\n")
        process.terminate()
        self.assertEqual(await deferToThread(process.wait, 60), 143)

    async def test_usage(self) -> None:
        """
        Neither an output nor the storage, a storage without its configuration, and one that is not waited for, are
        usage errors.
        """
        for options, said in (
            ((), "expected --output PATH, --store or both, got neither"),
            (("--store", "--config", "none.yaml"), "none.yaml"),
            (("--store", "--no-sync"), "expected --no-sync without --store, got both"),
            (("--store", "--output", "out", "--no-sync"), "expected --no-sync without --store, got both"),
        ):
            command = ("download", self.task_id, "--parent", "h:1", *options)
            ran = await deferToThread(dfvortex, *command, directory=self.directory)
            self.assertEqual((ran.returncode, ran.stdout, len(ran.stderr.splitlines())), (2, "", 1))
            self.assertIn(said, ran.stderr)
