"""Tests of files that are kept for the next download: real files, and processes that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.files import read_exactly
from dragonfly_vortex.model import Found
from dragonfly_vortex.storage import kept_file
from dragonfly_vortex.storage.kept_file import KEPT_SECONDS, KeptFile, sweep_kept
from dragonfly_vortex.wire import PieceKind, PieceMetadata
from test.storage.contents import content_of

ROOT = Path(__file__).resolve().parent.parent.parent
KIND, TASK_ID = PieceKind.STANDARD, "ab" * 32
CONTENT = content_of(2500)

_WRITER = """
import os, pathlib, sys
from dragonfly_vortex.storage.kept_file import KeptFile
from test.storage.test_kept_file import CONTENT, KIND, TASK_ID, metadata_of
kept = KeptFile.open(pathlib.Path(sys.argv[1]), KIND, TASK_ID)
there = {piece.number for piece in kept.found.pieces}
print(len(there), flush=True)
while True:
    for number in range(3):
        os.pwrite(kept.staged.descriptor, CONTENT[number * 1000 : number * 1000 + 1000], number * 1000)
        kept.commit(metadata_of(number), 1000, 2500)
    kept.drop([1])
    os.pwrite(kept.staged.descriptor, bytes(1000), 1000)
"""


def metadata_of(number: int) -> PieceMetadata:
    """A piece of the content."""
    data = CONTENT[number * 1000 : number * 1000 + 1000]
    return PieceMetadata(number=number, offset=number * 1000, length=len(data), digest=f"crc32:{zlib.crc32(data)}")


def _fail(*_: object) -> None:
    """What a full disk does."""
    raise OSError("No space left on device")


class KeptFileTests(SynchronousTestCase):
    """A file beside an output."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.target = self.directory / "file"

    def opened(self, task_id: str = TASK_ID) -> KeptFile:
        """The file, which can be opened."""
        kept = KeptFile.open(self.target, KIND, task_id)
        if kept is None:
            raise self.failureException("expected a file, got none")
        self.addCleanup(kept.discard)
        return kept

    def put(self, kept: KeptFile, *numbers: int) -> None:
        """Write pieces, and record them."""
        for number in numbers:
            os.pwrite(kept.staged.descriptor, CONTENT[number * 1000 : number * 1000 + 1000], number * 1000)
            kept.commit(metadata_of(number), 1000, 2500)

    def numbers(self, found: Found) -> list[int]:
        """The pieces that are found; they are as they were put."""
        self.assertEqual(list(found.pieces), [metadata_of(piece.number) for piece in found.pieces])
        return [piece.number for piece in found.pieces]

    def path(self, suffix: str) -> Path:
        """The only file of that suffix."""
        (path,) = self.directory.glob(f".file.*{suffix}")
        return path

    def test_goes_on(self) -> None:
        """What was recorded is found by the next download of the task, and is gone when the file has its place."""
        kept = self.opened()
        self.assertEqual(kept.found, Found())
        self.put(kept, 2, 0)
        for _ in range(2):
            kept.keep_source_version("v1")
        kept.close(sync=True)
        self.assertEqual(self.path("journal").read_text().count("v1"), 1)
        kept = self.opened()
        self.assertEqual(self.numbers(kept.found), [0, 2])
        task = kept.found.task
        if task is None:
            raise self.failureException("expected a task, got none")
        self.assertEqual((task.content_length, task.piece_length, task.source_version), (2500, 1000, "v1"))
        self.put(kept, 1)
        kept.publish(self.target, overwrite=False, sync=True)
        self.assertEqual((os.listdir(self.directory), self.target.read_bytes()), (["file"], CONTENT))

    def test_nothing_there(self) -> None:
        """Without a piece nothing is kept, and nothing of one that has no digest, or was dropped."""
        kept = self.opened()
        kept.close(sync=True)
        kept = self.opened()
        kept.commit(PieceMetadata(number=0, offset=0, length=3, digest=""), 3, None)
        self.put(kept, 1)
        kept.drop([0, 1])
        kept.close(sync=True)
        self.assertEqual(os.listdir(self.directory), [])

    def test_another_task(self) -> None:
        """Each task has a file of its own, and so has each output."""
        kept = self.opened()
        self.put(kept, 0)
        kept.close(sync=True)
        self.assertEqual(self.opened("cd" * 32).found, Found())
        self.target = self.directory / "another"
        self.assertEqual(self.opened().found, Found())

    def test_in_use(self) -> None:
        """A file that another download writes to is not shared."""
        self.opened()
        self.assertIsNone(KeptFile.open(self.target, KIND, TASK_ID))

    def test_no_locks(self) -> None:
        """Where there are no locks nothing is kept, and nothing is left."""
        self.patch(kept_file, "try_lock", _fail)
        self.assertIsNone(KeptFile.open(self.target, KIND, TASK_ID))
        self.assertEqual(os.listdir(self.directory), [])

    def test_of_another(self) -> None:
        """A file with another name, and what is no file, are not written to."""
        kept = self.opened()
        self.put(kept, 0)
        kept.close(sync=True)
        os.link(self.path("kept"), self.directory / "other")
        self.assertIsNone(KeptFile.open(self.target, KIND, TASK_ID))
        path = self.path("kept")
        path.unlink()
        path.symlink_to(self.directory / "other")
        self.assertIsNone(KeptFile.open(self.target, KIND, TASK_ID))

    def change(self, data: bytes, offset: int) -> None:
        """Change bytes of the file that is kept."""
        with self.path("kept").open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def test_checked(self) -> None:
        """Only after an end without a record of it, or another write, are pieces read again; wrong ones are dropped."""
        changes: tuple[tuple[Callable[[], object], bool, bool, list[int]], ...] = (
            (lambda: None, True, False, [0, 1, 2]),
            (lambda: None, False, True, [0, 1, 2]),
            (lambda: self.change(b"x", 1100), True, True, [0, 2]),
            (lambda: os.truncate(self.path("kept"), 1500), True, True, [0]),
            (lambda: os.truncate(self.path("journal"), self.path("journal").stat().st_size - 5), True, True, [0, 1, 2]),
        )
        checks: list[int] = []

        def counted(descriptor: int, buffer: memoryview, offset: int) -> None:
            checks.append(offset // 1000)
            read_exactly(descriptor, buffer, offset)

        self.patch(kept_file, "read_exactly", counted)
        for change, sync, is_checked, expected in changes:
            kept = self.opened()
            self.put(kept, 0, 1, 2)
            kept.close(sync=sync)
            change()
            checks.clear()
            kept = self.opened()
            self.assertEqual((checks, self.numbers(kept.found)), ([0, 1, 2] if is_checked else [], expected))
            kept.discard()

    def test_journal_of_nonsense(self) -> None:
        """A journal that is none of this task begins anew; behind a line that is none nothing counts."""
        for text, expected in (("nonsense\n", []), ('{"version": 2}\n', []), (None, [0])):
            kept = self.opened()
            self.put(kept, 0)
            kept.close(sync=True)
            journal = self.path("journal")
            if text is not None:
                journal.write_text(text)
            else:
                header, piece, *_ = journal.read_text().splitlines()
                other = json.dumps({"piece": [1, 1000], "lengths": []})
                journal.write_text("\n".join((header, piece, other, piece.replace("[0,", "[2,"), "")))
            kept = self.opened()
            self.assertEqual(self.numbers(kept.found), expected)
            kept.discard()

    def test_full_disk(self) -> None:
        """A journal that cannot be written is no error; the file is not kept then."""
        kept = self.opened()
        self.put(kept, 0)
        self.patch(kept_file, "write_all", _fail)
        self.put(kept, 1)
        kept.close(sync=True)
        self.assertEqual(os.listdir(self.directory), [])

    def test_killed(self) -> None:
        """Wherever a download is killed, what the next one finds is right."""
        for _ in range(6):
            command = [sys.executable, "-c", _WRITER, str(self.target.absolute())]
            with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
                if process.stdout is None:
                    raise AssertionError("expected a pipe")
                self.assertRegex(process.stdout.readline(), rb"^[0-3]\n$")
                time.sleep(random.uniform(0.0, 0.02))
                process.send_signal(signal.SIGKILL)
            kept = self.opened()
            for piece in kept.found.pieces:
                data = os.pread(kept.staged.descriptor, piece.length, piece.offset)
                self.assertEqual((piece, data), (metadata_of(piece.number), CONTENT[piece.offset :][: piece.length]))
            kept.close(sync=True)

    def test_old(self) -> None:
        """What has not changed for a week is deleted, and nothing that is in use."""
        kept = self.opened()
        self.put(kept, 0)
        kept.close(sync=True)
        used = self.opened("cd" * 32)
        for path in self.directory.iterdir():
            os.utime(path, (time.time() - KEPT_SECONDS - 1,) * 2)
        sweep_kept(self.directory)
        self.assertEqual(self.path("kept"), used.staged.path)
        self.path("journal")
