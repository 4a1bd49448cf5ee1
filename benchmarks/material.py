"""Prepares what a benchmark needs: files, tasks in storages, a certificate, free memory."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import ours
from benchmarks.processes import run_to_end

__all__ = [
    "Task",
    "have_free_memory",
    "import_file",
    "import_zeros",
    "make_certificate",
    "make_file",
    "read_all",
]

_STEP = 2**20

_TO_IMPORT = 120.0
"""Seconds that an import has."""

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    A file in a storage.

    :param task_id: its ID, which is the SHA-256 of the file.
    :param source: the file.
    :param storage: the storage's directory.
    """

    task_id: str
    source: Path
    storage: Path


def make_file(path: Path, length: int) -> None:
    """
    Write a file of random bytes, on the disk and in the page cache.

    :param length: in bytes.
    """
    with path.open("xb") as file:
        for start in range(0, length, _STEP):
            file.write(os.urandom(min(_STEP, length - start)))
        file.flush()
        os.fsync(file.fileno())  # or it would be written while something is measured


def import_file(source: Path, piece_length: int, storage: Path, *, package: Path | None = None) -> Task:
    """
    Import a file by ``dfvortex import``, as a link: all storages have their bytes in the same pages.

    :param piece_length: bytes of a piece.
    :param storage: the storage's directory; it is made.
    :param package: a checkout whose package runs; None for the one that is installed.
    :raises DidNotWork: it failed.
    """
    config = storage.with_suffix(".yaml")
    config.write_text(f"storage: {{dir: {storage}}}\n", encoding="utf-8")
    options: list[str | Path] = ["--link", "--config", config, "--piece-length", str(piece_length)]
    command = ours("dfvortex", "import", *options, source, package=package)
    ran = run_to_end(command, storage.parent, _TO_IMPORT).checked("import")
    return Task(task_id=ran.output.splitlines()[-1], source=source, storage=storage)


def import_zeros(length: int, piece_length: int, storage: Path) -> Task:
    """
    Import a sparse file of zeros, for what does not depend on the bytes.

    :param length: bytes of it.
    :param piece_length: bytes of a piece.
    :param storage: the storage's directory, beside which the file is made; it may have other tasks.
    :raises DidNotWork: it failed.
    """
    source = storage.with_name(f"zeros-{length}")
    with source.open("ab") as file:
        file.truncate(length)
    return import_file(source, piece_length, storage)


def read_all(directory: Path) -> None:
    """Read every file below a directory, so that it is in the page cache; once whatever number of names it has."""
    seen = set()
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a database's, whose owner has just deleted it
            if path.is_file() and (number := path.stat().st_ino) not in seen:
                seen.add(number)
                with path.open("rb", buffering=0) as file:
                    while file.read(_STEP):
                        pass


def have_free_memory(length: int) -> None:
    """
    Use memory and free it again. A virtual machine's free memory may be with its host, which gives it back page by page
    as it is written; a program that writes a new file would wait for the host. Hosts take back large pages, so large
    ones are used here.

    :param length: in bytes.
    """
    with mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without large pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        pages = range(0, length, mmap.PAGESIZE)
        memory[:: mmap.PAGESIZE] = bytes(len(pages))


def make_certificate(directory: Path) -> None:
    """Write ``certificate.pem`` of 127.0.0.1, which is its own authority, and ``key.pem``; good for a day."""
    # Not at import: it takes longer to load than all the rest.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # Python 3.13 asks for these two by default.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (directory / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
