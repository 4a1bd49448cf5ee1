"""The plain client, against parents that say what a test wants."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from twisted.trial.unittest import TestCase

from benchmarks.programs.plain import SPEECHES, read_pieces


class PlainTests(TestCase):
    """Reading pieces of a file of ten bytes, four in a piece."""

    def setUp(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.asked: list[bytes] = []

    def serve(self, answers: list[bytes], is_asked: Callable[[bytes], bool]) -> None:
        """Answer requests on one connection, each byte in a segment of its own, then end it."""

        def answer() -> None:
            connection, _ = self.listener.accept()
            with connection, contextlib.suppress(ConnectionError):  # who has read enough ends it
                for each in answers:
                    asked = b""
                    while not is_asked(asked):
                        asked += connection.recv(1)
                    self.asked.append(asked)
                    for start in range(len(each)):
                        connection.sendall(each[start : start + 1])

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)

    def read(self, speech: str, target: str, numbers: range) -> None:
        """Read pieces."""
        read_pieces(SPEECHES[speech](target), self.listener.getsockname()[1], 10, 4, numbers)

    def test_http(self) -> None:
        """Ranges are asked for one after the other on one connection, the last one shorter."""
        head = b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n"
        self.serve([head % 4 + b"abcd", head % 2 + b"ij"], lambda asked: asked.endswith(b"\r\n\r\n"))
        self.read("http", "/file", range(0, 3, 2))
        self.assertEqual([asked.split(b"\r\n")[0] for asked in self.asked], [b"GET /file HTTP/1.1"] * 2)
        self.assertIn(b"\r\nRange: bytes=0-3\r\n", self.asked[0])
        self.assertIn(b"\r\nRange: bytes=8-9\r\n", self.asked[1])

    def test_vortex(self) -> None:
        """Pieces are asked for by task and number."""
        head = struct.pack("!BBI", 7, 1, 5) + b"value"
        self.serve([head + b"efgh"], lambda asked: len(asked) == 74)
        self.read("vortex", "a" * 64, range(1, 2))
        self.assertEqual(self.asked, [b"\x01\x00" + struct.pack("!I", 68) + b"a" * 64 + struct.pack("!I", 1)])

    def test_refused(self) -> None:
        """An answer that is not what was asked for is an error."""
        self.serve([b"HTTP/1.1 404 Not Found\r\n\r\n"], lambda asked: asked.endswith(b"\r\n\r\n"))
        error = self.assertRaises(ValueError, self.read, "http", "/file", range(1))
        self.assertIn("expected a part of the file, got b'HTTP/1.1 4", str(error))

    def test_refused_by_vortex(self) -> None:
        """An error packet is an error."""
        self.serve([struct.pack("!BBI", 7, 255, 5) + b"value"], lambda asked: len(asked) == 74)
        error = self.assertRaises(ValueError, self.read, "vortex", "a" * 64, range(1))
        self.assertIn("got a packet with tag 255", str(error))

    def test_cut_short(self) -> None:
        """A connection that ends before the piece does is an error."""
        self.serve([struct.pack("!BBI", 7, 1, 0) + b"abc"], lambda asked: len(asked) == 74)
        self.assertRaises(EOFError, self.read, "vortex", "a" * 64, range(1))
