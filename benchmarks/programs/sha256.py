"""``python -m benchmarks.programs.sha256 PATH DIGEST``: the SHA-256 of a file, as ``hashlib`` calculates it."""

from __future__ import annotations

import hashlib
import sys

_STEP = 256 * 1024
"""Bytes of a read: they are hashed while they are in the processor's cache."""


def main() -> None:
    """Exit with status 1 where the file has another digest."""
    path, expected = sys.argv[1:]
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_STEP))
    with open(path, "rb", buffering=0) as file:
        while length := file.readinto(buffer):
            digest.update(buffer[:length])
    if digest.hexdigest() != expected:
        sys.exit(f"expected the SHA-256 {expected}, got {digest.hexdigest()}")


if __name__ == "__main__":
    main()
