"""Tiny turns of the contest, with real processes."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import turn
from benchmarks.benchmark import Sample
from benchmarks.contestants import CONTESTANTS
from benchmarks.machine import find
from benchmarks.material import Task, make_file
from benchmarks.processes import DidNotWork
from benchmarks.turn import Case, make_tasks, take_turn

LENGTH, PIECE_LENGTH = 3_000_000, 2_000_000


class TurnTests(SynchronousTestCase):
    """Files of three megabytes."""

    def setUp(self) -> None:
        self.patch(turn, "_SPARE", 0)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.task = make_tasks([Case("tcp", LENGTH, PIECE_LENGTH)], self.directory)[LENGTH, PIECE_LENGTH]

    def take_turn(self, name: str) -> Sample:
        """A turn of a contestant."""
        return take_turn(Case(name, LENGTH, PIECE_LENGTH, 2), {(LENGTH, PIECE_LENGTH): self.task}, self.directory)

    def assert_works(self, *names: str) -> None:
        """Assert that each fetches the file, shows what both sides used, and leaves nothing."""
        before = {path.name for path in self.directory.iterdir()}
        for name in names:
            sample = self.take_turn(name)
            self.assertEqual([*sample.values()][:4], [name, LENGTH, PIECE_LENGTH, 2])
            self.assertGreater(sample["seconds"], 0.001)
            self.assertGreater(sample["parent_processor"], 0)
            self.assertGreater(sample["child_processor"], 0.001)
            self.assertGreater(min(sample["parent_peak"], sample["child_peak"]), 500_000)
            self.assertGreaterEqual(sample["others"], 0)
        self.assertEqual({path.name for path in self.directory.iterdir()}, before)

    def test_ours(self) -> None:
        """Ours under TLS, and read by the plain client."""
        self.assert_works("tls", "plain-from-ours")

    def test_others(self) -> None:
        """The others, those that are installed."""
        others = [each for each in CONTESTANTS.values() if set(each.programs) - {"dfvortex", "twistd", "python"}]
        others.append(CONTESTANTS["libtorrent"])
        installed = [
            each.name
            for each in others
            if all(map(find, each.programs)) and (not each.package or find_spec(each.package) is not None)
        ]
        if not installed:
            raise SkipTest("none is installed")
        self.assert_works(*installed)

    def test_wrong_bytes(self) -> None:
        """Bytes that are not the source's are no turn, here of our pieces over gRPC."""
        other = self.task.source.with_name("other")
        make_file(other, LENGTH)
        self.task = Task(task_id=self.task.task_id, source=other, storage=self.task.storage)
        error = self.assertRaises(DidNotWork, self.take_turn, "grpc-pieces")
        self.assertIn("got others from grpc-pieces", str(error))

    def test_child_fails(self) -> None:
        """For a child that fails, the error has what it wrote."""
        self.task = Task(task_id="0" * 64, source=self.task.source, storage=self.task.storage)
        error = self.assertRaises(DidNotWork, self.take_turn, "plain-from-ours")
        self.assertIn("plain-from-ours exited with 1, expected 0: ", str(error))
        self.assertIn("expected a piece, got a packet with tag 255", str(error))

    def test_not_installed(self) -> None:
        """A program that is not installed is no turn."""
        self.patch(os, "environ", {"PATH": self.mktemp()})
        error = self.assertRaises(DidNotWork, self.take_turn, "iperf3")
        self.assertEqual(str(error), "expected iperf3 to be installed, it is not")
