"""Hard links to the files of tasks."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import OutputError, OutputExists
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.linker import link_task
from dragonfly_vortex.wire import PieceKind


class LinkTests(SynchronousTestCase):
    """A storage with one task."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.directory.joinpath("file").write_bytes(b"content")
        self.storage = self.directory / "storage"
        self.task_id = import_file(self.directory / "file", self.storage, PieceKind.STANDARD).task_id
        self.target = self.directory / "output"

    def link(self, *, overwrite: bool = False) -> None:
        """Link the task to the target."""
        link_task(self.storage, PieceKind.STANDARD, self.task_id, self.target, overwrite=overwrite)

    def assert_linked(self) -> None:
        """Assert that the target is the task's file, and that no other name was left."""
        self.assertEqual((self.target.read_bytes(), self.target.stat().st_nlink), (b"content", 2))
        self.assertEqual(sorted(os.listdir(self.directory)), ["file", "output", "storage"])

    def test_link(self) -> None:
        """The target is the task's file; linked again it stays so."""
        self.link()
        self.assert_linked()
        self.link()
        self.link(overwrite=True)
        self.assert_linked()

    def test_something_there(self) -> None:
        """A file at the target is replaced only if it may be, a directory never is."""
        self.target.write_text("mine")
        self.assertRaises(OutputExists, self.link)
        self.assertEqual(self.target.read_text(), "mine")
        self.link(overwrite=True)
        self.assert_linked()
        self.target.unlink()
        self.target.mkdir()
        self.assertRaises(OutputExists, lambda: self.link(overwrite=True))

    def test_impossible(self) -> None:
        """A directory that is not there, and another file system, cannot be linked into."""
        self.target = self.directory / "missing" / "output"
        self.assertRaises(OutputError, self.link)
        self.target = Path("/proc/output")
        self.assertRaises(OutputError, lambda: self.link(overwrite=True))
