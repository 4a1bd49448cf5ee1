"""The ring chooses as the crate ``dragonfly-hashring`` does."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.cluster.hash_ring import HashRing, siphash24

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "hashring-0.2.0.json"


class SipHashTests(SynchronousTestCase):
    """The hash function."""

    def test_empty(self) -> None:
        """No bytes have the hash that Rust's ``SipHasher24`` gives them with a key of zeros."""
        self.assertEqual(siphash24(b""), 0x1E924B9D737700D7)


class HashRingTests(SynchronousTestCase):
    """Which name is responsible for a key."""

    def test_vectors(self) -> None:
        """The virtual nodes that follow a key's place are those of the crate, which made the vectors."""
        for row in json.loads(VECTORS.read_text(encoding="utf-8"))["rows"]:
            order = list(HashRing(row["names"]).in_order(row["key"]))
            # The vector has virtual nodes, and a name may be there several times.
            expected = list(dict.fromkeys(node.rpartition("|")[0] for node in row["order"]))
            self.assertEqual(order[: len(expected)], expected, row["key"])
            self.assertEqual(sorted(order), sorted(row["names"]))
            self.assertEqual(HashRing(row["names"]).first(row["key"]), order[0])

    def test_removed_name(self) -> None:
        """Without its first name a key belongs to the second one, and no other key moves."""
        names = [f"10.0.0.{number}:8002" for number in range(1, 5)]
        ring = HashRing(names)
        without = HashRing(names[1:])
        for number in range(100):
            order = [name for name in ring.in_order(str(number)) if name != names[0]]
            self.assertEqual(next(without.in_order(str(number))), order[0])

    def test_empty(self) -> None:
        """A ring without names has none for any key."""
        self.assertEqual((list(HashRing([]).in_order("task")), HashRing([]).first("task")), ([], ""))
