"""
A place of its own for another copy of a piece, so that two requests for one piece never write to the same bytes: what
the one has verified the other could spoil.
"""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import IO

from dragonfly_vortex.files import read_exactly, write_all
from dragonfly_vortex.model import FilePlace

__all__ = ["SparePlace"]

_BLOCK = 1024 * 1024


class SparePlace:
    """
    A file without a name, which ends with its descriptor, however this process ends.

    :param directory: where it takes its room: on the file system that the piece goes to in the end.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None

    @property
    def descriptor(self) -> int:
        """
        The file, open for reading and writing.

        :raises OSError: it is not open.
        """
        if self._file is None:
            raise OSError(errno.EBADF, "the place of another copy of a piece is not open")
        return self._file.fileno()

    def open(self) -> None:
        """
        Make the file. Blocks.

        :raises OSError: it cannot be made.
        """
        self._file = tempfile.TemporaryFile(buffering=0, dir=self._directory)  # noqa: SIM115  # close() closes it

    def copy(self, place: FilePlace, length: int) -> None:
        """
        Copy the piece to its place. Blocks.

        :param place: of its first byte.
        :param length: bytes of it.
        :raises OSError: it cannot be read, or not be written.
        """
        buffer = memoryview(bytearray(min(_BLOCK, length)))
        for start in range(0, length, _BLOCK):
            block = buffer[: length - start]
            read_exactly(self.descriptor, block, start)
            write_all(place.descriptor, block, place.offset + start)

    def close(self) -> None:
        """Give the room back. Blocks; closed already, nothing is done."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
