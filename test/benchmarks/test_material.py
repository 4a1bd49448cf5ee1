"""What is fetched, and on which ground."""

from __future__ import annotations

import hashlib
import resource
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.material import (
    have_free_memory,
    import_file,
    make_certificate,
    make_file,
    read_all,
)
from benchmarks.processes import DidNotWork
from dragonfly_vortex.storage.catalog import Catalog
from dragonfly_vortex.wire import PieceKind
from test.transport.cold import cold_file, is_resident


class MaterialTests(SynchronousTestCase):
    """Files and tasks."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.source = self.directory / "file"

    def test_file(self) -> None:
        """A file has the length that is asked for, whole steps or not, and cannot be compressed."""
        make_file(self.source, 2**21 + 5)
        content = self.source.read_bytes()
        self.assertEqual(len(content), 2**21 + 5)
        self.assertNotEqual(content[: 2**20], content[2**20 : 2**21])
        self.assertEqual(len(set(content)), 256)

    def test_import(self) -> None:
        """A task has the file's digest for an ID, the given piece length, and the file's own bytes on the disk."""
        make_file(self.source, 3_000_000)
        task = import_file(self.source, 2_000_000, self.directory / "storage")
        self.assertEqual(task.task_id, hashlib.sha256(self.source.read_bytes()).hexdigest())
        with Catalog(task.storage) as catalog:
            stored = catalog.get_task(PieceKind.STANDARD, task.task_id)
        self.assertEqual((stored.content_length, stored.piece_length), (3_000_000, 2_000_000))
        self.assertEqual(self.source.stat().st_nlink, 2)

    def test_import_fails(self) -> None:
        """An import that fails says what the program said."""
        error = self.assertRaises(DidNotWork, import_file, self.source, 2_000_000, self.directory / "storage")
        self.assertIn("expected 0: dfvortex: ", str(error))
        self.assertIn("No such file", str(error))

    def test_read_all(self) -> None:
        """Every file below the directory is in memory, the deeper ones too."""
        paths = [self.source, self.directory / "a" / "copy"]
        paths[1].parent.mkdir()
        (self.directory / "another name").symlink_to(self.source)
        for path in paths:
            cold_file(path, 512 * 1024)
        read_all(self.directory)
        for path in paths:
            with path.open("rb") as file:
                for offset in (0, 256 * 1024, 512 * 1024 - 1):
                    self.assertTrue(is_resident(file.fileno(), offset))


class GroundTests(SynchronousTestCase):
    """What a turn needs beside the task."""

    def test_free_memory(self) -> None:
        """So much has been in memory at once, every page of it."""
        length = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 32 * 2**20
        have_free_memory(length)
        self.assertGreaterEqual(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, length)

    def test_certificate(self) -> None:
        """It is for 127.0.0.1, signed by itself, and fits its key."""
        directory = Path(self.mktemp())
        directory.mkdir()
        make_certificate(directory)
        certificate = x509.load_pem_x509_certificate((directory / "certificate.pem").read_bytes())
        key = load_pem_private_key((directory / "key.pem").read_bytes(), None)
        certificate.verify_directly_issued_by(certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual([str(each) for each in names.get_values_for_type(x509.IPAddress)], ["127.0.0.1"])
        self.assertEqual(key.public_key(), certificate.public_key())
