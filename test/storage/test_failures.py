"""Tests of the storage's failures."""

from __future__ import annotations

import errno
import os
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import NotStored, StorageFailure
from dragonfly_vortex.storage.failures import is_full, is_unwritable, storage_failures


class StorageFailuresTests(SynchronousTestCase):
    """Errors told as failures."""

    def test_told(self) -> None:
        """The disk's and the database's errors say what could not be done, and keep their cause."""
        for cause, words in (
            (OSError(28, "No space left on device"), "No space left on device"),
            (sqlite3.OperationalError("database is locked"), "database is locked"),
        ):
            with self.assertRaises(StorageFailure) as caught, storage_failures("cannot do it"):
                raise cause
            self.assertEqual(str(caught.exception), f"cannot do it: {words}")
            self.assertIs(caught.exception.__cause__, cause)

    def test_passed(self) -> None:
        """Other errors stay what they are."""
        for error in (NotStored("no"), ZeroDivisionError()):
            with self.assertRaises(type(error)), storage_failures("cannot do it"):
                raise error


class CauseTests(SynchronousTestCase):
    """What an error leaves possible."""

    def test_causes(self) -> None:
        """A full disk and a read-only storage differ from each other and from other failures."""
        full = (True, True)
        readable = (False, True)
        other = (False, False)
        for error, expected in (
            (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), full),
            (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), full),
            (sqlite3.OperationalError("database or disk is full"), full),
            (sqlite3.OperationalError("disk I/O error"), full),
            (OSError(errno.EROFS, os.strerror(errno.EROFS)), readable),
            (OSError(errno.EACCES, os.strerror(errno.EACCES)), readable),
            (sqlite3.OperationalError("unable to open database file"), readable),
            (sqlite3.OperationalError("database is locked"), other),
            (sqlite3.DatabaseError("file is not a database"), other),
            (OSError(errno.EIO, os.strerror(errno.EIO)), other),
            (NotStored("no"), other),
        ):
            self.assertEqual((is_full(error), is_unwritable(error)), expected, error)
            with self.assertRaises(Exception) as caught, storage_failures("cannot do it"):
                raise error
            self.assertEqual((is_full(caught.exception), is_unwritable(caught.exception)), expected, error)
