"""Tests of memory that processes share."""

from __future__ import annotations

import errno
import mmap
import os
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.shared_memory import shared_memory


class SharedMemoryTests(SynchronousTestCase):
    """A file without a name."""

    def assert_shared(self) -> None:
        """Assert that it has its content, and that each mapping shows what another one writes."""
        descriptor = shared_memory("dfvortex-test", b"four")
        try:
            with mmap.mmap(descriptor, 0) as one, mmap.mmap(descriptor, 0) as other:
                self.assertEqual(one[:], b"four")
                one[1:3] = b"ea"
                self.assertEqual(other[:], b"fear")
        finally:
            os.close(descriptor)

    def test_shared(self) -> None:
        """It has its content, and each mapping shows what another one writes."""
        self.assert_shared()

    def test_refused(self) -> None:
        """So it is where a sandbox refuses the call for it."""

        def refuse(name: str) -> int:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        self.patch(os, "memfd_create", refuse)
        self.assert_shared()

    def test_elsewhere(self) -> None:
        """So it is where there are no files in memory; nothing of it is left in a directory."""
        place = Path(self.mktemp())
        place.mkdir()
        self.patch(sys, "platform", "darwin")
        self.patch(tempfile, "tempdir", str(place))
        self.assert_shared()
        self.assertEqual(list(place.iterdir()), [])
