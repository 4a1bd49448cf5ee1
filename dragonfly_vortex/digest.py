"""
Digests of pieces and contents, in the form of text that the wire and the catalog use.

CRC-32 comes from ``isal`` where that can be imported, and from ``zlib`` at a seventh of the speed where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Protocol

__all__ = ["Hasher", "crc32_of", "digest_of_id", "hash_of", "new_hash", "parse_digest", "verify"]

_VALUE = {"crc32": r"[0-9]{1,10}", "sha256": r"[0-9a-f]{64}", "sha512": r"[0-9a-f]{128}"}
"""What a digest's value looks like, by algorithm."""


@cache
def crc32_of() -> Callable[[bytes | bytearray | memoryview, int], int]:
    """The function that continues a CRC-32. It is loaded when it is first needed: not all commands do."""
    try:
        from isal.isal_zlib import crc32
    except ImportError:
        from zlib import crc32
    return crc32


class Hasher(Protocol):
    """A digest that is computed chunk by chunk."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes."""

    def text(self) -> str:
        """The digest of all bytes so far, as it is written on the wire: ``crc32:<decimal>`` or ``sha256:<hex>``."""


class _Crc32:
    """CRC-32, written in decimal."""

    def __init__(self) -> None:
        self._crc32 = crc32_of()
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._crc32(data, self._value)

    def text(self) -> str:
        return f"crc32:{self._value}"


class _Sha:
    """A hash of the SHA-2 family, written in hexadecimal."""

    def __init__(self, algorithm: str) -> None:
        import hashlib  # which loads OpenSSL: commands that hash nothing do without

        self._hash = hashlib.new(algorithm)
        self.update = self._hash.update

    def text(self) -> str:
        return f"{self._hash.name}:{self._hash.hexdigest()}"


def new_hash(algorithm: str) -> Hasher:
    """
    A new digest, of no bytes yet.

    :param algorithm: ``crc32``, ``sha256`` or ``sha512``.
    :raises ValueError: it is none of these.
    """
    _check_algorithm(algorithm)
    return _Crc32() if algorithm == "crc32" else _Sha(algorithm)


def hash_of(digest: str) -> Hasher:
    """
    A new digest, of no bytes yet, to be compared with a piece's.

    :param digest: what a parent says that the piece has.
    :raises ValueError: it is no digest, see :func:`parse_digest`.
    """
    value = digest[6:]
    if digest[:6] == "crc32:" and value.isdecimal() and value.isascii() and len(value) <= 10:
        return _Crc32()  # what nearly all pieces have, without a regular expression
    return new_hash(parse_digest(digest)[0])


def parse_digest(text: str) -> tuple[str, str]:
    """
    A digest's algorithm and value.

    :param text: ``crc32:<decimal>``, ``sha256:<hex>`` or ``sha512:<hex>``, hexadecimal in small letters.
    :raises ValueError: it is none of these.
    """
    algorithm, separator, value = text.partition(":")
    if not separator:
        raise ValueError(f"expected a digest like crc32:<decimal>, got {text!r}")
    _check_algorithm(algorithm)
    if not re.fullmatch(_VALUE[algorithm], value):
        raise ValueError(f"expected a {algorithm} digest with a value like {_VALUE[algorithm]}, got {text!r}")
    return algorithm, value


def digest_of_id(task_id: str) -> str:
    """
    The digest of a content whose SHA-256 is the ID of its task.

    :returns: ``sha256:<hex>``; empty for an ID that cannot be a SHA-256.
    """
    return f"sha256:{task_id}" if re.fullmatch(_VALUE["sha256"], task_id) else ""


def verify(hasher: Hasher, expected: str) -> bool:
    """
    Whether the hashed bytes have the expected digest.

    The two are compared as texts, as the reference does (``dragonfly-client-util``, ``digest/mod.rs``): a CRC-32 with
    leading zeros is another digest.
    """
    return hasher.text() == expected


def _check_algorithm(algorithm: str) -> None:
    """Refuse an unknown algorithm."""
    if algorithm not in _VALUE:
        raise ValueError(f"expected a digest by one of {', '.join(_VALUE)}, got {algorithm!r}")
