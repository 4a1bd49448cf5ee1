"""Turns with real processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from twisted.trial.unittest import TestCase

from benchmarks.material import import_file, make_file
from benchmarks.peers import DidNotWork
from benchmarks.race import race, take_turn
from benchmarks.settings import Case, Settings, turns

CASE = Case(transport="tcp", content_length=3_000_000, piece_length=2_000_000, concurrency=2)


class RaceTests(TestCase):
    """A small race, and a single turn."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def test_race(self) -> None:
        """Every turn is taken in its order, told, and shows what both processes used; nothing is left on the disk."""
        settings = Settings(
            transports=("tcp", "grpc"),
            content_length=3_000_000,
            piece_lengths=(2_000_000,),
            concurrencies=(2,),
            rounds=1,
            seed=1,
        )
        told: list[str] = []
        samples = list(race(settings, self.directory, told.append))
        self.assertEqual([(each.round, each.case) for each in samples], list(turns(settings)))
        self.assertEqual(len(told), 1 + len(samples))
        self.assertEqual(list(self.directory.iterdir()), [])
        for each in samples:
            self.assertGreater(each.seconds, 0.05)
            self.assertGreater(each.parent_processor, 0)
            self.assertGreater(each.child_processor, 0.05)
            self.assertGreater(each.parent_peak, 20_000_000)
            self.assertGreater(each.child_peak, 20_000_000)
            self.assertGreaterEqual(each.others, 0)

    def test_wrong_bytes(self) -> None:
        """Bytes that are not the source's end the race, and the output is deleted."""
        source = self.directory / "file"
        make_file(source, CASE.content_length)
        task = import_file(source, CASE.piece_length, self.directory / "storage")
        self.assertGreater(take_turn(0, CASE, task, self.directory).seconds, 0)
        other = self.directory / "other"
        make_file(other, CASE.content_length)
        error = self.assertRaises(
            DidNotWork, take_turn, 0, CASE, dataclasses.replace(task, source=other), self.directory
        )
        self.assertIn("expected the bytes of", str(error))
        self.assertFalse((self.directory / "output").exists())
