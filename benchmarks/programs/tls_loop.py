"""
``python -m benchmarks.programs.tls_loop``: bytes under TLS from memory to memory, by a plain loop over pyOpenSSL with
memory BIOs and blocking sockets: the least that TLS costs in Python. ``serve`` sends, ``fetch`` receives.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import struct
from pathlib import Path

from OpenSSL import SSL

from dragonfly_vortex.transport.tls_transport import prefer_fast_ciphers, write_whole

_STEP = 128 * 1024
"""Bytes that are encrypted, sent and received at a time; with more of them it is slower."""

_RECORD = 16 * 1024
_LENGTH = struct.Struct("!Q")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.tls_loop")
    parser.add_argument("role", choices=("serve", "fetch"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, help="the server's, with its key")
    parser.add_argument("--key", type=Path)
    parser.add_argument("--content-length", metavar="BYTES", type=int)
    given = parser.parse_args()
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    write_whole(context)
    prefer_fast_ciphers(context)
    if given.role == "serve":
        context.use_certificate_file(str(given.certificate))
        context.use_privatekey_file(str(given.key))
        _serve(context, given.port)
    else:
        _fetch(context, given.port, given.content_length)


def _serve(context: SSL.Context, port: int) -> None:
    """Send as many bytes as each client asks for, until the process is ended."""
    content = memoryview(os.urandom(_STEP))
    with socket.create_server(("127.0.0.1", port)) as listening:
        print("serving", flush=True)
        while True:
            sock, _ = listening.accept()
            with sock:
                connection = SSL.Connection(context)
                connection.set_accept_state()
                _shake_hands(connection, sock)
                (left,) = _LENGTH.unpack(_first(connection, sock))
                while left:
                    part = content[: min(left, _STEP)]
                    connection.sendall(part)
                    sock.sendall(connection.bio_read(2 * _STEP))
                    left -= len(part)
                sock.recv(1)


def _fetch(context: SSL.Context, port: int, length: int) -> None:
    """Receive bytes, and throw them away."""
    connection = SSL.Connection(context)
    connection.set_connect_state()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        _shake_hands(connection, sock)
        connection.sendall(_LENGTH.pack(length))
        sock.sendall(connection.bio_read(_RECORD))
        received, content = memoryview(bytearray(2 * _STEP)), memoryview(bytearray(_RECORD))
        while length:
            connection.bio_write(received[: sock.recv_into(received)])
            with contextlib.suppress(SSL.WantReadError):
                while length:
                    length -= connection.recv_into(content)


def _shake_hands(connection: SSL.Connection, sock: socket.socket) -> None:
    while True:
        try:
            connection.do_handshake()
            is_done = True
        except SSL.WantReadError:
            is_done = False
        with contextlib.suppress(SSL.WantReadError):
            sock.sendall(connection.bio_read(_RECORD))
        if is_done:
            return
        connection.bio_write(sock.recv(_RECORD))


def _first(connection: SSL.Connection, sock: socket.socket) -> bytes:
    """The first bytes that the other side says."""
    while True:
        try:
            return connection.recv(_RECORD)
        except SSL.WantReadError:
            connection.bio_write(sock.recv(_RECORD))


if __name__ == "__main__":
    main()
