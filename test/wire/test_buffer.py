"""
The bytes that wait to be read.
"""

from __future__ import annotations

import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.wire.buffer import ReceiveBuffer

MEBIBYTE = 1024 * 1024


def buffer_of(*chunks: bytes) -> ReceiveBuffer:
    """A buffer that has received the chunks."""
    buffer = ReceiveBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


class ReceiveBufferTests(SynchronousTestCase):
    """Bytes come out in the order in which they went in, and content is not copied on the way."""

    def test_empty(self) -> None:
        """Of an empty buffer nothing can be taken, and of no bytes nothing is missing."""
        buffer = ReceiveBuffer()
        self.assertEqual(len(buffer), 0)
        self.assertIsNone(buffer.take(1))
        self.assertEqual(buffer.take(0), b"")
        self.assertEqual(buffer.take_at_most(1), b"")

    def test_take(self) -> None:
        """What is taken is gone; what is not all there stays."""
        buffer = buffer_of(b"abcdef")
        self.assertEqual(buffer.take(2), b"ab")
        self.assertIsNone(buffer.take(5))
        self.assertEqual(len(buffer), 4)
        self.assertEqual(buffer.take(4), b"cdef")
        self.assertEqual(len(buffer), 0)

    def test_take_over_chunks(self) -> None:
        """What is taken may have come in any number of chunks, with something taken in between."""
        buffer = buffer_of(b"a", b"bc", b"", b"def")
        self.assertEqual(buffer.take(2), b"ab")
        buffer.append(b"gh")
        self.assertEqual(len(buffer), 6)
        self.assertEqual(buffer.take(6), b"cdefgh")
        buffer.append(b"i")
        self.assertEqual(buffer.take(1), b"i")

    def test_take_is_bytes(self) -> None:
        """What is taken whole is bytes of its own, whatever it came in."""
        for buffer in (buffer_of(b"abcdef"), buffer_of(b"abc", b"def")):
            self.assertIs(type(buffer.take(4)), bytes)

    def test_a_chunk_passes_through(self) -> None:
        """A chunk that is nothing but content is handed on as the very object that it came as."""
        chunk = bytes(range(256))
        self.assertIs(buffer_of(chunk).take_at_most(1000), chunk)
        self.assertIs(buffer_of(chunk).take_at_most(256), chunk)

    def test_content_is_a_view(self) -> None:
        """Content with something before or behind it in its chunk is a view of that chunk."""
        chunk = b"header, content, header"
        buffer = buffer_of(chunk)
        buffer.take(8)
        content = buffer.take_at_most(7)
        self.assertIsInstance(content, memoryview)
        self.assertIs(memoryview(content).obj, chunk)
        self.assertEqual(content, b"content")
        self.assertEqual(buffer.take(8), b", header")

    def test_a_view_stays_good(self) -> None:
        """Content that is still held when more is received does not change."""
        for buffer in (buffer_of(b"content, h"), buffer_of(b"cont", b"ent, h")):
            content = buffer.take_at_most(7)
            buffer.append(b"eader")
            buffer.append(b"!")
            self.assertEqual(content, b"content")
            self.assertEqual(buffer.take(len(buffer)), b", header!")

    def test_take_at_most_of_less(self) -> None:
        """Content that has not all come is what has come."""
        for buffer in (buffer_of(b"abc"), buffer_of(b"a", b"bc")):
            self.assertEqual(buffer.take_at_most(10), b"abc")
            self.assertEqual(len(buffer), 0)

    def test_joined_content_is_copied_once(self) -> None:
        """Content in a chunk that had to be joined with a part of a header is copied one time, not two."""
        buffer = buffer_of(b"h", bytes(4 * MEBIBYTE))
        buffer.take(1)
        tracemalloc.start()
        try:
            content = buffer.take_at_most(4 * MEBIBYTE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(len(content), 4 * MEBIBYTE)
        self.assertTrue(peak < 5 * MEBIBYTE, peak)

    def test_what_was_read_is_let_go(self) -> None:
        """A buffer that never runs empty does not keep what has been read from it."""
        tracemalloc.start()
        try:
            buffer = buffer_of(b"ab")
            for _ in range(64):
                buffer.append(bytes(65536))
                buffer.take(65536)
            current, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(len(buffer), 2)
        self.assertTrue(current < 4 * 65536, current)
