"""
The waits of a download: for what it waits, how long at most, and what it does then. No I/O, clock or reactor.

Each wait gives one :class:`~dragonfly_vortex.events.Waiting`, with a line for people.
"""

from __future__ import annotations

from collections.abc import Mapping

from dragonfly_vortex.errors import PieceError, PieceTimeout
from dragonfly_vortex.events import Waiting, WaitReason
from dragonfly_vortex.task.parent_state import Parent
from dragonfly_vortex.task.piece_numbers import PieceNumbers
from dragonfly_vortex.task.source_choice import QUIET
from dragonfly_vortex.task.timing import Request, Timing

__all__ = ["Waits"]

_TOLD_AFTER = 7.0
"""Seconds without a byte after which a line names the parent that is waited for."""


class Waits:
    """
    The waits of a download.

    :param parents: the parents that can be asked, by address.
    :param retry: seconds without progress for which parents that failed are asked again, and announcements are waited
        for; 0: parents that failed are not asked again, and announcements are waited for without end.
    """

    def __init__(self, parents: Mapping[str, Parent], numbers: PieceNumbers, timing: Timing, retry: float) -> None:
        self.reasons: dict[str, str] = {}
        """Why those parents failed that are to be asked again."""
        self.told: set[str] = set()
        """The parents, and processes, of which it has been reported that they are waited for."""
        self._parents = parents
        self._numbers = numbers
        self._timing = timing
        self._retry = retry
        self._silent: set[str] = set()
        self._owners: dict[int, tuple[int, int] | None] = {}
        self._new: list[Waiting] = []
        self._inquiries: list[str] = []
        self._overdue: str | None = None  # a parent that was still announcing when the time for retries was over

    def take(self) -> list[Waiting]:
        """Return the waits that have not been returned yet."""
        new, self._new = self._new, []
        return new

    def next_inquiry(self) -> str | None:
        """A parent that is to be asked again what it has, each time once; None while there is none."""
        return self._inquiries.pop(0) if self._inquiries else None

    def overdue(self, piece: str) -> PieceTimeout | None:
        """
        Why a piece has not arrived whose announcement did not come in time; None where none was waited for.

        :param piece: its name, for the message.
        """
        if self._overdue is None:
            return None
        reason = f"expected it to be announced within {self._retry:g} s, got nothing"
        return PieceTimeout(self._overdue, piece, reason)

    # -- what changes --------------------------------------------------------------------------------------------------

    def failed(self, parent: Parent, error: PieceError) -> None:
        """Record that a parent has failed: it is asked again after a pause, if anything is."""
        if self._retry:
            parent.rest(self._timing.now, self._timing.backoff(parent.backoffs), error.retry_after)
            self._timing.look_again_at(parent.retry_at or self._timing.now)
            self.reasons.setdefault(parent.address, error.reason)
            self._numbers.find_orphans()

    def lacked(self, parent: Parent) -> None:
        """
        Record that a parent lacks a piece, or the task: it is asked again after a pause, if anything is. What a source
        lacks does not come later.
        """
        if self._retry and not parent.is_source:
            parent.put_off(self._timing.now, self._timing.backoff(parent.looks))
            self._timing.look_again_at(parent.look_again_at or self._timing.now)

    def came(self, parent: Parent) -> None:
        """Record that a parent has given something."""
        self.reasons.pop(parent.address, None)
        self.told.discard(parent.address)

    def recover(self) -> None:
        """Have those parents asked again that have rested, and those that did not have something a while ago."""
        now = self._timing.now
        for parent in self._parents.values():
            if parent.retry_at is not None and now >= parent.retry_at:
                parent.recover()
                if parent.is_source and parent.told_piece_length is None:
                    self._inquiries.append(parent.address)
                self._ask_again(parent)
            if parent.look_again_at is not None and now >= parent.look_again_at and parent.is_alive:
                if parent.look_again():
                    self._inquiries.append(parent.address)
                self._ask_again(parent)

    def _ask_again(self, parent: Parent) -> None:
        """Let a parent be asked again for what it lacked."""
        self._numbers.offer_anew(parent)
        self._numbers.find_orphans()

    # -- what is waited for --------------------------------------------------------------------------------------------

    def look_at_silent(self, owed: set[int]) -> None:
        """
        Report the parents that have sent nothing for some time.

        :param owed: numbers of pieces that are under way in slow requests alone.
        """
        debtors = {request.parent for number in owed for request in self._numbers.under_way[number]}
        for address, parent in self._parents.items():
            silence = self._timing.silence(parent) if parent.is_slow and address in debtors else None
            if silence is None:
                self._silent.discard(address)
            elif silence >= _TOLD_AFTER and address not in self._silent:
                self._silent.add(address)
                reason = WaitReason.SILENT_PARENT
                self._tell(parent, reason, silence, f"has sent nothing for {silence:.0f} s; waiting for it")

    def look_at_idle(self, quiet: float) -> None:
        """
        While nothing is under way, see which parents are waited for, and whether that has been long enough.

        :param quiet: seconds without progress.
        """
        for address, reason in self.reasons.items():
            parent = self._parents[address]
            if parent.retry_at is not None and address not in self.told:
                self.told.add(address)
                text = f"failed ({reason}); asking it again for up to {self._retry:g} s without progress"
                self._tell(parent, WaitReason.FAILED_PARENT, quiet, text)
        for address, parent in self._parents.items():
            has_nothing = parent.has_announcer and not parent.announced and not parent.is_open
            if parent.look_again_at is not None and has_nothing and address not in self.told:
                self.told.add(address)
                text = f"does not have the task; asking it again for up to {self._retry:g} s"
                self._tell(parent, WaitReason.PARENT_WITHOUT_TASK, quiet, text)
        if self._retry and quiet >= self._retry:
            self._lose_patience()
        elif quiet >= QUIET and not any(
            parent.is_source and parent.is_alive and not parent.is_announcing for parent in self._parents.values()
        ):
            for parent in self._parents.values():
                if parent.is_alive and parent.is_announcing and not parent.is_open and not parent.looks:
                    parent.is_open = True
                    self._numbers.offer_anew(parent)
                    text = f"has announced no piece for {quiet:.0f} s; asking for pieces anyway"
                    self._tell(parent, WaitReason.PARENT_WITHOUT_NEWS, quiet, text)

    def look_at_busy(self, request: Request, owner: tuple[int, int] | None) -> None:
        """
        Record that another process is fetching a piece.

        :param owner: which process, and a number that changes while it runs.
        """
        if request.number not in self._owners or self._owners[request.number] != owner:
            self._owners[request.number] = owner
            self._timing.progressed_at = self._timing.now

    def stuck(self, quiet: float) -> str | None:
        """
        Return why it is useless to wait for other processes, while nothing else is waited for; None where it is not.

        :param quiet: seconds without progress, here or in those processes.
        """
        number = min(self._numbers.busy)
        pid, _ = self._owners.get(number) or (None, 0)
        who = "another process" if pid is None else f"process {pid}"
        if self._retry and quiet >= self._retry:
            return f"piece {number} is being fetched by {who}, which has not gone on for {quiet:.0f} s"
        if quiet >= _TOLD_AFTER and who not in self.told:
            self.told.add(who)
            text = f"{who} is fetching piece {number} and has not gone on for {quiet:.0f} s; waiting for it"
            self._new.append(Waiting(reason=WaitReason.OTHER_PROCESS, text=text, seconds=quiet))
        return None

    def _lose_patience(self) -> None:
        """Nothing has arrived for too long: missing pieces are lost."""
        for parent in self._parents.values():
            if parent.is_announcing:
                self._overdue = parent.address
            parent.wait_no_longer()
        self._numbers.find_orphans()

    def _tell(self, parent: Parent, reason: WaitReason, seconds: float, what: str) -> None:
        """Report that a parent is waited for."""
        text = f"parent {parent.address} {what}"
        self._new.append(Waiting(reason=reason, text=text, parent=parent.address, seconds=seconds))
