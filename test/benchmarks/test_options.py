"""The command line of the benchmarks."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.contestants import CONTESTANTS
from benchmarks.options import make_parser, settings_of
from benchmarks.settings import Settings, Shape


def settings(*arguments: str) -> Settings:
    """The run that these arguments ask for."""
    return settings_of(make_parser().parse_args(arguments))


class OptionsTests(SynchronousTestCase):
    """What is said, and what holds where nothing is said."""

    def assert_refused(self, *arguments: str, because: str) -> None:
        """Assert that the parser ends the process with status 2 and says why."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            error = self.assertRaises(SystemExit, make_parser().parse_args, arguments)
        self.assertEqual(error.code, 2)
        self.assertIn(because, said.getvalue())

    def test_defaults(self) -> None:
        """Everyone fetches a gigabyte, eight pieces at once, in seven rounds; our TCP and gRPC in other shapes too."""
        said = settings("--seed", "1")
        self.assertEqual(said.contestants, tuple(CONTESTANTS))
        self.assertEqual(said.shape, Shape(piece_length=4 * 2**20, concurrency=8))
        self.assertEqual(said.in_other_shapes, ("tcp", "grpc"))
        self.assertEqual(
            [(shape.piece_length // 2**20, shape.concurrency) for shape in said.other_shapes],
            [(4, 1), (64, 1), (64, 8)],
        )
        self.assertEqual((said.content_length, said.rounds, said.start_ups, said.seed), (10**9, 7, 2, 1))

    def test_quick(self) -> None:
        """Quick means a smaller file, two rounds and one shape, unless something else is said."""
        said = settings("--quick")
        self.assertEqual((said.contestants, said.other_shapes), (tuple(CONTESTANTS), ()))
        self.assertEqual((said.content_length, said.rounds, said.start_ups), (256 * 10**6, 2, 1))
        said = settings("--quick", "--size", "1GiB", "--rounds", "4")
        self.assertEqual((said.content_length, said.rounds), (2**30, 4))

    def test_only(self) -> None:
        """Who is named takes part, in the order of the report, once, and in one shape."""
        said = settings("--only", "iperf3", "grpc", "tcp", "grpc")
        self.assertEqual(said.contestants, ("tcp", "grpc", "iperf3"))
        self.assertEqual((said.in_other_shapes, said.other_shapes), ((), ()))

    def test_shape(self) -> None:
        """The shape in which all fetch the file is none of the others."""
        said = settings("--piece-length", "64MiB", "--concurrency", "1")
        self.assertEqual(said.shape, Shape(piece_length=64 * 2**20, concurrency=1))
        self.assertEqual(len(said.other_shapes), 2)
        self.assertNotIn(said.shape, said.other_shapes)

    def test_seeds_differ(self) -> None:
        """Without a seed each run has one of its own."""
        self.assertGreater(len({settings().seed for _ in range(5)}), 1)

    def test_refused(self) -> None:
        """A length without a meaning, one that is lost in start-up, a count of none and a stranger are usage errors."""
        for length in ("", "1.5GB", "1 GB", "1KB", "0", "1iB"):
            self.assert_refused("--size", length, because="expected bytes, such as 1GB or 4MiB")
        self.assert_refused("--size", "1MB", because="expected more than the 1000000 bytes of start-up")
        for count in ("0", "1.5", "ten", "10000"):
            self.assert_refused("--rounds", count, because="expected a whole number from 1 to 9999")
        self.assert_refused("--only", "quic", because="invalid choice: 'quic'")
