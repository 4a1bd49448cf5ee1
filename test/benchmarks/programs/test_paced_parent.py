"""A parent at whose sending something can be turned, as a process."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.bystander import bystander, paced_parent
from benchmarks.material import Task, import_file, make_file

_LENGTH, _RATE = 1_000_000, 4_000_000


class PacedParentTests(SynchronousTestCase):
    """What its options do to a connection."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        make_file(self.directory / "file", _LENGTH)
        self.task = import_file(self.directory / "file", _LENGTH, self.directory / "storage")

    def fetch(self, task: Task, name: str, *options: str) -> float:
        """Fetch the task's one piece from a parent with these options; seconds that the second time took."""
        with (
            paced_parent(task.storage, self.directory / name, *options) as parent,
            bystander(int(parent.said[1]), task) as child,
        ):
            return child.ask()

    def test_pace(self) -> None:
        """With a rate a connection keeps to it, in whatever segments and steps; without one it is as fast as it can."""
        paced = self.fetch(
            self.task, "paced", "--rate", str(_RATE), "--segment", "1448", "--step", "65536", "--no-read-ahead"
        )
        self.assertGreater(paced, _LENGTH / _RATE * 0.9)
        self.assertLess(self.fetch(self.task, "as ever"), _LENGTH / _RATE / 2)
