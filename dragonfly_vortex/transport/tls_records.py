"""
Encrypts and decrypts many TLS records at a time, in memory that is kept.

pyOpenSSL makes a new buffer for each record that it reads, copies it twice, and asks for errors after each. For a
gigabyte that takes a third of the time of :func:`decrypt`. So records are read and written here by the functions of
OpenSSL that pyOpenSSL itself calls. What does not go well is done again by pyOpenSSL's methods, which raise its errors.
A version of pyOpenSSL whose connections look different is used by its methods alone.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

__all__ = ["RECORD", "decrypt", "encrypt", "receive", "take_output", "window"]

RECORD = 16 * 1024
"""Bytes of content that a record has at most (RFC 8446, section 5.1)."""

_OVERHEAD = 256
"""More bytes than a record has beside its content."""

_KEPT = 320 * 1024
"""Bytes of memory that a thread keeps for records or for their content: more than are moved at a time."""

_READ = 256 * 1024
"""Bytes to read from a socket at a time. Their content, and that of a record before, fits into the kept memory."""

_openssl: Any = Binding.lib
_ffi: Any = Binding.ffi


class _Kept(threading.local):
    """Memory that all connections of a thread use in turns, so that it stays in the processor's cache."""

    def __init__(self) -> None:
        self.output = memoryview(bytearray(_KEPT))
        self.output_start = _ffi.from_buffer("char[]", self.output, require_writable=True)
        self.plain = memoryview(bytearray(_KEPT))


_kept = _Kept()


def window(length: int) -> memoryview:
    """
    Memory for content that is to be encrypted. The thread's next caller gets the same.

    :param length: bytes, at most 320 KiB.
    """
    return _kept.plain[:length]


def encrypt(connection: SSL.Connection, content: bytes | memoryview) -> bytes | memoryview:
    """
    Encrypt content.

    :param connection: with complete handshake, over memory, none of whose output is waiting.
    :returns: the records. They are good until the thread's next call of this module.
    :raises OpenSSL.SSL.Error: nothing can be sent any more.
    """
    space = len(content) + _OVERHEAD * (2 + len(content) // RECORD)
    session, output = getattr(connection, "_ssl", None), getattr(connection, "_from_ssl", None)
    if session is None or output is None or not content or space > _KEPT:
        connection.sendall(content)
        return connection.bio_read(space)
    written = max(0, _openssl.SSL_write(session, _ffi.from_buffer(content), len(content)))
    if written < len(content):  # the context lets OpenSSL take a part; or it has failed, and fails again
        connection.sendall(content[written:])
    got = _openssl.BIO_read(output, _kept.output_start, space)
    return _kept.output[:got] if got > 0 else connection.bio_read(space)


def decrypt(connection: SSL.Connection, records: bytes | memoryview) -> tuple[bytes, SSL.Error | None]:
    """
    Decrypt records, and the part of one that came before. A part of a record at the end is for the next call.

    :param connection: with complete handshake, over memory.
    :returns: their content, and the error behind it: :class:`OpenSSL.SSL.ZeroReturnError` at the end of what the other
        side sends, None where there is none.
    """
    connection.bio_write(records)
    return _read_all(connection)


def receive(connection: SSL.Connection, sock: socket.socket, length: int) -> tuple[memoryview, SSL.Error | None]:
    """
    Read once from a socket into memory that is kept, and decrypt what was read, as :func:`decrypt` does.

    :param connection: as for :func:`decrypt`.
    :param sock: does not block.
    :param length: bytes to read, at most 256 KiB of them.
    :returns: the content, which is good until the thread's next call of this module, and the error behind it. There is
        no content where the other side sends no more, and where less than a record was read.
    :raises BlockingIOError: there is nothing to be read now.
    :raises OSError: the socket cannot be read.
    """
    got = sock.recv_into(_kept.plain, min(length, _READ))
    if not got:
        return memoryview(b""), None
    connection.bio_write(_kept.plain[:got])
    session, at = getattr(connection, "_ssl", None), 0
    if session is not None:
        at, last = _fill(session)
        if last <= 0 and _lacks_bytes(session, last):
            return _kept.output[:at], None
    first = bytes(_kept.output[:at])
    rest, error = _read_all(connection)
    return memoryview(first + rest), error


def take_output(connection: SSL.Connection) -> bytes:
    """
    Take the bytes that OpenSSL itself sends to the other side after a :func:`decrypt`: almost always none.

    :param connection: as for :func:`decrypt`.
    """
    output = getattr(connection, "_from_ssl", None)
    if output is not None:
        got = _openssl.BIO_read(output, _kept.output_start, _KEPT)
        return bytes(_kept.output[:got]) if got > 0 else b""
    try:
        return connection.bio_read(_KEPT)
    except SSL.WantReadError:
        return b""


def _read_all(connection: SSL.Connection) -> tuple[bytes, SSL.Error | None]:
    """Read the content of all whole records, and the error behind it, as :func:`decrypt` returns them."""
    parts: list[bytes] = []
    session, last = getattr(connection, "_ssl", None), 1
    while session is not None and last > 0:
        at, last = _fill(session)
        parts.append(bytes(_kept.output[:at]))
    if session is not None and _lacks_bytes(session, last):
        return b"".join(parts), None
    try:
        while True:
            parts.append(connection.recv(RECORD))
    except SSL.WantReadError:
        return b"".join(parts), None
    except SSL.Error as error:
        return b"".join(parts), error


def _fill(session: object) -> tuple[int, int]:
    """Read the content of records into the kept memory: how many bytes, and the result of the last read."""
    read, start, at, last = _openssl.SSL_read, _kept.output_start, 0, 1
    while at <= _KEPT - RECORD and (last := read(session, start + at, RECORD)) > 0:
        at += last
    return at, last


def _lacks_bytes(session: object, last: int) -> bool:
    """Whether a read has failed only because no whole record is there."""
    return bool(_openssl.SSL_get_error(session, last) == _openssl.SSL_ERROR_WANT_READ)
