"""
The files with the content of tasks: ``content/<directory of the kind>/<first 3 characters of the ID>/<ID>``.

That is the reference's place for them (``dragonfly-client-storage``, ``content_linux.rs``). A task's ID is a file's
name here, so one that could lead elsewhere never gets as far as the file system. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import stat
from contextlib import AbstractContextManager
from pathlib import Path

from dragonfly_vortex.errors import StorageError
from dragonfly_vortex.storage.atomic_file import StagedFile, hidden_path, is_named, lock, sweep
from dragonfly_vortex.storage.directories import give_to_owner, locked, make_directory, sync_directory
from dragonfly_vortex.wire import PieceKind

__all__ = ["Content", "is_task_id"]

_TASK_ID = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{2,199}"
_PREFIX_LENGTH = 3
_STAGED_NAME = "import"


def is_task_id(text: str) -> bool:
    """
    Return whether a storage can have a task of that ID.

    It has 3 to 200 letters, digits, ``_``, ``-`` and ``.``, and no ``.`` in front: it can be the name of a visible
    file, and has the three characters from which the file's directory takes its name.
    """
    return re.fullmatch(_TASK_ID, text) is not None


class Content:
    """
    The files of a storage.

    :param directory: the storage's directory; it need not be there before something is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "content"

    def path(self, kind: PieceKind, task_id: str) -> Path:
        """
        The path of a task's file, which need not exist.

        :raises StorageError: that is no ID that a task can have here.
        """
        if not is_task_id(task_id):
            raise StorageError(
                f"expected a task ID of 3 to 200 letters, digits, '_', '-' and '.', no '.' in front, got {task_id!r}"
            )
        return self.directory / kind.directory / task_id[:_PREFIX_LENGTH] / task_id

    def lock(self) -> AbstractContextManager[None]:
        """
        Keep other processes from changing what files there are, while a file and its rows change together.

        Reading and writing what is in a file needs no lock.
        """
        make_directory(self.directory)
        return locked(self.directory)

    def open(self, kind: PieceKind, task_id: str) -> int:
        """
        A descriptor of a task's file, for reading. Until it and its copies are closed, the file is locked against a
        removal for want of room or of use (:mod:`~dragonfly_vortex.storage.collector`).

        :raises FileNotFoundError: the task has no file.
        :raises OSError: it cannot be opened, or is no regular file.
        """
        descriptor = _open_regular(self.path(kind, task_id), os.O_RDONLY)
        lock(descriptor, shared=True)  # where it is refused, the file is being removed, and stays as long as it is open
        return descriptor

    def open_for_writing(self, kind: PieceKind, task_id: str) -> int:
        """
        A descriptor of a task's file, for reading and writing.

        :raises FileNotFoundError: the task has no file.
        :raises OSError: it cannot be opened, is no regular file, or is a symbolic link.
        """
        return _open_regular(self.path(kind, task_id), os.O_RDWR | os.O_NOFOLLOW)

    def is_current(self, descriptor: int, kind: PieceKind, task_id: str) -> bool:
        """Return whether an open file is the task's still, and no other has been put in its place."""
        return is_named(descriptor, self.path(kind, task_id))

    def create(self, kind: PieceKind, task_id: str, *, sync: bool = True) -> None:
        """
        Make an empty file for a task. The caller holds :meth:`lock`, and knows that the task has no rows.

        A file that stands there is replaced: it is a killed process's, and may be another name of a user's own file.

        :param sync: whether to wait until its name is on the disk.
        """
        with self.stage() as staged:
            self.publish(staged, kind, task_id, sync=sync)

    def stage(self) -> StagedFile:
        """A file for a task whose ID is not known yet. Those of dead processes are swept away."""
        make_directory(self.directory)
        staged = StagedFile.create(self.directory, _STAGED_NAME)
        try:
            give_to_owner(staged.descriptor, self.directory)
        except BaseException:
            staged.discard()
            raise
        return staged

    def sweep(self) -> None:
        """Delete the files that killed processes have staged; those of running ones stay."""
        with contextlib.suppress(OSError):  # there is no directory yet, or it is not ours to change
            sweep(self.directory, _STAGED_NAME)

    def publish(self, staged: StagedFile, kind: PieceKind, task_id: str, *, sync: bool = True) -> None:
        """
        Make a staged file the task's. A process that has the old one open keeps it. The caller holds :meth:`lock`.

        :param staged: a file of :meth:`stage`.
        :param sync: whether to wait until it is on the disk.
        """
        path = self.path(kind, task_id)
        make_directory(path.parent, sync=sync)
        staged.publish(path, overwrite=True, sync=sync)

    def link(self, source: Path, descriptor: int, kind: PieceKind, task_id: str) -> None:
        """
        Give a file a second name, as the task's. The caller holds :meth:`lock`.

        :param source: the file's name.
        :param descriptor: the file itself, open for reading: proof that the name is still its own.
        :raises StorageError: it is not, or the storage's owner must not read the file.
        :raises OSError: it cannot be linked, with ``EXDEV`` because it is on another file system.
        """
        path = self.path(kind, task_id)
        make_directory(path.parent)
        owner = os.stat(self.directory).st_uid
        if not _may_read(owner, os.fstat(descriptor)):
            raise StorageError(
                f"cannot link {source}: expected a file that the storage's owner (user {owner}) may read;"
                " import it without a link, or give that user the right"
            )
        # A link cannot replace a name, and a rename can: so first a hidden name, kept from being swept by a lock.
        hidden = hidden_path(self.directory, _STAGED_NAME)
        lock(descriptor, shared=True)
        try:
            os.link(source, hidden)
            if not is_named(descriptor, hidden):
                raise StorageError(f"expected {source} to stay the file that was read, got another")
            os.replace(hidden, path)
        finally:
            # Where the task's file was this very file, the rename has done nothing.
            hidden.unlink(missing_ok=True)
        sync_directory(path.parent)

    def remove(self, kind: PieceKind, task_id: str) -> bool:
        """
        Delete a task's file; False if it has none. A process that has it open keeps it. The caller holds :meth:`lock`.
        """
        path = self.path(kind, task_id)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):  # other tasks share the directory, or another process made it again
            path.parent.rmdir()
        return True


def _open_regular(path: Path, flags: int) -> int:
    """
    A descriptor of a regular file. To open a named pipe would wait for its other end, and stop the storage's thread.

    :raises OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "expected a regular file, got something else", str(path))
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _may_read(user: int, status: os.stat_result) -> bool:
    """
    Whether a user may read a file that this process has open, by its owner, group and mode.

    :param user: a user ID.
    :param status: the file's.
    """
    if user in (0, os.geteuid()):
        return True
    if user == status.st_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    try:
        account = pwd.getpwuid(user)
        is_in_group = status.st_gid in os.getgrouplist(account.pw_name, account.pw_gid)
    except (KeyError, OSError):  # a user without a name, as in a container
        is_in_group = False
    return bool(status.st_mode & (stat.S_IRGRP if is_in_group else stat.S_IROTH))
