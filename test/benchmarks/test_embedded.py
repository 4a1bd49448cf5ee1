"""Tests of a child whose parts are put together by the benchmarks: from a real parent, as a process."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.embedded import Order, carry_out, order_of_zeros
from benchmarks.material import import_file, make_file
from benchmarks.peers import TRANSPORTS, Parent
from benchmarks.servers import DidNotWork

_LENGTH, _PIECE_LENGTH = 50_000_000, 65536  # long enough for a heart that beats every 10 ms


class EmbeddedTests(SynchronousTestCase):
    """Orders, and what comes of them."""

    def test_orders(self) -> None:
        """With the hash and without it the same bytes arrive, and the heart beats; what is not there is a failure."""
        directory = Path(self.mktemp()).absolute()
        (directory / "parent").mkdir(parents=True)
        make_file(directory / "file", _LENGTH)
        task = import_file(directory / "file", _PIECE_LENGTH, directory / "storage")
        with Parent(task.storage, directory / "parent", TRANSPORTS["tcp"]) as parent:

            def order(task_id: str, place: str, *, is_hashed: bool) -> Order:
                return Order(
                    parent=parent.address.partition("//")[2],
                    task_id=task_id,
                    content_length=_LENGTH,
                    piece_length=_PIECE_LENGTH,
                    place=str(directory / place),
                    is_hashed=is_hashed,
                )

            for is_hashed in (True, False):
                done = carry_out(order(task.task_id, "place", is_hashed=is_hashed), 60.0)
                self.assertEqual((directory / "place").read_bytes(), (directory / "file").read_bytes())
                self.assertGreater(done.seconds, 0)
                self.assertGreater(done.processor_seconds, 0)
                self.assertGreater(len(done.lateness), 0)
                (directory / "place").unlink()
            self.assertRaises(DidNotWork, carry_out, order("0" * 64, "place", is_hashed=True), 60.0)

    def test_zeros(self) -> None:
        """Inside the block an order of zeros can be carried out."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        with order_of_zeros(directory, 5_000_000, directory / "place") as order:
            carry_out(order, 60.0)
        self.assertEqual((directory / "place").read_bytes(), bytes(5_000_000))
