"""
Makes directories, locks them against other processes, writes them to the disk, and sets the owner of new files.
Everything here blocks.

New files and directories in a storage belong to the storage's owner: else the peer's user could not use what root
imports. So each new directory and file gets the owner and the group of the directory that it is
in. Only root can give away what it has made; another user keeps it, and gives it the directory's group where it can.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dragonfly_vortex.storage.locks import HAS_RANGES, is_lock_refused, lock_byte, lock_shared_or_alone, no_locks

__all__ = ["create_file", "give_to_owner", "locked", "make_directory", "open_file", "sync_directory"]

_LOCK_FILE = ".lock"
"""Locked in a directory for the directory, where that one cannot be locked itself."""

_LOCK_TIMEOUT = 30.0
"""Seconds to wait for a lock: it is held for moments, unless its process is frozen or its disk does not answer."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
"""Seconds between two attempts: no call of the system waits for a lock for a limited time."""


def make_directory(directory: Path, *, sync: bool = True) -> None:
    """
    Make a directory and those above it, where they are not there. Each belongs to the owner of the one above.

    :param sync: whether to wait until their names are on the disk.
    :raises OSError: one cannot be made, or not for that owner.
    """
    if directory.is_dir():
        return
    make_directory(directory.parent, sync=sync)
    try:
        directory.mkdir()
    except FileExistsError:  # made by another process, or a file
        if not directory.is_dir():
            raise
    else:
        # By its descriptor: the owner of the directory above could put a link in its place meanwhile.
        descriptor = _open(directory, os.O_NOFOLLOW)
        try:
            give_to_owner(descriptor, directory.parent)
        finally:
            os.close(descriptor)
    if sync:
        sync_directory(directory.parent)


def create_file(path: Path) -> int:
    """
    Make an empty file, for the owner of its directory.

    :returns: a descriptor for reading and writing.
    :raises FileExistsError: something has that name.
    :raises OSError: it cannot be made, or not for that owner.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        give_to_owner(descriptor, path.parent)
    except BaseException:
        os.close(descriptor)
        os.unlink(path)
        raise
    return descriptor


def open_file(path: Path) -> int:
    """
    Open a file; it is made as by :func:`create_file` where it is not there. A symbolic link is not followed: the owner
    of the directory could have root write into any file by one.

    :returns: a descriptor for reading and writing.
    :raises OSError: it cannot be opened, is a symbolic link, or cannot be made for the directory's owner.
    """
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            with suppress(FileExistsError):
                return create_file(path)


def give_to_owner(descriptor: int, directory: Path) -> None:
    """
    Give a file or a directory that this process has just made to the owner of the directory that it is in. Where that
    one is shared by its group (its set-group-ID bit is set, and the group may write), so is what is new, whatever the
    umask is.

    :param descriptor: of what is new.
    :param directory: the directory that it is in.
    :raises OSError: this process is root's, and must not give it away: a container or a network share may forbid it.
    """
    own, above = os.fstat(descriptor), os.stat(directory)
    if os.geteuid() == 0:
        if (own.st_uid, own.st_gid) != (above.st_uid, above.st_gid):
            os.fchown(descriptor, above.st_uid, above.st_gid)
    elif own.st_gid != above.st_gid:
        with suppress(PermissionError):  # not a member of that group
            os.fchown(descriptor, -1, above.st_gid)
    if above.st_mode & stat.S_IWGRP and above.st_mode & stat.S_ISGID:
        shared = stat.S_IRWXG | stat.S_ISGID if stat.S_ISDIR(own.st_mode) else stat.S_IRGRP | stat.S_IWGRP
        os.fchmod(descriptor, stat.S_IMODE(own.st_mode) | (above.st_mode & shared))


def sync_directory(directory: Path) -> None:
    """
    Write the names in a directory to the disk, where the file system can.

    :raises OSError: they could not be written.
    """
    descriptor = _open(directory)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the answer of a file system that has no such thing
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """
    Lock a directory against other processes and threads that lock it in the same way.

    Waits for the one that has it, for at most 30 s; one that is killed lets go.

    A directory can be locked by ``flock`` alone. Where that is refused, a file in the directory is locked instead. It
    stays, and is locked by all others, too, that find it there: so a process to which ``flock`` is refused and one to
    which it is not exclude each other, once the file is there.

    :raises TimeoutError: another has had it all the time.
    :raises OSError: the directory is not there, or there are no locks here.
    """
    with ExitStack() as held:
        descriptor = _open(directory)
        held.callback(os.close, descriptor)
        try:
            _wait(directory, lambda: lock_shared_or_alone(descriptor, shared=False))
        except TimeoutError:
            raise
        except OSError as error:
            if not is_lock_refused(error):
                raise
            _lock_file(held, directory, open_file(directory / _LOCK_FILE))
        else:
            # Where the file cannot be opened, or locked, it is not what keeps others out.
            try:
                _lock_file(held, directory, os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
            except TimeoutError:
                raise
            except OSError:
                pass
        yield


def _wait(directory: Path, lock: Callable[[], bool]) -> None:
    """
    Try to get a directory's lock until it is there.

    :raises TimeoutError: it has not been given up.
    """
    deadline = time.monotonic() + _LOCK_TIMEOUT
    pause = _FIRST_PAUSE
    while not lock():
        if time.monotonic() >= deadline:
            text = f"expected the lock of the directory within {_LOCK_TIMEOUT:g} s, another process keeps it"
            raise TimeoutError(errno.ETIMEDOUT, text, str(directory))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _lock_file(held: ExitStack, directory: Path, descriptor: int) -> None:
    """Lock a directory's lock file until all that is held is given up."""
    held.callback(os.close, descriptor)
    if not HAS_RANGES:
        raise no_locks()
    try:
        _wait(directory, lambda: lock_byte(descriptor, fcntl.F_WRLCK, 0))
    except TimeoutError:
        raise
    except OSError as error:
        if is_lock_refused(error):
            raise no_locks() from error
        raise


def _open(directory: Path, flags: int = 0) -> int:
    """A descriptor of the directory itself."""
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
