"""Turns with real processes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from benchmarks.certificate import make_certificate
from benchmarks.contestants import CONTESTANTS
from benchmarks.material import Task, import_file, make_file
from benchmarks.processes import peak_memory
from benchmarks.race import Sample, take_turn
from benchmarks.report import absences
from benchmarks.servers import DidNotWork
from benchmarks.settings import START_UP_LENGTH, Case, Shape

LENGTH = 3_000_000
SHAPE = Shape(piece_length=2_000_000, concurrency=2)


class TakeTurnTests(TestCase):
    """A turn of everyone who is here."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "task").mkdir(parents=True)
        self.source = self.directory / "task" / "file"
        make_file(self.source, LENGTH)
        self.task = Task(task_id="0" * 64, source=self.source, storage=self.directory / "task" / "storage")

    def import_file(self) -> None:
        """Have the task in our storage."""
        self.task = import_file(self.source, SHAPE.piece_length, self.task.storage)

    def take_turn(self, name: str) -> Sample:
        """A turn of a contestant."""
        return take_turn(3, Case(contestant=name, content_length=LENGTH, shape=SHAPE), self.task, self.directory)

    def assert_works(self, *names: str) -> None:
        """Assert that each fetches the file, shows what both sides used, and leaves nothing but what it may."""
        self.import_file()
        make_certificate(self.directory)
        before = {path.name for path in self.directory.iterdir()}
        for name in names:
            sample = self.take_turn(name)
            self.assertEqual((sample.round, sample.case.contestant), (3, name))
            self.assertGreater(sample.seconds, 0.001)
            self.assertGreater(sample.parent_processor, 0)
            self.assertGreater(sample.child_processor, 0.001)
            self.assertGreater(sample.parent_peak, 500_000)
            self.assertGreater(sample.child_peak, 500_000)
            self.assertGreaterEqual(sample.others, 0)
        self.assertEqual({path.name for path in self.directory.iterdir()}, before)

    def test_ours(self) -> None:
        """Ours, over each transport."""
        self.assert_works("tcp", "grpc", "tls", "tcp-pieces", "grpc-pieces", "plain-from-ours")

    def test_others(self) -> None:
        """The others, those that are installed."""
        others = [name for name, each in CONTESTANTS.items() if set(each.programs) - {"dfvortex", "twistd", "python"}]
        installed = [name for name in others if name not in absences(others)]
        if not installed:
            raise SkipTest("none is installed")
        self.assert_works(*installed)

    def test_start_up(self) -> None:
        """Start-up finds as much memory free as the file does: that has been used and let go of before."""
        make_file(self.source.with_name("little"), START_UP_LENGTH)
        task = import_file(self.source.with_name("little"), START_UP_LENGTH, self.task.storage)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most so far is what it has now
        case = Case(contestant="plain-from-ours", content_length=START_UP_LENGTH, shape=SHAPE)
        take_turn(0, case, task, self.directory)
        self.assertGreater(peak_memory(os.getpid()), 256 * 10**6)

    def test_wrong_bytes(self) -> None:
        """Bytes that are not the source's are no turn."""
        self.import_file()
        other = self.directory / "task" / "other"
        make_file(other, LENGTH)
        self.task = dataclasses.replace(self.task, source=other)
        error = self.assertRaises(DidNotWork, self.take_turn, "tcp-pieces")
        self.assertIn("got others from tcp-pieces", str(error))

    def test_child_fails(self) -> None:
        """A child that fails is told with what it said."""
        error = self.assertRaises(DidNotWork, self.take_turn, "plain-from-ours")
        self.assertIn("plain-from-ours exited with 1, expected 0: ", str(error))
        self.assertIn("expected a piece, got a packet with tag 255", str(error))

    def test_not_installed(self) -> None:
        """A program that is not installed is no turn."""
        self.patch(os, "environ", {"PATH": self.mktemp()})
        error = self.assertRaises(DidNotWork, self.take_turn, "iperf3")
        self.assertEqual(str(error), "expected iperf3 to be installed, it is not")
