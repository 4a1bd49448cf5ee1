"""Tests of the command ``gc``, as a program."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.storage.catalog import Catalog
from test.processes import dfvortex, import_file, write_config


class CollectTests(SynchronousTestCase):
    """``dfvortex gc``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        write_config(self.directory, more="gc: {enable: false, policy: {task_ttl: 1h, disk_threshold: 5GB}}\n")
        (self.directory / "file").write_bytes(bytes(100_000))

    def run_it(self, *arguments: str) -> str:
        """Run the command, which succeeds."""
        ran = dfvortex(*arguments, directory=self.directory)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran)
        return ran.stdout

    def age(self, seconds: float) -> None:
        """Have all tasks been downloaded, and used last, so long ago."""
        with Catalog(self.directory / "data") as catalog, catalog._database.change() as connection:
            connection.execute(
                "UPDATE task SET created_at = ?, used_at = 0, ttl = NULL, is_pinned = 0", (int(time.time() - seconds),)
            )

    def test_collected(self) -> None:
        """A task whose time is over is deleted, or only shown; each line says what is free by that and why."""
        task_id = import_file(self.directory / "file", directory=self.directory)
        self.age(3590)
        self.assertEqual(self.run_it("gc"), "0 tasks deleted, 0 bytes freed, 0 tasks in use\n")
        self.age(3610)
        for arguments, would in ((("gc", "--dry-run"), "would be "), (("gc",), "")):
            headings, line, last = self.run_it(*arguments).splitlines()
            self.assertEqual(headings.split(), ["TASK", "ID", "KIND", "FREED", "REASON"])
            self.assertRegex(line, rf"^{task_id}  standard +1\d{{5}}  its time is over$")
            self.assertRegex(last, rf"^1 task {would}deleted, 1\d{{5}} bytes {would}freed, 0 tasks in use$")
        self.assertEqual(self.run_it("list"), "")

    def test_linked(self) -> None:
        """Content that is a hard link is said to free nothing."""
        self.run_it("import", "--link", "file")
        self.age(3610)
        self.assertIn("  0  its time is over; a hard link, which frees nothing\n", self.run_it("gc", "--dry-run"))
        self.assertIn("1 task deleted, 0 bytes freed", self.run_it("gc"))
        self.assertTrue((self.directory / "file").exists())

    def test_pinned(self) -> None:
        """What was imported stays, and where no more can be deleted than is needed, a line says so."""
        write_config(self.directory, more="gc: {policy: {task_ttl: 1ms, disk_threshold: 100KB}}\n")
        self.run_it("import", "file")
        self.assertRegex(self.run_it("gc"), r"\n\d+ bytes too many are used, and no further task can be deleted\n$")
