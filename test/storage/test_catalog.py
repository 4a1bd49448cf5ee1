"""Tests of the rows of tasks and pieces, in a real database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, StorageError, StorageFailure
from dragonfly_vortex.model import StoredPiece, StoredTask
from dragonfly_vortex.storage import database
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.tables import IN_DOUBT
from dragonfly_vortex.wire import PieceKind, PieceMetadata

TASK = StoredTask(
    kind=PieceKind.STANDARD,
    task_id="0123456789abcdef" * 4,
    content_length=11,
    piece_length=10,
    created_at=1_700_000_000,
)
FIRST = PieceMetadata(
    number=0,
    offset=0,
    length=10,
    digest="crc32:7",
    parent_id="a-parent",
    traffic_type=0,
    cost=3,
    created_at=1_600_000_000,
)
LAST = PieceMetadata(number=1, offset=10, length=1, digest="sha256:00")


class CatalogCase(SynchronousTestCase):
    """A test case with an open catalog."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.catalog = self.open()

    def open(self) -> Catalog:
        """Another connection to the same database, closed after the test."""
        catalog = Catalog(self.directory)
        catalog.open()
        self.addCleanup(catalog.close)
        return catalog

    def stored(self, metadata: PieceMetadata, damage: str = "") -> StoredPiece:
        """A piece as it comes out."""
        return StoredPiece(kind=TASK.kind, task_id=TASK.task_id, metadata=metadata, damage=damage)

    def pieces(self) -> list[StoredPiece]:
        """The task's pieces."""
        return self.catalog.get_pieces(TASK.kind, TASK.task_id)


class CatalogTests(CatalogCase):
    """Tasks, pieces and marks."""

    def test_round_trip(self) -> None:
        """What is put in comes out, through another connection too, and after a reopening."""
        self.catalog.put_task(TASK, [LAST, FIRST])
        for catalog in (self.catalog, self.open()):
            self.assertEqual(catalog.get_task(TASK.kind, TASK.task_id), TASK)
            self.assertEqual(catalog.get_pieces(TASK.kind, TASK.task_id), [self.stored(FIRST), self.stored(LAST)])
            self.assertEqual(catalog.get_pieces(TASK.kind, TASK.task_id, 1), [self.stored(LAST)])
            self.assertEqual(catalog.get_pieces(TASK.kind, TASK.task_id, 2), [])
            self.assertEqual(catalog.get_piece(TASK.kind, TASK.task_id, 1), self.stored(LAST))
            catalog.close()
        self.assertEqual(self.open().get_task(TASK.kind, TASK.task_id), TASK)

    def test_lifetime(self) -> None:
        """For how long a task is kept comes out as it was put in, and stays when more of its pieces are committed."""
        kept = replace(TASK, used_at=5, ttl=60, is_pinned=True)
        self.catalog.put_task(kept, [FIRST])
        self.assertEqual(self.catalog.list_tasks(), [kept])
        self.catalog.commit_pieces(replace(TASK, used_at=3), [LAST])
        self.assertEqual(self.catalog.list_tasks(), [kept])
        self.catalog.commit_pieces(replace(TASK, ttl=0), [LAST])
        self.assertEqual(self.catalog.list_tasks(), [replace(kept, ttl=0)])
        self.catalog.update_task(TASK.kind, TASK.task_id, ttl=7)
        self.catalog.update_task(TASK.kind, TASK.task_id, is_pinned=False)
        self.assertEqual(self.catalog.list_tasks(), [replace(kept, ttl=7, is_pinned=False)])
        with self.assertRaises(NotStored):
            self.catalog.update_task(TASK.kind, "another", ttl=7)

    def test_uses(self) -> None:
        """The last use of many tasks is written at once. It never goes back, and nothing is offered anew by that."""
        other = replace(TASK, task_id="another")
        self.catalog.put_task(TASK, [FIRST])
        self.catalog.put_task(other, [])
        version = self.catalog.version()
        self.addCleanup(version.close)
        before = version.taken_back()
        keys = [(TASK.kind, TASK.task_id), (TASK.kind, "removed"), (TASK.kind, other.task_id)]
        self.catalog.record_uses(keys, 9)
        self.catalog.record_uses(keys[:1], 8)
        self.assertEqual([task.used_at for task in self.catalog.list_tasks()], [9, 9])
        self.assertEqual(version.taken_back(), before)

    def test_one_kind(self) -> None:
        """An ID that is there in one kind is refused in another, for an import and a download, with the kind's name."""
        self.catalog.put_task(TASK, [FIRST])
        other = replace(TASK, kind=PieceKind.PERSISTENT)
        writes: tuple[Callable[[], None], ...] = (
            lambda: self.catalog.put_task(other, [FIRST]),
            lambda: self.catalog.commit_pieces(other, [FIRST]),
            lambda: self.catalog.check_kind(other.kind, other.task_id),
        )
        for write in writes:
            with self.assertRaisesRegex(StorageError, "other kind than persistent, .* has it as standard"):
                write()
        self.assertEqual(self.catalog.list_tasks(), [TASK])
        self.catalog.check_kind(TASK.kind, TASK.task_id)
        self.catalog.put_task(TASK, [FIRST])

    def test_not_there(self) -> None:
        """The error for a missing task or piece, or an impossible ID, names it, and no path."""
        self.catalog.put_task(TASK, [FIRST])
        for ask, message in (
            (lambda: self.catalog.get_task(PieceKind.CACHE, TASK.task_id), f"task {TASK.task_id} not found"),
            (lambda: self.catalog.get_pieces(PieceKind.CACHE, TASK.task_id), f"task {TASK.task_id} not found"),
            (lambda: self.catalog.get_piece(TASK.kind, TASK.task_id, 1), f"piece {TASK.task_id}-1 not found"),
            (lambda: self.catalog.get_piece(TASK.kind, "../etc", 1), "piece ../etc-1 not found"),
            (lambda: self.catalog.get_task(TASK.kind, "\udcff"), r"task '\udcff' not found"),
            (lambda: self.catalog.mark_damaged(TASK.kind, TASK.task_id, 1, "x"), f"piece {TASK.task_id}-1 not found"),
        ):
            with self.assertRaises(NotStored) as caught:
                ask()
            self.assertEqual(str(caught.exception), message)

    def test_put_again(self) -> None:
        """A task that is put again has the new rows only, and no marks."""
        self.catalog.put_task(TASK, [FIRST, LAST])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 0, "short")
        longer = replace(TASK, piece_length=11)
        whole = replace(FIRST, length=11)
        self.catalog.put_task(longer, [whole])
        self.assertEqual(self.catalog.list_tasks(), [longer])
        self.assertEqual(self.pieces(), [self.stored(whole)])

    def test_put_fails(self) -> None:
        """A change that fails in its middle changes nothing."""
        self.catalog.put_task(TASK, [FIRST])

        def pieces() -> Iterator[PieceMetadata]:
            yield LAST
            raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, self.catalog.put_task, replace(TASK, piece_length=5), pieces())
        self.assertEqual(self.catalog.get_task(TASK.kind, TASK.task_id), TASK)
        self.assertEqual(self.pieces(), [self.stored(FIRST)])

    def test_unknown_length(self) -> None:
        """A task's length can be unknown, become known, and be unknown again, with a piece or without."""
        unknown = replace(TASK, content_length=None)
        self.catalog.commit_pieces(unknown, [FIRST])
        self.assertEqual(self.catalog.get_task(TASK.kind, TASK.task_id), unknown)
        self.catalog.commit_pieces(TASK, [])
        self.assertEqual(self.catalog.list_tasks(), [TASK])
        self.catalog.commit_pieces(unknown, [LAST])
        self.assertEqual((self.catalog.list_tasks(), len(self.pieces())), ([unknown], 2))

    def test_commit_pieces(self) -> None:
        """Pieces bring their task's row with them; a sound one stays as it is, a damaged one is replaced."""
        unknown = replace(TASK, content_length=None)
        self.catalog.commit_pieces(unknown, [FIRST])
        self.catalog.commit_pieces(unknown, [replace(FIRST, digest="crc32:8"), LAST])
        self.assertEqual(self.catalog.list_tasks(), [unknown])
        self.assertEqual(self.pieces(), [self.stored(FIRST), self.stored(LAST)])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 0, "rotten")
        self.catalog.commit_pieces(unknown, [replace(FIRST, digest="crc32:8")])
        self.assertEqual(self.pieces(), [self.stored(replace(FIRST, digest="crc32:8")), self.stored(LAST)])

    def test_commit_pieces_elsewhere(self) -> None:
        """Pieces that do not fit into the task that is there are refused, all of them together."""
        self.catalog.put_task(TASK, [])
        with self.assertRaisesRegex(
            StorageError, "-1: expected its place in 11 bytes in pieces of 10, got 2 bytes at 10"
        ):
            self.catalog.commit_pieces(TASK, [FIRST, replace(LAST, length=2)])
        with self.assertRaisesRegex(StorageError, "expected pieces of 10 bytes, got 5"):
            self.catalog.commit_pieces(replace(TASK, content_length=None, piece_length=5), [FIRST])
        self.assertEqual(self.pieces(), [])

    def test_drop_pieces(self) -> None:
        """Dropped pieces are gone if they are the ones that are meant, and the task with its last one."""
        self.catalog.put_task(TASK, [FIRST, LAST])
        self.catalog.drop_pieces(TASK.kind, TASK.task_id, {0: "crc32:8", 1: LAST.digest, 5: "crc32:0"})
        self.assertEqual(self.pieces(), [self.stored(FIRST)])
        self.assertEqual(self.catalog.list_tasks(), [replace(TASK, content_length=None)])
        self.catalog.drop_pieces(TASK.kind, TASK.task_id, {0: FIRST.digest})
        self.assertEqual(self.catalog.list_tasks(), [])

    def test_damage(self) -> None:
        """A mark stays over a reopening, and says why; a mark without a reason is one as well."""
        self.catalog.put_task(TASK, [FIRST, LAST])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 0, "expected 10 bytes, got 3")
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 1, "")
        self.catalog.close()
        self.catalog.open()
        self.assertEqual(self.pieces(), [self.stored(FIRST, "expected 10 bytes, got 3"), self.stored(LAST, "damaged")])

    def test_doubt(self) -> None:
        """The pieces of a task in doubt are marked, damaged ones stay so, and all others are as before in the end."""
        self.catalog.put_task(TASK, [FIRST, LAST])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 1, "short")
        self.catalog.doubt_task(TASK.kind, TASK.task_id)
        self.assertEqual(self.pieces(), [self.stored(FIRST, IN_DOUBT), self.stored(LAST, "short")])
        self.catalog.settle_task(TASK.kind, TASK.task_id)
        self.assertEqual(self.pieces(), [self.stored(FIRST), self.stored(LAST, "short")])

    def test_remove(self) -> None:
        """A removed task takes its pieces with it, and no other's."""
        other = replace(TASK, task_id="another")
        self.catalog.put_task(TASK, [FIRST])
        self.catalog.put_task(other, [FIRST])
        self.assertTrue(self.catalog.remove_task(TASK.kind, TASK.task_id))
        self.assertFalse(self.catalog.remove_task(TASK.kind, TASK.task_id))
        self.assertEqual(self.catalog.list_tasks(), [other])
        self.catalog.put_task(replace(TASK, kind=PieceKind.CACHE), [])
        self.assertEqual(self.catalog.get_pieces(PieceKind.CACHE, TASK.task_id), [])
        self.assertEqual(len(self.catalog.get_pieces(TASK.kind, other.task_id)), 1)

    def test_big_numbers(self) -> None:
        """Numbers have 64 bits without sign, although SQLite's have one; more is refused."""
        for number in (1 << 63, (1 << 64) - 1, (1 << 63) - 1):
            task = replace(TASK, content_length=number, created_at=-(1 << 63))
            piece = replace(FIRST, offset=number, length=number, cost=number, created_at=(1 << 63) - 1)
            self.catalog.put_task(task, [piece])
            self.assertEqual(self.catalog.get_task(TASK.kind, TASK.task_id), task)
            self.assertEqual(self.pieces(), [self.stored(piece)])
        for number in (1 << 64, -1):
            with self.assertRaisesRegex(StorageError, f"64 bits without sign, got {number}"):
                self.catalog.put_task(replace(TASK, content_length=number), [])
            with self.assertRaisesRegex(StorageError, f"64 bits without sign, got {number}"):
                self.catalog.get_piece(TASK.kind, TASK.task_id, number)

    def test_read_while_written(self) -> None:
        """A reader sees what was committed, and does not wait for a change under way."""
        other = self.open()

        def pieces() -> Iterator[PieceMetadata]:
            yield FIRST
            self.assertEqual(other.list_tasks(), [])

        self.catalog.put_task(TASK, pieces())
        self.assertEqual(other.list_tasks(), [TASK])

    def test_nothing_between(self) -> None:
        """No other process changes what a change has looked at before it writes."""
        self.patch(database, "BUSY_TIMEOUT", 0.01)
        other = self.open()
        get_task = self.catalog.get_task

        def interrupted(kind: PieceKind, task_id: str) -> StoredTask:
            with self.assertRaisesRegex(StorageFailure, "database is locked"):
                other.put_task(TASK, [FIRST])
            return get_task(kind, task_id)

        self.patch(self.catalog, "get_task", interrupted)
        self.catalog.commit_pieces(TASK, [LAST])
        self.assertEqual(other.get_pieces(TASK.kind, TASK.task_id), [self.stored(LAST)])

    def test_full_disk(self) -> None:
        """A change for which there is no room is a failure that changes nothing, and smaller ones go on."""
        self.catalog.put_task(TASK, [FIRST])
        pieces = [replace(FIRST, number=number) for number in range(20_000)]
        self.catalog._database.connection.execute("PRAGMA max_page_count = 64")
        with self.assertRaisesRegex(StorageFailure, "cannot write .*catalog.sqlite3: database or disk is full"):
            self.catalog.put_task(replace(TASK, piece_length=5), pieces)
        self.assertEqual(self.pieces(), [self.stored(FIRST)])
        self.catalog.mark_damaged(TASK.kind, TASK.task_id, 0, "short")
        self.assertEqual(self.pieces(), [self.stored(FIRST, "short")])

    def test_closed(self) -> None:
        """A closed catalog says so, whatever it is asked; closing it again is nothing."""
        self.catalog.close()
        self.catalog.close()
        for use in (self.catalog.list_tasks, lambda: self.catalog.put_task(TASK, [])):
            with self.assertRaisesRegex(StorageFailure, "to be open, it is closed"):
                use()

    def test_block(self) -> None:
        """As a context manager it is open inside the block, and nothing is made before."""
        directory = Path(self.mktemp())
        catalog = Catalog(directory)
        self.assertFalse(directory.exists())
        with catalog as opened:
            self.assertIs(opened, catalog)
            self.assertEqual(catalog.list_tasks(), [])
        with self.assertRaisesRegex(StorageFailure, "to be open, it is closed"):
            catalog.list_tasks()
