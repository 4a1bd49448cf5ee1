"""Tests of a slow disk: a real one, where this machine lets it be made."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.servers import DidNotWork
from benchmarks.slow_disk import slow_disk

MIB = 1024 * 1024


class SlowDiskTests(SynchronousTestCase):
    """A disk of a few mebibytes."""

    def test_pace(self) -> None:
        """What is written to it takes its time, and nothing is left of it, whatever happens."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        try:
            with slow_disk(directory, 32 * MIB, 8 * MIB) as disk:
                with (disk / "file").open("wb") as file:
                    file.write(bytes(4 * MIB))
                    began = time.monotonic()
                    os.fsync(file.fileno())
                seconds = time.monotonic() - began
                raise ValueError("whatever")
        except DidNotWork as error:
            raise SkipTest(str(error)) from error
        except ValueError:
            self.assertGreater(seconds, 0.3)
        self.assertNotIn(str(directory), Path("/proc/mounts").read_text(encoding="utf-8"))
        self.assertEqual([path.name for path in directory.iterdir()], ["disk"])
        self.assertEqual(list((directory / "disk").iterdir()), [])
