"""What is counted of the pieces of downloads."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.events import DigestMismatched, DownloadedTask, DownloadFinished, ParentDropped, PieceKept
from dragonfly_vortex.metrics.transfer_metrics import PREFIX, TransferMetrics
from test.metrics.page import values_of


def kept(**fields: str | float) -> PieceKept:
    """The event of a piece of 10 bytes."""
    fixed = {"number": 0, "offset": 0, "length": 10, "kept_bytes": 10, "kept_pieces": 1, "content_length": None}
    return PieceKept(**fixed, **fields)  # type: ignore[arg-type]  # of several types


class TransferMetricsTests(SynchronousTestCase):
    """Metrics, and the events that they hear of."""

    def setUp(self) -> None:
        self.metrics = TransferMetrics()

    def told(self) -> dict[str, float]:
        """The values that are not 0, without the buckets of histograms."""
        return {name: n for name, n in values_of(self.metrics.families()).items() if n and "_bucket" not in name}

    def test_nothing(self) -> None:
        """Every metric is there before anything is counted."""
        self.assertEqual(self.told(), {})
        self.assertEqual([family.name for family in self.metrics.families() if not values_of([family])], [])

    def test_pieces(self) -> None:
        """Pieces are counted by their origin as the reference does, and by parent and transport."""
        self.metrics.on_event(kept(parent="10.0.0.1:4005", transport="tcp", seconds=0.25, throttled=0.125))
        self.metrics.on_event(kept(parent="http://example.org/a", transport="http", seconds=0.5))
        self.metrics.on_event(kept())
        self.metrics.found(5)
        traffic = f"{PREFIX}download_traffic"
        took = f"{PREFIX}download_piece_duration_milliseconds"
        ours = "dfvortex_download_piece_duration_seconds"
        self.assertEqual(
            self.told(),
            {
                f"{traffic}{{type=LOCAL_PEER}}": 15,
                f"{traffic}{{type=REMOTE_PEER}}": 10,
                f"{traffic}{{type=BACK_TO_SOURCE}}": 10,
                f"{took}_count{{type=LOCAL_PEER}}": 2,
                f"{took}_count{{type=REMOTE_PEER}}": 1,
                f"{took}_sum{{type=REMOTE_PEER}}": 250,
                f"{took}_count{{type=BACK_TO_SOURCE}}": 1,
                f"{took}_sum{{type=BACK_TO_SOURCE}}": 500,
                f"{ours}_count{{transport=tcp}}": 1,
                f"{ours}_sum{{transport=tcp}}": 0.25,
                f"{ours}_count{{transport=http}}": 1,
                f"{ours}_sum{{transport=http}}": 0.5,
                "dfvortex_download_bytes_total{parent=10.0.0.1:4005,transport=tcp}": 10,
                "dfvortex_download_bytes_total{parent=source,transport=http}": 10,
                "dfvortex_download_throttled_seconds_total": 0.125,
            },
        )

    def test_many_parents(self) -> None:
        """Parents have values of their own up to a number; further ones have one together."""
        for number in range(60):
            self.metrics.on_event(kept(parent=f"10.0.0.{number}:4005", transport="grpc"))
        by_parent = {name: n for name, n in self.told().items() if "bytes_total" in name}
        self.assertEqual(len(by_parent), 51)
        self.assertEqual(by_parent["dfvortex_download_bytes_total{parent=other,transport=grpc}"], 100)

    def test_lies(self) -> None:
        """Wrong digests and parents that lied are counted; a parent that only failed is none."""
        for event in (
            DigestMismatched(number=3, parent="a:1", reason="r"),
            DigestMismatched(number=None, reason="r"),
            ParentDropped(parent="a:1", reason="r", has_lied=True),
            ParentDropped(parent="b:1", reason="r"),
        ):
            self.metrics.on_event(event)
        self.assertEqual(
            self.told(),
            {
                "dfvortex_digest_mismatch_total{content=piece}": 1,
                "dfvortex_digest_mismatch_total{content=task}": 1,
                "dfvortex_parent_banned_total": 1,
            },
        )

    def test_swarm(self) -> None:
        """Bytes that came twice are added up; the rarest piece of all downloads in a swarm counts."""
        done = DownloadedTask(
            task_id="a", content_length=1, piece_length=1, piece_count=1, seconds=1, left_to_hash=0, shares=(),
            fetched_twice=7,
        )  # fmt: skip
        self.metrics.on_event(DownloadFinished(task=done))
        self.metrics.rarest = lambda: [3, 2]
        self.assertEqual(self.told(), {"dfvortex_swarm_duplicate_bytes_total": 7, "dfvortex_swarm_rarest_parents": 2})
