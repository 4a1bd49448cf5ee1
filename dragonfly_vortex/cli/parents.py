"""
The parents of ``dfvortex download``: those that the command or the configuration names, those of a list, the peers that
are found on the local network, those that ask this peer for the same task, and those that a parent names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dragonfly_vortex.address import ParentAddress
from dragonfly_vortex.config import DiscoveryConfig
from dragonfly_vortex.downloaders.factory import Negotiation
from dragonfly_vortex.errors import NoPeerFound, UsageError, WrongTransport
from dragonfly_vortex.interfaces import InThread
from dragonfly_vortex.peer_exchange import MOST_MET
from dragonfly_vortex.task.download import TaskDownload
from dragonfly_vortex.task.parents_file import ParentsFile

if TYPE_CHECKING:
    from dragonfly_vortex.daemon.door import IPeerReactor
    from dragonfly_vortex.discovery import PeerBrowser

__all__ = ["Parents"]

_NAMED, _LISTED, _FOUND, _ASKING, _MET = "named", "listed", "found", "asking", "met"

FIND_TIMEOUT = 5.0
"""Seconds within which a peer has to be found on the local network where no parent is named."""


class Parents:
    """
    All parents of one download, from whichever source. A parent stays as long as one source has it. Where the content
    comes from parents alone, the last one stays until there is another: a download without any parent fails, and peers
    come and go.

    :param reactor: the clock for the looks at the list; found peers are reported in its thread.
    :param in_thread: how to call a function in a thread.
    :param named: the parents that are named once and for all.
    :param path: the list; None for none.
    :param discovery: whether peers are looked for on the local network.
    :param say: called with one line where something cannot be used.
    :param askers: the file with the peers that ask this peer for the task, which may be there later; None for none.
    """

    def __init__(
        self,
        reactor: IPeerReactor,
        in_thread: InThread,
        named: Sequence[ParentAddress],
        path: Path | None,
        discovery: DiscoveryConfig,
        say: Callable[[str], None],
        askers: Path | None = None,
    ) -> None:
        self.are_needed = True
        """Whether there must be a parent: without a source nothing else has the task."""
        self.source_is_refused = False
        """Whether that is because the source may not be asked, and not because none was named."""
        self._reactor = reactor
        self._say = say
        self._by_source: dict[str, Sequence[ParentAddress]] = {_NAMED: named}
        self._file = None
        if path is not None:
            self._file = ParentsFile(path, reactor, in_thread, partial(self._change, _LISTED), say)
        self._askers = None
        if askers is not None:
            self._askers = ParentsFile(askers, reactor, in_thread, partial(self._change, _ASKING), lambda line: None)
        self._browser: PeerBrowser | None = None
        if discovery.enable:
            from dragonfly_vortex.discovery import PeerBrowser

            self._browser = PeerBrowser(reactor, in_thread, discovery.ip, partial(self._change, _FOUND))
        self._first: Deferred[None] = Deferred()  # fires when there is a parent, while that is waited for
        self._negotiation: Negotiation | None = None
        self._download: TaskDownload | None = None
        self._asked: dict[ParentAddress, bool] = {}  # those that the download has: whether the source waits for them

    def read(self) -> list[ParentAddress]:
        """
        Read the list, if there is one. Blocks.

        :returns: all parents there are now.
        :raises ConfigError: the list cannot be used.
        :raises DiscoveryUnavailable: peers are to be found, and the package for that is not installed.
        :raises UsageError: there is no source of parents.
        """
        if self._browser is not None:
            from dragonfly_vortex.discovery import require_zeroconf

            require_zeroconf()
        if self._file is not None:
            self._by_source[_LISTED] = self._file.read()
        if not self.all and self._browser is None and self.are_needed:
            wanted = "expected a parent (--parent, --parents, or download.parents of the configuration)"
            if self.source_is_refused:
                raise UsageError(f"{wanted} because back_to_source is never, got none")
            raise UsageError(f"{wanted} or the URL of a source, got none")
        return self.all

    async def find(self, negotiation: Negotiation) -> None:
        """
        Begin to look for peers on the local network. Where there is no other parent, wait until one is found.

        :param negotiation: prepares to speak to the parents that are added.
        :raises NoPeerFound: none was found in time.
        """
        self._negotiation = negotiation
        if self._browser is None:
            return
        await self._browser.start()
        if not self.all and self.are_needed:
            self._first.addTimeout(FIND_TIMEOUT, self._reactor, _nothing_found)
            await self._first

    def follow(self, download: TaskDownload) -> None:
        """
        Pass all changes to a download from now on.

        :param download: it has been given :attr:`all`.
        """
        self._download, self._asked = download, dict.fromkeys(self.all, True)
        for each in (self._file, self._askers):
            if each is not None:
                each.start()

    def meet(self, peers: Sequence[ParentAddress]) -> None:
        """Add the peers that a parent has named."""
        met = self._by_source.get(_MET, ())
        self._change(_MET, [*dict.fromkeys([*met, *peers])][:MOST_MET])

    async def stop(self) -> None:
        """Stop: pass no more changes."""
        self._download = self._negotiation = None
        for each in (self._file, self._askers):
            if each is not None:
                each.stop()
        if self._browser is not None:
            await self._browser.stop()

    def _change(self, source: str, parents: Sequence[ParentAddress]) -> None:
        """Replace the parents of a source: the download asks the new ones, and no longer the others."""
        if self._negotiation is None:
            return
        negotiation, download, known = self._negotiation, self._download, {*self.all, *self._asked}
        self._by_source[source] = [each for each in parents if each in known or self._can_ask(each, negotiation)]
        after = self._whether_awaited()
        if after and not self._first.called:
            self._first.callback(None)
        if download is None or (not after and self.are_needed):
            return
        asked, self._asked = self._asked, after
        for parent, is_awaited in after.items():
            if parent not in asked or (is_awaited and not asked[parent]):
                announcer = negotiation.announcers.get(str(parent))
                download.add_parent(str(parent), announcer, is_awaited=is_awaited)
        for parent in asked:
            if parent not in after:
                download.remove_parent(str(parent))

    def _can_ask(self, parent: ParentAddress, negotiation: Negotiation) -> bool:
        """Prepare to speak to a parent, if that is possible."""
        try:
            negotiation.add(parent)
        except WrongTransport as error:
            self._say(str(error))
            return False
        return True

    def _whether_awaited(self) -> dict[ParentAddress, bool]:
        """All parents there are now, and whether the source waits for them: not for those that only ask, too."""
        awaited = {each for source in (_NAMED, _LISTED, _FOUND) for each in self._by_source.get(source, ())}
        return {parent: parent in awaited for parent in self.all}

    @property
    def all(self) -> list[ParentAddress]:
        """All parents that are known now, those that are named first."""
        return [*dict.fromkeys(parent for parents in self._by_source.values() for parent in parents)]


def _nothing_found(_: object, seconds: float) -> Failure:
    return Failure(
        NoPeerFound(f"expected a peer on the local network within {seconds:g} s, or a named parent, got none")
    )
