"""What is counted of whole tasks, under the reference's names."""

from __future__ import annotations

from typing import ClassVar

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.events import DigestMismatched, DownloadedTask, DownloadFinished, ParentDropped, PieceKept
from dragonfly_vortex.metrics.task_metrics import PREFIX, TaskMetrics, TransferMetrics, size_level
from dragonfly_vortex.model import Origin, TaskRequest
from dragonfly_vortex.wire import PieceKind
from test.metrics.page import values_of


class TaskMetricsTests(SynchronousTestCase):
    """Metrics, and what is reported to them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = TaskMetrics(self.clock.seconds)

    def told(self) -> dict[str, float]:
        """The values that are not 0, without the buckets of histograms."""
        values = values_of(self.metrics.families())
        return {name.removeprefix(PREFIX): n for name, n in values.items() if n and "_bucket" not in name}

    def test_nothing(self) -> None:
        """Every metric is there before anything is counted: a rate needs a first value."""
        self.assertEqual(self.told(), {})
        self.assertEqual([family.name for family in self.metrics.families() if not values_of([family])], [])

    def test_download(self) -> None:
        """A download is counted with its labels at its beginning and at its end, and its time by its length."""
        request = TaskRequest(
            kind=PieceKind.PERSISTENT, task_id="a", origin=Origin(tag="nightly", application="app"), priority=3
        )
        ended, failed = self.metrics.download(request), self.metrics.download(request)
        labels = "{app=app,priority=3,tag=nightly,type=1}"
        begun = {f"download_task_total{labels}": 2.0}
        self.assertEqual(self.told(), {**begun, f"concurrent_download_task_total{labels}": 2})
        self.clock.advance(1.5)
        ended(300 * 1024 * 1024)
        failed(None)
        took = "download_task_duration_milliseconds_{}{{task_size_level=9,task_type=1}}"
        self.assertEqual(
            self.told(),
            {
                **begun,
                f"download_task_failure_total{labels}": 1,
                took.format("count"): 1,
                took.format("sum"): 1500,
            },
        )

    def test_many_tags(self) -> None:
        """Tags of strangers have values of their own up to a number; further ones have one together."""
        for number in range(150):
            self.metrics.download(TaskRequest(kind=PieceKind.STANDARD, task_id="a", origin=Origin(tag=f"{number:03}")))
        counted = {name: n for name, n in self.told().items() if name.startswith("download_task_total")}
        self.assertEqual(len(counted), 101)
        self.assertEqual(counted["download_task_total{app=other,priority=6,tag=other,type=0}"], 50)

    def test_prefetch(self) -> None:
        """A prefetched task is counted, and one that fails."""
        request = TaskRequest(kind=PieceKind.STANDARD, task_id="a")
        self.metrics.prefetch(request)
        self.metrics.prefetch(request)()
        labels = "{app=,priority=6,tag=,type=0}"
        self.assertEqual(self.told(), {f"prefetch_task_total{labels}": 2, f"prefetch_task_failure_total{labels}": 1})

    def test_blocked(self) -> None:
        """Requests that a block list refuses are counted apart, by their kind, and are no downloads or imports."""
        self.metrics.block(PieceKind.STANDARD, is_import=False)
        self.metrics.block(PieceKind.PERSISTENT_CACHE, is_import=True)
        self.assertEqual(
            self.told(), {"download_task_blocked_total{type=0}": 1, "upload_task_blocked_total{type=2}": 1}
        )

    def test_import(self) -> None:
        """An import is what the reference calls an upload."""
        ended = self.metrics.upload(PieceKind.PERSISTENT_CACHE, Origin(tag="t"))
        self.assertEqual(self.told()["concurrent_upload_task_total{app=,tag=t,type=2}"], 1)
        self.clock.advance(0.25)
        ended(0)
        self.metrics.upload(PieceKind.PERSISTENT_CACHE, Origin())(None)
        told = self.told()
        self.assertEqual(told["upload_task_duration_milliseconds_sum{task_size_level=0,task_type=2}"], 250)
        self.assertEqual(told["upload_task_failure_total{app=,tag=,type=2}"], 1)
        self.assertNotIn("concurrent_upload_task_total{app=,tag=,type=2}", told)

    def test_source(self) -> None:
        """A request to a source is counted; one that fails has no duration, and one that is given up no failure."""
        with self.metrics.backend_request("hf", "HEAD"):
            self.clock.advance(0.0625)
        for error in (OSError(), CancelledError()):
            with self.assertRaises(type(error)), self.metrics.backend_request("hf", "GET"):
                raise error
        self.assertEqual(
            self.told(),
            {
                "backend_request_total{method=HEAD,scheme=hf}": 1,
                "backend_request_total{method=GET,scheme=hf}": 2,
                "backend_request_failure_total{method=GET,scheme=hf}": 1,
                "backend_request_duration_milliseconds_count{method=HEAD,scheme=hf}": 1,
                "backend_request_duration_milliseconds_sum{method=HEAD,scheme=hf}": 62,
            },
        )


class CallTests(SynchronousTestCase):
    """Calls, by their names in the reference."""

    NAMES: ClassVar = {
        ("Stat", PieceKind.STANDARD): ("stat_task_total", "stat_task_failure_total", "0"),
        ("Stat", PieceKind.CACHE): ("stat_task_total", "stat_task_failure_total", "3"),
        ("StatLocal", PieceKind.STANDARD): ("stat_local_task_total", "stat_local_task_failure_total", "0"),
        ("StatLocal", PieceKind.PERSISTENT): ("stat_task_total", "stat_task_failure_total", "1"),
        ("ListLocal", PieceKind.PERSISTENT_CACHE): ("list_local_tasks_total", "list_tasks_failure_total", "2"),
        ("ListEntries", PieceKind.STANDARD): ("list_task_entries_total", "list_task_entries_failure_total", "0"),
        ("Delete", PieceKind.PERSISTENT): ("delete_task_total", "delete_task_failure_total", "1"),
        ("DeleteLocal", PieceKind.STANDARD): ("delete_local_task_total", "delete_local_task_failure_total", "0"),
        ("Update", PieceKind.PERSISTENT): ("update_task_total", "update_task_failure_total", "1"),
    }

    def test_calls(self) -> None:
        """Each call is counted by its kind, and when it fails once more."""
        for (call, kind), (total, failure, number) in self.NAMES.items():
            metrics = TaskMetrics(lambda: 0.0)
            with metrics.call(call, kind):
                pass
            with self.assertRaises(OSError), metrics.call(call, kind):
                raise OSError
            told = {name.removeprefix(PREFIX): n for name, n in values_of(metrics.families()).items() if n}
            self.assertEqual(told, {f"{total}{{type={number}}}": 2, f"{failure}{{type={number}}}": 1}, call)

    def test_leave(self) -> None:
        """A host that leaves has no type."""
        metrics = TaskMetrics(lambda: 0.0)
        with self.assertRaises(OSError), metrics.leaving():
            raise OSError
        told = {name.removeprefix(PREFIX): n for name, n in values_of(metrics.families()).items() if n}
        self.assertEqual(told, {"delete_host_total": 1, "delete_host_failure_total": 1})


class SizeLevelTests(SynchronousTestCase):
    """The label for a length."""

    def test_levels(self) -> None:
        """Its bounds are the reference's."""
        mebibyte = 1 << 20
        levels = {
            **{0: "0", 1: "1", mebibyte - 1: "1", mebibyte: "2", 4 * mebibyte: "3", 512 * mebibyte - 1: "9"},
            **{1 << 30: "11", (1 << 32) - 1: "11", 1 << 32: "12", (1 << 40) - 1: "19", 1 << 40: "20", 1 << 50: "20"},
        }
        self.assertEqual({length: size_level(length) for length in levels}, levels)


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
