"""Tests of the tables: what is put into a row comes out of it, in a real database."""

from __future__ import annotations

import sqlite3

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, StorageError
from dragonfly_vortex.model import Origin, StoredPiece, StoredTask
from dragonfly_vortex.storage import tables
from dragonfly_vortex.storage.tables import (
    ADD_TASK,
    PIECE_COLUMNS,
    TASK_COLUMNS,
    piece_of,
    piece_row,
    prepare,
    signed,
    signed_or_null,
    task_key,
    task_of,
    task_row,
)
from dragonfly_vortex.wire import PieceKind, PieceMetadata

TASK = StoredTask(
    kind=PieceKind.PERSISTENT, task_id="abc", content_length=11, piece_length=10, created_at=1_700_000_000
)
PIECE = PieceMetadata(
    number=1,
    offset=10,
    length=1,
    digest="crc32:7",
    parent_id="a-parent",
    traffic_type=2,
    cost=3,
    created_at=1_600_000_000,
)
NUMBERS = (0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


class RowTests(SynchronousTestCase):
    """Values become rows and come out of them."""

    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        prepare(self.connection, 0)

    def test_task(self) -> None:
        """A task comes out as it was put in, with any number of 64 bits, and with no length."""
        for number in (*NUMBERS, None):
            task = replace(TASK, content_length=number, piece_length=number or 0, created_at=-(1 << 63))
            self.connection.execute("DELETE FROM task")
            self.connection.execute(ADD_TASK, task_row(task))
            (row,) = self.connection.execute(f"SELECT {TASK_COLUMNS} FROM task").fetchall()
            self.assertEqual(task_of(row), task)

    def test_digest_and_origin(self) -> None:
        """A task's digest and origin come out as they were put in, and also where there are none."""
        full = Origin(
            url="https://example.com/file?a=\u4e2d",
            tag="tag",
            application="application",
            filtered_query_params=("Signature", "Expires"),
            revision="main",
            piece_length=4 << 20,
            content_for_calculating_task_id="",
            by_blob_digest=True,
            region="region",
            endpoint="https://example.com",
        )
        for task_id in ("abc", "0" * 64):
            for digest in ("", "sha512:00", f"sha256:{task_id}"):
                for origin in (None, Origin(), full):
                    task = replace(TASK, task_id=task_id, digest=digest, origin=origin, source_version=f'"{digest}"')
                    self.connection.execute("DELETE FROM task")
                    self.connection.execute(ADD_TASK, task_row(task))
                    (row,) = self.connection.execute(f"SELECT {TASK_COLUMNS} FROM task").fetchall()
                    self.assertEqual(task_of(row), task)

    def test_digest_that_is_the_id(self) -> None:
        """A row without a digest, as version 1 writes it, is of a task whose ID is the SHA-256 of its content."""
        for task_id, expected in (("0f" * 32, f"sha256:{'0f' * 32}"), ("0F" * 32, ""), ("abc", "")):
            row = ("standard", task_id, 1, 1, 1, None, None, "", 0, None, 0)
            self.assertEqual(task_of(row).digest, expected)
            self.assertEqual(task_row(task_of(row)), row)

    def test_piece(self) -> None:
        """A piece comes out as it was put in, with any number of 64 bits: sound, until it is marked."""
        key = task_key(TASK.kind, TASK.task_id)
        query = f"INSERT INTO piece (kind, task_id, {PIECE_COLUMNS}) VALUES ({', '.join('?' * 11)})"
        for number in NUMBERS:
            piece = replace(PIECE, offset=number, length=number, cost=number)
            self.connection.execute("DELETE FROM piece")
            self.connection.execute(query, (*key, *piece_row(piece)))
            for damage in ("", "short"):
                self.connection.execute("UPDATE piece SET damage = ? WHERE damage <> ?", (damage, damage))
                (row,) = self.connection.execute(f"SELECT {PIECE_COLUMNS} FROM piece").fetchall()
                expected = StoredPiece(kind=TASK.kind, task_id=TASK.task_id, metadata=piece, damage=damage)
                self.assertEqual(piece_of(TASK.kind, TASK.task_id, row), expected)

    def test_key(self) -> None:
        """An ID that no task can have has no key."""
        self.assertEqual(task_key(PieceKind.CACHE, "abc"), ("cache", "abc"))
        for task_id in ("../etc", "", "\udcff"):
            self.assertRaises(NotStored, task_key, PieceKind.CACHE, task_id)

    def test_too_big(self) -> None:
        """A number with more bits, or with a sign, is refused; what is not known is kept as that."""
        for number in (1 << 64, -1):
            for refused in (signed, signed_or_null):
                with self.assertRaisesRegex(StorageError, f"64 bits without sign, got {number}"):
                    refused(number)
        self.assertIsNone(signed_or_null(None))

    def test_unsynced(self) -> None:
        """A piece that may not be on the disk is sound while the kernel runs, and damaged in its next run."""
        row = piece_row(PIECE, is_synced=False)
        self.assertEqual(piece_of(TASK.kind, TASK.task_id, row).damage, "")
        self.patch(tables, "boot_id", lambda: "another")
        self.assertIn("when the machine stopped", piece_of(TASK.kind, TASK.task_id, row).damage)
