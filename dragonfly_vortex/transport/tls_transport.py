"""
A TLS transport that moves many records at a time.

Twisted's reads and writes one record of 16 KiB at a time, and hands each to the protocol by itself. A piece has some
hundreds of records, and what is done for each of them costs more than its encryption.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import ITransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from dragonfly_vortex.transport import tls_records
from dragonfly_vortex.transport.tls_records import RECORD

__all__ = ["TLSTransport", "prefer_fast_ciphers", "write_whole"]

_ENABLE_PARTIAL_WRITE = 0x1
"""OpenSSL's ``SSL_MODE_ENABLE_PARTIAL_WRITE``, which pyOpenSSL sets and does not name."""


def write_whole(context: SSL.Context) -> None:
    """
    Have all records of a write made by one call of OpenSSL, in place of one call for each record.

    :param context: of connections that write into memory, which is never full.
    """
    context.clear_mode(_ENABLE_PARTIAL_WRITE)


_AES, _CHACHA = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"
"""All ciphers that TLS 1.3 has by default, in two parts."""

_PRIORITIZE_CHACHA = 0x200000
"""OpenSSL's ``SSL_OP_PRIORITIZE_CHACHA``, which pyOpenSSL does not name."""


def prefer_fast_ciphers(context: SSL.Context, processor: Path = Path("/proc/cpuinfo")) -> None:
    """
    Prefer the cipher that costs least, of those that OpenSSL allows by default: AES-128-GCM where both sides have
    instructions for AES, ChaCha20 where one of them has none. The server chooses; a client without the instructions
    names ChaCha20 first.

    :param context: of either side.
    :param processor: Linux's description of the processor. Where there is none, nothing changes.
    """
    has_aes = _has_aes_instructions(processor)
    if has_aes is not None:
        context.set_tls13_ciphersuites(":".join((_AES, _CHACHA) if has_aes else (_CHACHA, _AES)).encode("ascii"))
        context.set_options(_PRIORITIZE_CHACHA)


def _has_aes_instructions(path: Path) -> bool | None:
    """Whether the processor has instructions for AES; None where that is not known."""
    try:
        described = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", described, re.MULTILINE)
    return None if flags is None else "aes" in flags[1].split()


class TLSTransport(TLSMemoryBIOProtocol):
    """
    TLS over a connection.

    :cvar aggregates: whether small writes are put together, and encrypted in the next turn of the reactor. If not, what
        a protocol writes is encrypted at once.
    """

    aggregates = False
    _established = False
    _error: SSL.Error | None = None  # behind the content that was received past the transport beneath

    def window(self, length: int) -> memoryview:
        """
        Memory for content that is to be encrypted. It is hot in the processor's cache, and this thread's next caller
        gets the same.

        :param length: bytes, at most 320 KiB.
        """
        return tls_records.window(length)

    def encrypt(self, content: bytes | memoryview) -> bytes | memoryview:
        """
        Encrypt content for a caller that sends it itself: at once, and where nothing waits in the transport beneath.

        :param content: of a connection whose handshake is complete.
        :returns: the bytes to send. They are good until this thread encrypts or decrypts again.
        :raises ConnectionLost: nothing can be sent any more.
        """
        connection: SSL.Connection | None = self.getHandle()
        if connection is None:
            raise ConnectionLost("TLS has ended")
        try:
            return tls_records.encrypt(connection, content)
        except SSL.Error as error:
            raise ConnectionLost("TLS has ended") from error

    def receive(self, sock: socket.socket, length: int) -> memoryview:
        """
        Read once from the socket beneath, and decrypt: for a protocol that wants more content while it handles some.
        Twisted's transports copy each part into new memory, which takes as long as decrypting it.

        :param sock: the socket that the transport beneath reads.
        :param length: bytes to read, at most 256 KiB of them.
        :returns: the content, good until this thread encrypts or decrypts again. It is empty where the socket has too
            little now, and where the connection ends: that is found by the transport.
        :raises ConnectionLost: the connection has failed; the socket will not say so again.
        """
        connection = self.getHandle()
        if connection is None or self._aborted or self._lostTLSConnection or self._error is not None:
            return memoryview(b"")
        try:
            content, self._error = tls_records.receive(connection, sock, length)
        except BlockingIOError:
            return memoryview(b"")
        except OSError as error:
            raise ConnectionLost(error.strerror) from error
        if self._error is not None and not isinstance(self._error, SSL.ZeroReturnError):
            self._reason = Failure(self._error)  # Twisted's: OpenSSL will give another reason the second time
        return content

    def dataReceived(self, bytes: bytes) -> None:
        """
        Decrypt all records that have arrived, and hand their content to the protocol as one.

        What comes after that end, or after an error, is dropped. Twisted's method would keep it in memory, until the
        other side has read what was sent before.
        """
        if self._lostTLSConnection:
            return
        if len(bytes) > RECORD and not self._appSendBuffer and self._is_established():
            self._receive(bytes)
        elif self.getHandle() is not None:
            super().dataReceived(bytes)  # type: ignore[no-untyped-call] # Twisted's
            self._end(self._error)

    def _is_established(self) -> bool:
        """Whether the handshake is complete."""
        connection = self.getHandle()
        if not self._established and connection is not None:
            self._established = connection.get_peer_finished() is not None
        return self._established

    def _receive(self, records: bytes) -> None:
        """Decrypt records and the part of one that came before; what a part of a record follows is for later."""
        connection = self.getHandle()
        if connection is None:
            return
        content, error = tls_records.decrypt(connection, records)
        if content:
            self.wrappedProtocol.dataReceived(content)
        self._end(error or self._error)
        connection = self.getHandle()
        if connection is not None and (output := tls_records.take_output(connection)):
            cast(ITransport, self.transport).write(output)  # an answer to a change of the keys

    def _end(self, error: SSL.Error | None) -> None:
        """End the connection with an error that was found, unless it has ended already."""
        if error is None or self.getHandle() is None or self._lostTLSConnection:
            return
        if isinstance(error, SSL.ZeroReturnError):
            self._flushReceiveBIO()  # Twisted's, which finds the end again
        else:
            self.failVerification(Failure(error))
