"""The plain client, against servers that say what a test wants."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import socket
import struct
import termios
import threading
import time
from itertools import cycle

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.client import WIRE_FORMATS, Exchange, Reader, batches, connect, fetch, learn
from benchmarks.processes import DidNotWork

TASK_ID = hashlib.sha256(b"abcdefghij").hexdigest()
HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\n\r\n"


def vortex(content: bytes, tag: int = 1) -> bytes:
    """A reply by Vortex, with metadata of five bytes."""
    return struct.pack("!BBI", 7, tag, 5) + b"value" + content


class ClientTestCase(SynchronousTestCase):
    """Has a server with a file of ten bytes, four in a piece."""

    def setUp(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listener.close)
        self.port = self.listener.getsockname()[1]
        self.asked: list[bytes] = []

    def serve(self, *answers: bytes, end: bytes = b"") -> None:
        """
        Answer requests on one connection, each byte in a segment of its own, then end it.

        :param end: of a request; without one it has the length of Vortex's.
        """

        def answer() -> None:
            connection, _ = self.listener.accept()
            with connection, contextlib.suppress(ConnectionError):  # the client may end it first
                for each in answers:
                    asked = b""
                    while not (asked.endswith(end) if end else len(asked) == 74):
                        byte = connection.recv(1)
                        if not byte:  # the client has ended it
                            return
                        asked += byte
                    self.asked.append(asked)
                    for start in range(len(each)):
                        connection.sendall(each[start : start + 1])

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)


class FetchTests(ClientTestCase):
    """One piece at a time."""

    def fetch(self, wire: str, target: str, start: int, end: int, number: int) -> tuple[int, bytes]:
        """Fetch a piece: the reply's length, and the content."""
        content: list[bytes] = []
        with connect(self.port) as connection:
            length = fetch(
                *(connection, WIRE_FORMATS[wire](target), start, end, number),
                *(memoryview(bytearray(4096)), lambda data: content.append(bytes(data))),
            )
        return length, b"".join(content)

    def test_http(self) -> None:
        """A range is asked for."""
        self.serve(HEAD + b"efgh", end=b"\r\n\r\n")
        self.assertEqual(self.fetch("http", "/file", 4, 8, 1), (len(HEAD) + 4, b"efgh"))
        self.assertTrue(self.asked[0].startswith(b"GET /file HTTP/1.1\r\n"))
        self.assertIn(b"\r\nRange: bytes=4-7\r\n", self.asked[0])

    def test_vortex(self) -> None:
        """A piece is asked for by task and number."""
        self.serve(vortex(b"efgh"))
        self.assertEqual(self.fetch("vortex", TASK_ID, 4, 8, 1), (15, b"efgh"))
        request = b"\x01\x00" + struct.pack("!I", 68) + TASK_ID.encode() + struct.pack("!I", 1)
        self.assertEqual(self.asked, [request])

    def test_header_in_parts(self) -> None:
        """A header whose length is known before all of it has arrived is no content."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        reply = vortex(b"efgh")

        def answer() -> None:
            with theirs:
                theirs.recv(74)
                theirs.sendall(reply[:6])
                deadline = time.monotonic() + 120
                while fcntl.ioctl(ours, termios.FIONREAD, bytes(4)) != bytes(4) and time.monotonic() < deadline:
                    pass  # until the client has read it
                theirs.sendall(reply[6:])

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        content: list[bytes] = []
        wire, buffer = WIRE_FORMATS["vortex"](TASK_ID), memoryview(bytearray(4096))
        fetch(ours, wire, 4, 8, 1, buffer, lambda data: content.append(bytes(data)))
        self.assertEqual(b"".join(content), b"efgh")

    def test_refused(self) -> None:
        """A reply that is not what was asked for is an error."""
        self.serve(b"HTTP/1.1 404 Not Found\r\n\r\n", end=b"\r\n\r\n")
        error = self.assertRaises(DidNotWork, self.fetch, "http", "/file", 0, 4, 0)
        self.assertIn("expected a part of the file, got b'HTTP/1.1 4", str(error))

    def test_refused_by_vortex(self) -> None:
        """An error packet is an error."""
        self.serve(vortex(b"", tag=255))
        error = self.assertRaises(DidNotWork, self.fetch, "vortex", TASK_ID, 0, 4, 0)
        self.assertIn("got a packet with tag 255", str(error))

    def test_cut_short(self) -> None:
        """A connection that ends before the piece does is an error."""
        self.serve(vortex(b"abc"))
        self.assertRaises(DidNotWork, self.fetch, "vortex", TASK_ID, 0, 4, 0)


class ExchangeTests(ClientTestCase):
    """Requests whose replies are known."""

    def test_learn(self) -> None:
        """Every piece is fetched once; the last one is shorter."""
        self.serve(vortex(b"abcd"), vortex(b"efgh"), vortex(b"ij"))
        exchanges = learn(self.port, WIRE_FORMATS["vortex"](TASK_ID), 10, 4, TASK_ID)
        self.assertEqual([each.length for each in exchanges], [15, 15, 13])
        self.assertEqual([each.request for each in exchanges], self.asked)

    def test_other_content(self) -> None:
        """Content with another digest is an error."""
        self.serve(vortex(b"abcd"), vortex(b"efgh"), vortex(b"i!"))
        self.assertRaises(DidNotWork, learn, self.port, WIRE_FORMATS["vortex"](TASK_ID), 10, 4, TASK_ID)

    def test_batches(self) -> None:
        """Requests that are sent at once have all their replies' bytes."""
        exchanges = [Exchange(request=bytes([number]), length=number) for number in range(1, 6)]
        self.assertEqual(
            batches(exchanges, 2),
            [
                Exchange(request=b"\1\2", length=3),
                Exchange(request=b"\3\4", length=7),
                Exchange(request=b"\5", length=5),
            ],
        )

    def test_reader(self) -> None:
        """Connections share what is wanted; a reader may stop when it has enough, and go on."""
        one = Exchange(request=bytes(74), length=20)
        for _ in range(2):
            self.serve(*[bytes(20)] * 3)
        with Reader(self.port, 2, cycle([one])) as reader:
            reader.read(lambda: all(reader.received.values()))
            self.assertEqual(len(reader.received), 2)
            self.assertRaises(DidNotWork, reader.read)  # the server ends a connection after three replies
        self.assertGreaterEqual(sum(reader.received.values()), 60)

    def test_reader_to_the_end(self) -> None:
        """Without more to ask for it is done."""
        self.serve(*[bytes(20)] * 3)
        with Reader(self.port, 1, iter([Exchange(request=bytes(74), length=20)] * 3)) as reader:
            reader.read()
        self.assertEqual(list(reader.received.values()), [60])
