"""The sinks for a piece's bytes: memory, or a place in an open file."""

from __future__ import annotations

import fcntl
import os

from zope.interface import implementer

from dragonfly_vortex.files import write_all
from dragonfly_vortex.interfaces import IFileSink, IPieceSink
from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["FileSink", "MemorySink"]


@implementer(IPieceSink)
class MemorySink:
    """Keep a piece in memory; :meth:`finish` gives its bytes."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def begin(self, metadata: PieceMetadata) -> None:
        """See :meth:`IPieceSink.begin`."""
        self._chunks = []

    def write(self, data: bytes | memoryview) -> None:
        """See :meth:`IPieceSink.write`."""
        self._chunks.append(bytes(data))

    def finish(self) -> bytes:
        """The piece's bytes."""
        content = b"".join(self._chunks)
        self._chunks = []
        return content

    def fail(self) -> None:
        """See :meth:`IPieceSink.fail`."""
        self._chunks = []


@implementer(IFileSink)
class FileSink:
    """
    Write a piece into an open file, each chunk as it arrives; :meth:`finish` gives None: the bytes are in place.

    The piece is written where this side wants it, whatever offset its parent names: believing the parent has corrupted
    files in production. The file's own position is neither used nor moved, so that many sinks can share a descriptor.

    :param descriptor: open for writing, and not for appending; the caller closes it. Where it is open for
        reading, too, fewer copies are made.
    :param offset: where the piece's first byte goes in the file, in bytes.
    """

    def __init__(self, descriptor: int, offset: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self._position = offset
        self._is_readable = False

    def begin(self, metadata: PieceMetadata) -> None:
        """See :meth:`IPieceSink.begin`."""
        self._position = self.offset
        self._is_readable = fcntl.fcntl(self.descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR

    def write(self, data: bytes | memoryview) -> None:
        """See :meth:`IPieceSink.write`."""
        write_all(self.descriptor, data, self._position)
        self._position += len(data)

    def place(self) -> FilePlace | None:
        """See :meth:`IFileSink.place`."""
        return FilePlace(self.descriptor, self._position) if self._is_readable else None

    def wrote(self, length: int) -> None:
        """See :meth:`IFileSink.wrote`."""
        self._position += length

    def finish(self) -> None:
        """Return None: the bytes are in place."""

    def fail(self) -> None:
        """Leave what was written; it is overwritten when the piece is requested again."""
