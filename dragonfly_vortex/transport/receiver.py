"""
Receives one piece: hashes its content and passes it to the sink chunk by chunk, and compares the digest at the end.

The receiver is the seam between what a connection reads and where that goes. It knows no packets, and of a socket only
that content may be taken from it. It is here that the way of each byte is chosen: through this process, to any sink, or
past it, from the socket to the sink's file.
"""

from __future__ import annotations

import socket
from typing import ClassVar

from msgspec.structs import replace
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger

from dragonfly_vortex.digest import Hasher, hash_of, new_hash, verify
from dragonfly_vortex.errors import DigestMismatch, PieceRefused, SinkFailed, UnexpectedPiece
from dragonfly_vortex.interfaces import IFileSink, IPieceSink
from dragonfly_vortex.model import piece_id
from dragonfly_vortex.system_calls import reason_of
from dragonfly_vortex.transport.splice import Splicer
from dragonfly_vortex.wire import PieceMetadata

__all__ = ["PieceReceiver"]

_MAX_TEXT = 200
"""Characters of a message that repeats what a parent said, which may be 64 KiB long."""


class PieceReceiver:
    """
    Take a piece's content: :meth:`begin`, :meth:`write` for each chunk or :meth:`take` in between, then :meth:`finish`,
    or :meth:`fail` at any point. A sink that has begun gets exactly one ``finish`` or ``fail``, also when one of these
    methods raises.

    :param parent: the parent's address, for messages.
    :param task_id: the task, for messages.
    :param metadata: what the parent says about the piece.
    :param sink: where the bytes go.
    :param allow_empty_digest: take a piece whose parent names no digest, as the reference does; nothing verifies its
        content then.
    :param splicer: moves content from a socket to the sink's file, where there is one; None where all of it is written.
    :param is_source: whether the content comes from a source, which names no digest: it is computed then.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        parent: str,
        task_id: str,
        metadata: PieceMetadata,
        sink: IPieceSink,
        *,
        allow_empty_digest: bool = False,
        splicer: Splicer | None = None,
        is_source: bool = False,
    ) -> None:
        self.metadata = metadata
        self.received = 0
        self._is_source = is_source
        self._parent = parent
        self._task_id = task_id
        self._sink = sink
        self._splicer = splicer
        self._file_sink: IFileSink | None = None if splicer is None else IFileSink(sink, None)
        self._allow_empty_digest = allow_empty_digest
        self._hasher: Hasher | None = None
        self._begun = False

    def begin(self) -> None:
        """
        Get ready for the first byte.

        :raises DigestMismatch: there is no digest, or none that can be computed.
        :raises UnexpectedPiece: the sink refuses the piece.
        :raises SinkFailed: the sink cannot take it.
        """
        self._hasher = self._new_hasher()
        try:
            self._sink.begin(self.metadata)
        except PieceRefused as error:
            raise UnexpectedPiece(self._parent, self._piece_id, str(error)) from error
        except Exception as error:
            raise self._sink_failed(error) from error
        self._begun = True

    def write(self, data: bytes | memoryview) -> None:
        """
        Take the next bytes.

        :raises SinkFailed: they cannot be written.
        """
        self.received += len(data)
        if self._hasher is not None:
            self._hasher.update(data)
        try:
            self._sink.write(data)
        except Exception as error:
            self.fail()
            raise self._sink_failed(error) from error

    def take(self, sock: socket.socket, length: int) -> int:
        """
        Splice the next bytes that a socket holds into the sink's file, where that is faster than reading and writing
        them.

        :param sock: a socket that does not block, and whose bytes are the content as it is.
        :param length: bytes at the most, no more than are missing.
        :returns: how many have been taken. What is left then comes by :meth:`write`, or by this again later.
        :raises ConnectionLost: the connection has failed; the socket will not say so again.
        :raises SinkFailed: what was taken cannot be written.
        """
        taken = 0
        try:
            while taken < length and (moved := self._move(sock, length - taken)):
                taken += moved
        except ConnectionLost:
            raise
        except Exception as error:
            self.fail()
            raise self._sink_failed(error) from error
        return taken

    def finish(self) -> object:
        """
        Verify the piece. From a source, its length and its digest are what came.

        :returns: what the sink made of it.
        :raises DigestMismatch: the content has another digest than the parent named.
        :raises SinkFailed: the sink cannot complete the piece.
        """
        if self._is_source and self._hasher is not None:
            self.metadata = replace(self.metadata, length=self.received, digest=self._hasher.text())
        elif self._hasher is not None and not verify(self._hasher, self.metadata.digest):
            self.fail()
            raise self._mismatch(f"expected content with the digest {self.metadata.digest}, got {self._hasher.text()}")
        try:
            content: object = self._sink.finish()
        except Exception as error:
            self.fail()
            raise self._sink_failed(error) from error
        self._begun = False
        return content

    def fail(self) -> None:
        """Give the piece up, because it will not be completed. Said to the sink once, and only if it has begun."""
        if self._begun:
            self._begun = False
            try:
                self._sink.fail()
            except Exception:  # the piece has failed already, for a better reason
                self.log.failure("the sink of piece {piece} raised an error in its fail method", piece=self._piece_id)

    def _move(self, sock: socket.socket, length: int) -> int:
        """Have bytes moved from a socket to the sink's file, and hash what is there then; how many."""
        splicer = self._splicer
        sink = self._file_sink
        place = sink.place() if sink is not None else None
        if splicer is None or sink is None or place is None:
            return 0
        moved = splicer.move(sock.fileno(), place, length)
        if self._hasher is not None:
            for part in splicer.read_back(place, moved):
                self._hasher.update(part)
        sink.wrote(moved)
        self.received += moved
        return moved

    def _new_hasher(self) -> Hasher | None:
        """What the content is hashed with; None where nothing is to be compared."""
        if self._is_source:
            return new_hash("crc32")
        if not self.metadata.digest:
            if not self._allow_empty_digest:
                raise self._mismatch(
                    "expected a digest, got none; such a piece is taken with download.allow_empty_digest, or where the"
                    " digest of the whole is known"
                )
            self.log.warn(
                "parent {parent} names no digest for piece {piece}: it cannot be verified by itself",
                parent=self._parent,
                piece=self._piece_id,
            )
            return None
        try:
            return hash_of(self.metadata.digest)
        except ValueError as error:
            raise self._mismatch(str(error)[:_MAX_TEXT]) from error

    @property
    def _piece_id(self) -> str:
        """The piece's name, for messages."""
        return piece_id(self._task_id, self.metadata.number)

    def _mismatch(self, reason: str) -> DigestMismatch:
        return DigestMismatch(self._parent, self._piece_id, reason)

    def _sink_failed(self, error: Exception) -> SinkFailed:
        return SinkFailed(f"piece {self._piece_id} from parent {self._parent} could not be written: {reason_of(error)}")
