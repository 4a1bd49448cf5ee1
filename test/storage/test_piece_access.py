"""Tests of what a store does with rows and files together; how a store is asked is in test_store."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, PieceDamaged, StorageError
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.storage.content import Content
from dragonfly_vortex.storage.database import Access
from dragonfly_vortex.storage.importer import import_file
from dragonfly_vortex.storage.piece_access import PAGE_LENGTH, open_piece, page_of
from dragonfly_vortex.wire import PieceKind
from test.storage.contents import content_of

KIND = PieceKind.STANDARD
CONTENT = content_of(2500)


class PieceAccessTests(SynchronousTestCase):
    """A task of three pieces."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.content = Content(self.directory)
        path = Path(self.mktemp())
        path.write_bytes(CONTENT)
        self.task_id = import_file(path, self.directory, KIND, 1000).task_id

    def catalog(self, access: Access = Access.WRITE) -> Catalog:
        """The catalog, open until the test ends."""
        catalog = Catalog(self.directory, access)
        catalog.open()
        self.addCleanup(catalog.close)
        return catalog

    def test_page_of(self) -> None:
        """A page of rows begins at a multiple of its length."""
        for number in (0, 1, PAGE_LENGTH - 1, PAGE_LENGTH, 5 * PAGE_LENGTH + 3):
            page = page_of(number)
            self.assertIn(number, page)
            self.assertEqual((page[0] % PAGE_LENGTH, len(page)), (0, PAGE_LENGTH))

    def test_open(self) -> None:
        """A piece comes with its neighbours' rows, and with the range that was asked for."""
        opened = open_piece(self.catalog(), self.content, KIND, self.task_id, 1, 10, 20)
        descriptor, offset, length = opened.piece.range
        self.addCleanup(os.close, descriptor)
        self.assertEqual(os.pread(descriptor, length, offset), CONTENT[1010:1030])
        self.assertEqual(sorted(opened.rows), [0, 1, 2])
        with self.assertRaises(NotStored):
            open_piece(self.catalog(), self.content, KIND, self.task_id, 3, 0, None)
        with self.assertRaises(StorageError):
            open_piece(self.catalog(), self.content, KIND, self.task_id, 0, 1, 1000)

    def test_no_file(self) -> None:
        """A piece without a file is damaged, and is marked so where that can be written."""
        self.content.path(KIND, self.task_id).unlink()
        for access, damage in ((Access.READ, ""), (Access.WRITE, "expected a file, got none")):
            catalog = self.catalog(access)
            with self.assertRaisesRegex(PieceDamaged, "expected a file, got none"):
                open_piece(catalog, self.content, KIND, self.task_id, 0, 0, None)
            self.assertEqual(catalog.get_piece(KIND, self.task_id, 0).damage, damage)
