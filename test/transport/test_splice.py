"""Bytes go from a socket to their place in a file, or it is said that they do not, and nothing stays in between."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
from unittest import skipIf

from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.model import FilePlace
from dragonfly_vortex.transport.splice import Splicer
from test.transport.test_read_pacing import tcp_pair

CONTENT = bytes(range(256)) * 1024


@skipIf(not hasattr(os, "splice"), "this platform has no splice")
class SplicerTests(SynchronousTestCase):
    """One splicer between a real socket and real files."""

    def setUp(self) -> None:
        self.ours, self.other = tcp_pair()
        self.ours.setblocking(False)
        self.addCleanup(self.other.close)
        self.addCleanup(self.ours.close)
        self.descriptor = self.open()
        self.splicer = Splicer()
        before = set(os.listdir("/proc/self/fd"))

        def assert_nothing_is_open() -> None:
            self.splicer.close()
            self.assertLessEqual(set(os.listdir("/proc/self/fd")), before)

        self.addCleanup(assert_nothing_is_open)

    def open(self, flags: int = os.O_RDWR | os.O_CREAT) -> int:
        """A new file."""
        descriptor = os.open(self.mktemp(), flags)
        self.addCleanup(os.close, descriptor)
        return descriptor

    def limit_files(self, length: int) -> None:
        """Let no file grow longer."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (length, limits[1]))

    def move(self, length: int, offset: int = 0, descriptor: int | None = None) -> int:
        """Move bytes from the socket into a file."""
        place = FilePlace(self.descriptor if descriptor is None else descriptor, offset)
        return self.splicer.move(self.ours.fileno(), place, length)

    def move_all(self, length: int, descriptor: int | None = None) -> None:
        """Move so many bytes to the start of a file, in as many steps as it takes."""
        moved = 0
        while moved < length:
            moved += self.move(length - moved, moved, descriptor)

    def content(self, descriptor: int | None = None) -> bytes:
        """All that is in a file."""
        return os.pread(self.descriptor if descriptor is None else descriptor, 1 << 20, 0)

    def test_moves(self) -> None:
        """No more than was asked for is moved, to its place and nowhere else; the rest stays in the socket."""
        os.pwrite(self.descriptor, b"." * 10, 0)
        self.other.sendall(b"abcdef")
        self.assertEqual(self.move(4, offset=2), 4)
        self.assertEqual(self.content(), b"..abcd....")
        self.assertEqual(self.ours.recv(10), b"ef")
        self.assertEqual(os.lseek(self.descriptor, 0, os.SEEK_CUR), 0)

    def test_many(self) -> None:
        """Many bytes are moved in few steps, and very small segments in any number of them."""
        self.other.sendall(CONTENT)
        self.move_all(len(CONTENT))
        self.assertEqual(self.content(), CONTENT)
        self.other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(1000):
            self.other.send(CONTENT[at : at + 1])
        self.move_all(1000)
        self.assertEqual(self.content()[:1000], CONTENT[:1000])

    def test_nothing(self) -> None:
        """A socket that holds nothing gives nothing, and neither does one at its end."""
        self.assertEqual(self.move(100), 0)
        self.other.send(b"abc")
        self.other.shutdown(socket.SHUT_WR)
        self.assertEqual(self.move(100), 3)
        self.assertEqual((self.move(100), self.ours.recv(1)), (0, b""))

    def test_reset(self) -> None:
        """What came before a reset is moved; the reset is reported, which the socket does only once."""
        self.other.send(b"abc")
        self.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.other.close()
        self.assertEqual(self.move(3), 3)
        error = self.assertRaises(ConnectionLost, self.move, 100)
        self.assertEqual(getattr(error.__cause__, "errno", None), errno.ECONNRESET)
        self.assertEqual(self.ours.recv(1), b"")

    def test_full(self) -> None:
        """A file that takes no more is an error of the file, and what it did not take comes to no other."""
        self.other.sendall(CONTENT[:2000])
        self.limit_files(1000)
        self.assertRaises(OSError, self.move, 2000)
        self.assertEqual(self.content(), CONTENT[:1000])
        self.other.sendall(b"abc")
        other = self.open()
        self.assertEqual(self.move(100, descriptor=other), 3)
        self.assertEqual(self.content(other), b"abc")

    def test_closed_file(self) -> None:
        """A descriptor that is none is an error of the file."""
        self.other.send(b"abc")
        closed = os.dup(self.descriptor)
        os.close(closed)
        self.assertRaises(OSError, self.move, 3, descriptor=closed)

    def test_file_that_cannot(self) -> None:
        """A file that cannot be spliced into is written to."""
        appended = self.open(os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.assertRaises(OSError, self.splice_into, appended)
        read = os.read
        self.patch(os, "read", lambda descriptor, length: read(descriptor, min(length, 10_000)))
        self.other.sendall(CONTENT)
        self.move_all(len(CONTENT), appended)
        self.assertEqual(self.content(appended), CONTENT)
        self.other.sendall(b"abc")
        self.limit_files(len(CONTENT) + 1)
        self.assertRaises(OSError, self.move, 3, descriptor=appended)

    def splice_into(self, descriptor: int) -> None:
        """What a file says to being spliced into."""
        exit_, entrance = os.pipe()
        try:
            os.write(entrance, b"abc")
            os.splice(exit_, descriptor, 3)
        finally:
            os.close(exit_)
            os.close(entrance)

    def test_socket_that_cannot(self) -> None:
        """What cannot be spliced from seems to hold nothing."""
        self.patch(os, "splice", self.refuse)
        self.other.send(b"abc")
        self.assertEqual(self.move(3), 0)
        self.assertEqual(self.ours.recv(3), b"abc")

    def refuse(self, *arguments: object, **options: object) -> int:
        """A kernel that has no splice."""
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def test_no_splice(self) -> None:
        """Where the platform has no splice, a socket seems to hold nothing, and no pipe is made."""
        self.patch(os, "splice", None)
        del os.splice
        self.other.send(b"abc")
        self.assertEqual((self.move(3), self.ours.recv(3)), (0, b"abc"))

    def test_no_descriptor(self) -> None:
        """Where no descriptor is left for a pipe, a socket seems to hold nothing until there is one."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.other.send(b"abc")
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        self.assertEqual(self.move(3), 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual(self.move(3), 3)

    def test_no_progress(self) -> None:
        """A file that takes nothing and says nothing is an error, and not an endless loop."""
        splice = os.splice

        def reluctant(source: int, target: int, length: int, offset_dst: int | None = None, flags: int = 0) -> int:
            return splice(source, target, length, flags=flags) if offset_dst is None else 0

        self.patch(os, "splice", reluctant)
        self.other.send(b"abc")
        self.assertRaises(OSError, self.move, 3)

    def test_reads_back(self) -> None:
        """What has been moved is read back in parts, from where it is."""
        os.pwrite(self.descriptor, CONTENT, 7)
        parts = [bytes(part) for part in self.splicer.read_back(FilePlace(self.descriptor, 7), len(CONTENT))]
        self.assertEqual(b"".join(parts), CONTENT)
        self.assertEqual({len(part) for part in parts}, {65536})
        self.assertEqual([*self.splicer.read_back(FilePlace(self.descriptor, 7), 0)], [])

    def test_cut_short(self) -> None:
        """A file that has been cut meanwhile is an error."""
        os.pwrite(self.descriptor, b"abc", 0)
        self.assertRaises(OSError, list, self.splicer.read_back(FilePlace(self.descriptor, 0), 4))
