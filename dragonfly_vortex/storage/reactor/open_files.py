"""
Descriptors of tasks' files that are kept open, for the next piece of the task.

Nothing here knows whether a file is still the task's; and nothing is closed here, since to close a file that has been
deleted gives back its space, which can take the kernel long. What is not kept any more is handed back.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass

from dragonfly_vortex.wire import PieceKind

__all__ = ["MAX_FILES", "MAX_LOOKS", "OpenFiles"]

MAX_FILES = 64
"""Files that are kept open."""

MAX_LOOKS = 10
"""Looks that a file stays open without having been used in between."""


@dataclass(slots=True)
class _File:
    """An open file, and how often it was looked at since it was used."""

    descriptor: int
    looks: int = 0


class OpenFiles:
    """The files that were used last. Descriptors that a method returns are the caller's, to close."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[PieceKind, str], _File] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def keep(self, kind: PieceKind, task_id: str, descriptor: int) -> list[int]:
        """
        Keep a task's file open, in place of the one that it had.

        :param descriptor: ours from now on.
        :returns: the descriptors that are not kept any more.
        """
        key = (kind, task_id)
        dropped = []
        if (replaced := self._files.pop(key, None)) is not None:
            dropped.append(replaced.descriptor)
        self._files[key] = _File(descriptor)
        if len(self._files) > MAX_FILES:
            _, oldest = self._files.popitem(last=False)
            dropped.append(oldest.descriptor)
        return dropped

    def open(self, kind: PieceKind, task_id: str) -> int | None:
        """
        A task's file.

        :returns: a descriptor of the caller's own; None where the file is not kept open.
        :raises OSError: this process can have no more descriptors.
        """
        key = (kind, task_id)
        file = self._files.get(key)
        if file is None:
            return None
        self._files.move_to_end(key)
        file.looks = 0
        return os.dup(file.descriptor)

    def look(self) -> list[int]:
        """
        Give up files that nobody has used for long, and files that have been deleted, which take their space on the
        disk for as long as they are open.

        :returns: their descriptors.
        """
        given_up = []
        for key, file in list(self._files.items()):
            file.looks += 1
            if file.looks >= MAX_LOOKS or not os.fstat(file.descriptor).st_nlink:
                del self._files[key]
                given_up.append(file.descriptor)
        return given_up

    def clear(self) -> list[int]:
        """
        Give up all.

        :returns: their descriptors.
        """
        files, self._files = self._files, OrderedDict()
        return [file.descriptor for file in files.values()]
