"""
Atomic files, complete or not there: written under a hidden name beside their target, then renamed to it.

A hidden file is locked for as long as its writer lives. So any process can tell one whose writer was killed from one
that is in use, and the dead ones are swept away when the next file of that name is begun. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from dragonfly_vortex.storage.directories import sync_directory
from dragonfly_vortex.storage.locks import try_lock
from dragonfly_vortex.system_calls import is_refused

__all__ = [
    "StagedFile",
    "check_target",
    "delete_if_dead",
    "hidden_path",
    "hidden_prefix",
    "is_named",
    "lock",
    "sweep",
]

_SUFFIX = ".dfvortex-part"
"""A rare suffix, because unlocked files with it are deleted."""

_LONGEST_NAME = 200
"""Bytes of the target's name that go into a hidden one: a name may have 255 in all."""


class StagedFile:
    """
    A file that is written under a hidden name. As a context manager it discards itself unless it was published.

    :param descriptor: open for reading and writing; closed by :meth:`publish` and :meth:`discard`.
    :param path: its hidden name.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path
        self._open = True

    @classmethod
    def create(cls, directory: Path, name: str) -> StagedFile:
        """
        A new and empty file, with the mode that the umask gives any new file.

        The dead ones of the same name are swept away first.

        :param directory: where the target will be, or at least on the same file system.
        :param name: the target's name, or another that says what the file is for.
        :raises OSError: it cannot be created.
        """
        sweep(directory, name)
        while True:
            path = hidden_path(directory, name)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            if lock(descriptor) and is_named(descriptor, path):
                return cls(descriptor, path)
            # A sweep came between the opening and the lock and took the file for a dead one.
            os.close(descriptor)

    def publish(self, target: Path, *, overwrite: bool, sync: bool = True) -> None:
        """
        Give the file its place and close it. It and its name are on the disk then, over a power cut too.

        :param target: its path from now on, on the same file system.
        :param overwrite: whether a file that stands there is replaced. A process that has that one open keeps it.
        :param sync: whether to wait for the disk. Otherwise all of it is in the system's memory, and reaches the disk
            when the system sees fit: it outlives this process, but not a power cut.
        :raises FileExistsError: something stands at ``target`` that is not to be replaced. The file stays staged.
        :raises OSError: the file could not be written to the disk or given its name. It stays staged, unless
            nothing but writing the directory failed.
        """
        if sync:
            os.fdatasync(self.descriptor)
        check_target(target, overwrite=overwrite)
        if overwrite:
            os.replace(self.path, target)
        else:
            _rename_without_overwriting(self.path, target)
        self._close()
        if sync:
            sync_directory(target.parent)

    def discard(self) -> None:
        """Delete the file, unless it has been published or discarded already."""
        if self._open:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._close()

    def keep(self) -> None:
        """Leave the file under its hidden name, unless it has been published, discarded or left already."""
        if self._open:
            self._close()

    def _close(self) -> None:
        """Close the descriptor, and with it let go of the lock."""
        self._open = False
        os.close(self.descriptor)

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.discard()


def check_target(target: Path, *, overwrite: bool) -> None:
    """
    Check whether a file could be published there, before it is written.

    :param overwrite: whether a file that stands there may be replaced; a directory or a device never is.
    :raises FileExistsError: something stands there that is not to be replaced.
    :raises OSError: the place cannot be looked at.
    """
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        what = "a directory" if stat.S_ISDIR(mode) else "something else"
        raise FileExistsError(errno.EEXIST, f"expected no file or a regular one there, got {what}", str(target))
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "expected no file there, got one", str(target))


def sweep(directory: Path, name: str) -> None:
    """
    Delete the hidden files of that name whose writers are gone.

    :raises OSError: the directory cannot be read.
    """
    for path in _hidden(directory, name):
        # What cannot be opened, locked or deleted is not ours to delete.
        with contextlib.suppress(OSError):
            delete_if_dead(path)


def hidden_path(directory: Path, name: str) -> Path:
    """An unused hidden name for a file that will have that name."""
    return directory / f"{hidden_prefix(name)}{os.urandom(6).hex()}{_SUFFIX}"


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """
    Keep an open file from being swept away; False if another has its lock.

    :param shared: whether others may lock it in the same way.
    """
    try:
        return try_lock(descriptor, shared=shared)
    except OSError:
        # There are no locks here. A sweep, which needs all kinds of them, deletes nothing then.
        return True


def is_named(descriptor: int, path: Path) -> bool:
    """Return whether an open file has that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def hidden_prefix(name: str) -> str:
    """What the hidden names for a target begin with."""
    return f".{os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])}."


def _hidden(directory: Path, name: str) -> Iterator[Path]:
    """The hidden files for a target, in use or not."""
    prefix = hidden_prefix(name)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def delete_if_dead(path: Path) -> None:
    """Delete a hidden file if no process holds its lock, in whichever way that one could lock it."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Its writer may have published it before the lock was ours: then the name is gone, or another file's.
        if try_lock(descriptor, in_all_ways=True) and is_named(descriptor, path):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _rename_without_overwriting(source: Path, target: Path) -> None:
    """
    Rename a file to an unused name.

    :raises FileExistsError: the name is in use.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if not is_refused(error, errno.EMLINK):  # FAT, for one, has no hard links
            raise
        # The next best thing: a file that appears between these two lines is overwritten.
        check_target(target, overwrite=False)
        os.rename(source, target)
    else:
        os.unlink(source)
