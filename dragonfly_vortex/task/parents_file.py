"""
A list of parents in a file: a line for each, ``HOST:PORT`` or ``SCHEME://HOST:PORT``. Empty lines, and what follows a
``#``, do not count.

The file is read again when it changes. It had better be replaced by a rename: a file that is written in place can be
read when one half of it is there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.errors import ConfigError
from dragonfly_vortex.interfaces import InThread

__all__ = ["INTERVAL", "ParentsFile"]

INTERVAL = 1.0
"""Seconds between two looks at the file."""

_MAX_BYTES = 1024 * 1024

_Stamp: TypeAlias = "tuple[int, int, int] | None"
"""
By what a changed file is known: inode, length and time of the last change of content or status, so that a file that may
be read again is seen; None where there is no file.
"""


class ParentsFile:
    """
    Reads a list of parents, and reads it again when it changes.

    :param path: the file. One that is no regular file, such as a pipe, is read once.
    :param clock: for the looks at the file.
    :param in_thread: how to call a function in a thread.
    :param on_change: called with all parents of the list when it has changed.
    :param on_error: called with one line when the changed list cannot be used: the parents stay as they were.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        path: Path,
        clock: IReactorTime,
        in_thread: InThread,
        on_change: Callable[[list[ParentAddress]], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._path = path
        self._in_thread = in_thread
        self._on_change = on_change
        self._on_error = on_error
        self._stamp: _Stamp = None
        self._is_regular = True
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def read(self) -> list[ParentAddress]:
        """
        Read the list now. Blocks.

        :raises ConfigError: the file cannot be read, a line of it is no address, or it has no parent.
        """
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                self._is_regular = stat.S_ISREG(status.st_mode)
                self._stamp = _stamp(status)
                content = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(str(self._path), 0, "", f"cannot be read: {error.strerror}") from error
        if len(content) > _MAX_BYTES:
            raise ConfigError(str(self._path), 1, "", f"expected at most {_MAX_BYTES} bytes; it is longer")
        parents: dict[ParentAddress, None] = {}
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
            text = line.partition("#")[0].strip()
            if text:
                try:
                    parents[ParentAddress.from_text(text)] = None
                except ValueError as error:
                    raise ConfigError(str(self._path), number, "", str(error)) from error
        if not parents:
            raise ConfigError(str(self._path), 1, "", "expected a line for each parent, got none")
        return [*parents]

    def start(self) -> None:
        """Watch the file from now on, once it has been read."""
        if self._is_regular:
            self._looking.start(INTERVAL, now=False).addErrback(self._log_failure)

    def stop(self) -> None:
        """Stop watching the file."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> Deferred[None]:
        return self._in_thread(self._read_if_changed).addCallbacks(self._changed, self._failed)

    def _read_if_changed(self) -> list[ParentAddress] | None:
        """In a thread: the list, None while it is the one that was read last."""
        try:
            status = os.stat(self._path)
        except OSError:
            status = None
        found = None if status is None else _stamp(status)
        if found == self._stamp:
            return None
        self._stamp = found
        if status is not None and not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise ConfigError(str(self._path), 0, "", "expected a regular file, got another kind")
        return self.read()

    def _changed(self, parents: list[ParentAddress] | None) -> None:
        if parents is not None and self._looking.running:
            self._on_change(parents)

    def _failed(self, failure: Failure) -> None:
        failure.trap(ConfigError)
        if self._looking.running:
            self._on_error(f"{failure.getErrorMessage()}; the parents stay as they were")

    def _log_failure(self, failure: Failure) -> None:
        self.log.failure("the list of parents is not read any more", failure)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_size, status.st_ctime_ns
