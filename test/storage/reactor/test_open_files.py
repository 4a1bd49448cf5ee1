"""Tests of the files that are kept open."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.reactor.open_files import MAX_FILES, MAX_LOOKS, OpenFiles
from dragonfly_vortex.wire import PieceKind

KIND = PieceKind.STANDARD


class OpenFilesTests(SynchronousTestCase):
    """Which files are open, and who closes them."""

    def setUp(self) -> None:
        self.files = OpenFiles()
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"some bytes")
        self.addCleanup(lambda: self.close(self.files.clear()))

    def descriptor(self) -> int:
        """The file, opened."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, descriptors: list[int]) -> None:
        """Close them; each is open."""
        for descriptor in descriptors:
            os.close(descriptor)

    def test_open(self) -> None:
        """Who opens a file that is kept has a descriptor of his own, of that file, that no program inherits."""
        self.assertEqual(self.files.keep(KIND, "a-task", self.descriptor()), [])
        self.assertIsNone(self.files.open(KIND, "b-task"))
        self.assertIsNone(self.files.open(PieceKind.CACHE, "a-task"))
        for _ in range(2):
            descriptor = self.files.open(KIND, "a-task")
            if descriptor is None:
                self.fail("expected a descriptor")
            self.assertFalse(os.get_inheritable(descriptor))
            self.assertEqual(os.pread(descriptor, 100, 0), b"some bytes")
            os.close(descriptor)

    def test_replaced(self) -> None:
        """A task has one file; the one before is handed back."""
        first, second = self.descriptor(), self.descriptor()
        self.files.keep(KIND, "a-task", first)
        self.assertEqual(self.files.keep(KIND, "a-task", second), [first])
        os.close(first)
        self.assertEqual(self.files.clear(), [second])
        os.close(second)
        self.assertEqual((self.files.clear(), len(self.files)), ([], 0))

    def test_bounded(self) -> None:
        """The file that was not used for the longest time makes room."""
        kept = [self.descriptor() for _ in range(MAX_FILES)]
        for number, descriptor in enumerate(kept):
            self.assertEqual(self.files.keep(KIND, f"task-{number}", descriptor), [])
        used = self.files.open(KIND, "task-0")
        if used is not None:
            os.close(used)
        self.assertEqual(self.files.keep(KIND, "one more", self.descriptor()), [kept[1]])
        self.assertEqual(len(self.files), MAX_FILES)
        os.close(kept[1])

    def test_idle(self) -> None:
        """A file is given up at the last of so many looks without use, and not before."""
        kept = self.descriptor()
        self.files.keep(KIND, "a-task", kept)
        for _ in range(2):
            for _ in range(MAX_LOOKS - 1):
                self.assertEqual(self.files.look(), [])
            used = self.files.open(KIND, "a-task")
            if used is not None:
                os.close(used)
        for _ in range(MAX_LOOKS - 1):
            self.assertEqual(self.files.look(), [])
        self.assertEqual(self.files.look(), [kept])
        os.close(kept)

    def test_deleted(self) -> None:
        """A file that has been deleted is given up at the next look, however hot it is."""
        kept = self.descriptor()
        self.files.keep(KIND, "a-task", kept)
        self.path.unlink()
        self.assertEqual(self.files.look(), [kept])
        os.close(kept)

    def test_no_descriptors_left(self) -> None:
        """Where there can be no more descriptors, the caller hears of it."""
        kept = self.descriptor()
        self.files.keep(KIND, "a-task", kept)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            with self.assertRaises(OSError):
                self.files.open(KIND, "a-task")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
