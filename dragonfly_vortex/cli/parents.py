"""The parents of ``dfvortex download``: those that the command or the configuration names, and those of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from twisted.internet.interfaces import IReactorTime

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.downloaders.factory import Negotiation
from dragonfly_vortex.errors import WrongTransport
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.parents_file import ParentsFile

__all__ = ["Parents"]

_NAMED, _LISTED = "named", "listed"


class Parents:
    """
    All parents of one download, from whichever source. A parent stays as long as one source has it.

    :param clock: for the looks at the list.
    :param in_thread: how to call a function in a thread.
    :param named: the parents that are named once and for all.
    :param path: the list; None for none.
    :param say: called with one line where something cannot be used.
    """

    def __init__(
        self,
        clock: IReactorTime,
        in_thread: InThread,
        named: Sequence[ParentAddress],
        path: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._say = say
        self._by_source: dict[str, Sequence[ParentAddress]] = {_NAMED: named}
        self._file = None
        if path is not None:
            self._file = ParentsFile(path, clock, in_thread, partial(self._change, _LISTED), say)
        self._follow: tuple[Negotiation, TaskDownload] | None = None

    def read(self) -> list[ParentAddress]:
        """
        Read the list, if there is one. Blocks.

        :returns: all parents there are now.
        :raises ConfigError: the list cannot be used.
        """
        if self._file is not None:
            self._by_source[_LISTED] = self._file.read()
        return self.all

    def start(self, negotiation: Negotiation, download: TaskDownload) -> None:
        """
        Tell a download of all changes from now on.

        :param negotiation: prepares to speak to the parents that are added.
        """
        self._follow = negotiation, download
        if self._file is not None:
            self._file.start()

    def stop(self) -> None:
        """Tell of nothing more."""
        self._follow = None
        if self._file is not None:
            self._file.stop()

    def _change(self, source: str, parents: Sequence[ParentAddress]) -> None:
        """A source has these parents now, and no others."""
        before = self.all
        self._by_source[source] = parents
        after = self.all
        if self._follow is None:
            return
        negotiation, download = self._follow
        for parent in after:
            if parent not in before:
                try:
                    negotiation.add(parent)
                except WrongTransport as error:
                    self._say(str(error))
                else:
                    download.add_parent(str(parent), negotiation.announcers.get(str(parent)))
        for parent in before:  # later: a download without any parent fails
            if parent not in after:
                download.remove_parent(str(parent))

    @property
    def all(self) -> list[ParentAddress]:
        """All parents there are now, those that are named first."""
        return [*dict.fromkeys(parent for parents in self._by_source.values() for parent in parents)]
