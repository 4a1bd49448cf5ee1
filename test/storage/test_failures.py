"""Tests of the storage's failures."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.storage.failures import storage_failures


class StorageFailuresTests(SynchronousTestCase):
    """Errors told as failures."""

    def test_told(self) -> None:
        """The disk's and the database's errors say what could not be done, and keep their cause."""
        for cause in (OSError(28, "No space left on device"), sqlite3.OperationalError("database is locked")):
            with self.assertRaises(StorageFailure) as caught, storage_failures("cannot do it"):
                raise cause
            self.assertEqual(str(caught.exception), f"cannot do it: {cause}")
            self.assertIs(caught.exception.__cause__, cause)

    def test_passed(self) -> None:
        """Other errors stay what they are."""
        for error in (NotStored("no"), ZeroDivisionError()):
            with self.assertRaises(type(error)), storage_failures("cannot do it"):
                raise error
