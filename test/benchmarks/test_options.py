"""The command line of the benchmarks."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.options import make_parser, settings_of
from benchmarks.settings import Settings


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
        """A gigabyte, three piece lengths, three concurrencies, both transports, five rounds."""
        self.assertEqual(
            settings("--seed", "1"),
            Settings(
                transports=("tcp", "grpc"),
                content_length=10**9,
                piece_lengths=(4 * 2**20, 16 * 2**20, 64 * 2**20),
                concurrencies=(1, 8, 32),
                rounds=5,
                seed=1,
            ),
        )

    def test_quick(self) -> None:
        """Quick means a smaller file and three rounds, unless something else is said."""
        self.assertEqual((settings("--quick").content_length, settings("--quick").rounds), (256 * 10**6, 3))
        said = settings("--quick", "--size", "1GiB", "--rounds", "4")
        self.assertEqual((said.content_length, said.rounds), (2**30, 4))

    def test_lists(self) -> None:
        """What may be given several times replaces the default, keeps its order, and counts once."""
        said = settings(
            *("--piece-length", "8MiB", "--piece-length", "4MB", "--concurrency", "2", "--concurrency", "2"),
            *("--transport", "grpc"),
        )
        self.assertEqual(said.piece_lengths, (8 * 2**20, 4 * 10**6))
        self.assertEqual(said.concurrencies, (2,))
        self.assertEqual(said.transports, ("grpc",))

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
        self.assert_refused("--transport", "quic", because="invalid choice: 'quic'")
