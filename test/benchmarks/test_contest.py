"""Turns of the contest, with real processes."""

from __future__ import annotations

import dataclasses
import os
import urllib.request
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks import contest
from benchmarks.benchmark import Options, Run
from benchmarks.contest import cases_of, serving, take_turn, values_in
from benchmarks.contestants import CONTESTANTS, NGINX
from benchmarks.figures import START_UP_LENGTH, Case, Sample
from benchmarks.machine import find
from benchmarks.material import Task, import_file, make_certificate, make_file
from benchmarks.processes import DidNotWork

LENGTH, PIECE_LENGTH = 3_000_000, 2_000_000


class CasesTests(SynchronousTestCase):
    """What is measured in a round."""

    def cases(self, options: Options, *names: str) -> list[tuple[str, int, int, int]]:
        """The cases of a run."""
        cases = cases_of(Run(directory=Path("no directory"), options=options, tell=len), list(names))
        return [(each.contestant, each.content_length, each.piece_length >> 20, each.concurrency) for each in cases]

    def test_whole(self) -> None:
        """All fetch a gigabyte in one shape, our TCP and gRPC in three others too, and start-up is measured twice."""
        cases = self.cases(Options(), "tcp", "curl")
        file = 10**9
        self.assertEqual(cases[:2], [("tcp", file, 4, 8), ("curl", file, 4, 8)])
        self.assertEqual(cases[2:5], [("tcp", file, 4, 1), ("tcp", file, 64, 1), ("tcp", file, 64, 8)])
        self.assertEqual(cases[5:], [("tcp", START_UP_LENGTH, 4, 8), ("curl", START_UP_LENGTH, 4, 8)] * 2)

    def test_less(self) -> None:
        """A quick run and one of some contestants have one shape; a size that is asked for is the file's."""
        self.assertEqual(
            self.cases(Options(quick=True), "tcp"), [("tcp", 256 * 10**6, 4, 8), ("tcp", START_UP_LENGTH, 4, 8)]
        )
        self.assertEqual(self.cases(Options(only=["tcp"], size=10**7), "tcp")[0], ("tcp", 10**7, 4, 8))
        self.assertEqual(len(self.cases(Options(only=["tcp"]), "tcp")), 3)


class TakeTurnTests(SynchronousTestCase):
    """Tiny turns."""

    def setUp(self) -> None:
        self.patch(contest, "_SPARE", 0)
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "task").mkdir(parents=True)
        self.source = self.directory / "task" / "file"
        make_file(self.source, LENGTH)
        self.task = Task(task_id="0" * 64, source=self.source, storage=self.directory / "task" / "storage")

    def take_turn(self, name: str) -> Sample:
        """A turn of a contestant."""
        case = Case(contestant=name, content_length=LENGTH, piece_length=PIECE_LENGTH, concurrency=2)
        return take_turn(3, case, self.task, self.directory)

    def assert_works(self, *names: str) -> None:
        """Assert that each fetches the file, shows what both sides used, and leaves nothing."""
        self.task = import_file(self.source, PIECE_LENGTH, self.task.storage)
        make_certificate(self.directory)
        before = {path.name for path in self.directory.iterdir()}
        for name in names:
            sample = self.take_turn(name)
            self.assertEqual((sample.round, sample.case), (3, (name, LENGTH, PIECE_LENGTH, 2)))
            self.assertGreater(sample.seconds, 0.001)
            self.assertGreater(sample.parent_processor, 0)
            self.assertGreater(sample.child_processor, 0.001)
            self.assertGreater(min(sample.parent_peak, sample.child_peak), 500_000)
            self.assertGreaterEqual(sample.others, 0)
        self.assertEqual({path.name for path in self.directory.iterdir()}, before)

    def test_ours(self) -> None:
        """Ours under TLS, and read by the plain client."""
        self.assert_works("tls", "plain-from-ours")

    def test_others(self) -> None:
        """The others, those that are installed."""
        others = [name for name, each in CONTESTANTS.items() if set(each.programs) - {"dfvortex", "twistd", "python"}]
        installed = [name for name in others if all(find(program) for program in CONTESTANTS[name].programs)]
        if not installed:
            raise SkipTest("none is installed")
        self.assert_works(*installed)

    def test_libtorrent(self) -> None:
        """libtorrent, where it is installed."""
        if find_spec("libtorrent") is None:
            raise SkipTest("libtorrent is not installed")
        self.assert_works("libtorrent")

    def test_wrong_bytes(self) -> None:
        """Bytes that are not the source's are no turn, here of our pieces over gRPC."""
        self.task = import_file(self.source, PIECE_LENGTH, self.task.storage)
        make_file(self.source.with_name("other"), LENGTH)
        self.task = dataclasses.replace(self.task, source=self.source.with_name("other"))
        error = self.assertRaises(DidNotWork, self.take_turn, "grpc-pieces")
        self.assertIn("got others from grpc-pieces", str(error))

    def test_child_fails(self) -> None:
        """For a child that fails, the error has what it wrote."""
        error = self.assertRaises(DidNotWork, self.take_turn, "plain-from-ours")
        self.assertIn("plain-from-ours exited with 1, expected 0: ", str(error))
        self.assertIn("expected a piece, got a packet with tag 255", str(error))

    def test_not_installed(self) -> None:
        """A program that is not installed is no turn."""
        self.patch(os, "environ", {"PATH": self.mktemp()})
        error = self.assertRaises(DidNotWork, self.take_turn, "iperf3")
        self.assertEqual(str(error), "expected iperf3 to be installed, it is not")

    def test_nginx(self) -> None:
        """nginx sends the range of a file that is asked for."""
        if find("nginx") is None:
            raise SkipTest("nginx is not installed")
        values = values_in(self.directory, self.source.parent)
        with serving(NGINX, values, self.directory):
            url = f"http://127.0.0.1:{values['port']}/file"
            request = urllib.request.Request(url, headers={"Range": "bytes=10-19"})
            with urllib.request.urlopen(request, timeout=120) as response:
                self.assertEqual((response.status, response.read()), (206, self.source.read_bytes()[10:20]))
