"""A store in memory serves pieces as any other."""

from __future__ import annotations

import hashlib
import os

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.interfaces import IPieceStore
from dragonfly_vortex.model import OpenPiece
from dragonfly_vortex.testing.memory_store import MemoryStore, pieces_of
from dragonfly_vortex.wire import PieceKind

KIND = PieceKind.STANDARD


class MemoryStoreTests(SynchronousTestCase):
    """A task of three pieces."""

    def setUp(self) -> None:
        self.content = os.urandom(250)
        self.store = MemoryStore()
        self.task_id = self.store.add(self.content, 100)

    def read(self, opened: OpenPiece) -> bytes:
        """The bytes of what was opened."""
        descriptor, offset, length = opened.range
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def test_pieces(self) -> None:
        """Each piece is there with its place and digest, and a range of it."""
        verifyObject(IPieceStore, self.store)
        self.assertEqual(self.task_id, hashlib.sha256(self.content).hexdigest())
        opened = self.successResultOf(self.store.open_piece(KIND, self.task_id, 2))
        self.assertEqual((opened.metadata.offset, opened.metadata.length), (200, 50))
        self.assertEqual(self.read(opened), self.content[200:])
        opened = self.successResultOf(self.store.open_piece(KIND, self.task_id, 1, 5, 10))
        self.assertEqual(self.read(opened), self.content[105:115])

    def test_missing(self) -> None:
        """What was never there, was removed or is damaged is not stored; a range outside is refused."""
        self.failureResultOf(self.store.open_piece(KIND, self.task_id, 3), NotStored)
        self.store.remove(self.task_id, 0)
        self.failureResultOf(self.store.open_piece(KIND, self.task_id, 0), NotStored)
        self.successResultOf(self.store.mark_damaged(KIND, self.task_id, 1, "too short"))
        self.failureResultOf(self.store.open_piece(KIND, self.task_id, 1), NotStored)
        self.failureResultOf(self.store.open_piece(KIND, self.task_id, 2, 0, 51), StorageFailure)
        self.store.remove(self.task_id)
        self.failureResultOf(self.store.open_piece(KIND, self.task_id, 2), NotStored)

    def test_empty(self) -> None:
        """A content of no bytes is one piece of no bytes."""
        [piece] = pieces_of(b"", 100)
        self.assertEqual((piece.number, piece.length, piece.digest), (0, 0, "crc32:0"))
