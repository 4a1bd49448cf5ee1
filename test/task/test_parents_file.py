"""A list of parents in a file, and what happens when the file changes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.task.parents_file import INTERVAL, ParentsFile
from test.task.downloading import at_once

_FSTAT = os.fstat

_T = TypeVar("_T")


def _refuse(descriptor: int) -> os.stat_result:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


class ParentsFileTests(SynchronousTestCase):
    """A list that is read by a clock that the test turns."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.clock = Clock()
        self.changes: list[list[str]] = []
        self.errors: list[str] = []
        self.file = ParentsFile(
            self.path,
            self.clock,
            at_once,
            lambda parents: self.changes.append([str(parent) for parent in parents]),
            self.errors.append,
        )

    def write(self, text: str) -> None:
        """Replace the list."""
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, self.path)

    def start(self, text: str = "a:1\n") -> None:
        """Read this list, and look at it from then on."""
        self.write(text)
        self.file.read()
        self.file.start()
        self.addCleanup(self.file.stop)

    def test_lines(self) -> None:
        """Each line is a parent once; empty lines and comments do not count."""
        self.write("# the rack\n\ngrpc://a:4000  # the first\n[::1]:4005\ntcp://a:1\na:1\n  b:2")
        self.assertEqual([str(each) for each in self.file.read()], ["grpc://a:4000", "[::1]:4005", "a:1", "b:2"])

    def test_refused(self) -> None:
        """What cannot be used is refused with the line and what is expected."""
        self.assertIn("cannot be read: No such file", str(self.assertRaises(ConfigError, self.file.read)))
        for text, said in (
            ("a:1\nb\n", ":2: expected an address HOST:PORT"),
            ("quic://a:1\n", ":1: expected a parent's address with one of tcp://"),
            ("# none\n", ":1: expected a line for each parent, got none"),
            ("#" * (1024 * 1024 + 1), "expected at most 1048576 bytes"),
        ):
            self.write(text)
            self.assertIn(said, str(self.assertRaises(ConfigError, self.file.read)))

    def test_very_long(self) -> None:
        """Of a list that is longer than the memory only a part is read."""
        self.path.touch()
        os.truncate(self.path, 2**40)  # without content, so that it takes no space
        self.assertIn("expected at most 1048576 bytes", str(self.assertRaises(ConfigError, self.file.read)))

    def test_change(self) -> None:
        """A changed list is reported once, replaced or written in place; an unchanged one is not."""
        self.start()
        self.clock.advance(INTERVAL)
        self.assertEqual(self.changes, [])
        self.write("a:1\nb:2\n")
        self.clock.pump([INTERVAL] * 3)
        self.path.write_text("c:3\n")
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(self.changes, [["a:1", "b:2"], ["c:3"]])

    def test_unusable_change(self) -> None:
        """A list that cannot be used any more changes nothing, and is reported once; the next good one is taken."""
        self.start()
        self.write("a:1\nb\n")
        self.clock.pump([INTERVAL] * 3)
        self.path.unlink()
        self.clock.pump([INTERVAL] * 3)
        self.write("d:4\n")
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(self.changes, [["d:4"]])
        self.assertEqual(len(self.errors), 2)
        self.assertIn(":2: expected an address HOST:PORT", self.errors[0])
        self.assertIn("No such file or directory; the parents stay as they were", self.errors[1])

    def test_pipe_in_its_place(self) -> None:
        """A list that is replaced by a pipe is not waited for; the next good one is taken."""
        self.start()
        self.path.unlink()
        os.mkfifo(self.path)
        # A writer, so that opening the pipe waits neither here nor there.
        writing = os.open(self.path, os.O_RDWR)
        self.addCleanup(os.close, writing)
        os.write(writing, b"b:2\n" + b"#" * 10)
        not_read = self.patch(self.file, "read", lambda: self.fail("expected the pipe not to be read"))
        self.clock.pump([INTERVAL] * 3)
        not_read.restore()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("expected a regular file", self.errors[0])
        self.write("d:4\n")
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual((len(self.errors), self.changes), (1, [["d:4"]]))

    def test_may_be_read_again(self) -> None:
        """A list that could not be read is taken when that is allowed, though it has not changed."""
        self.start()
        self.write("d:4\n")
        self.patch(os, "fstat", _refuse)
        self.clock.pump([INTERVAL] * 3)
        self.assertIn("Permission denied", self.errors[0])
        self.patch(os, "fstat", _FSTAT)
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(self.changes, [])
        before = self.path.stat().st_ctime_ns
        while self.path.stat().st_ctime_ns == before:  # the clock of a file system may be coarse
            self.path.chmod(0o644)
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual((len(self.errors), self.changes), (1, [["d:4"]]))

    def test_pipe(self) -> None:
        """A pipe is read once, and not looked at again."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, b"a:1\n")
        os.close(writing)
        file = ParentsFile(Path(f"/dev/fd/{reading}"), self.clock, at_once, self.changes.append, self.errors.append)  # type: ignore[arg-type]  # nothing is reported
        self.assertEqual([str(each) for each in file.read()], ["a:1"])
        file.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        file.stop()

    def test_stopped(self) -> None:
        """Once stopped it tells nothing, and leaves nothing."""
        self.start()
        self.write("b:2\n")
        self.file.stop()
        self.clock.advance(10 * INTERVAL)
        self.assertEqual((self.changes, self.clock.getDelayedCalls()), ([], []))

    def test_stopped_while_reading(self) -> None:
        """Of a list that is being read when it is stopped it tells nothing, whether the list is good or wrong."""
        threads: list[Deferred[None]] = []

        def in_thread(function: Callable[[], _T], /) -> Deferred[_T]:
            thread: Deferred[None] = Deferred()
            threads.append(thread)
            return thread.addCallback(lambda _: function())

        self.patch(self.file, "_in_thread", in_thread)
        for text in ("b:2\n", "b\n"):
            self.start()
            self.write(text)
            self.clock.advance(INTERVAL)
            self.file.stop()
            threads.pop().callback(None)
        self.assertEqual((self.changes, self.errors, self.clock.getDelayedCalls()), ([], [], []))
