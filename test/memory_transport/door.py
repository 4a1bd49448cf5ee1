"""The door of the third transport: a peer's store, found by its address in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress

from dragonfly_vortex.config import Config, TLSIdentity
from dragonfly_vortex.daemon.door import Door, DoorSettings
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.storage.reactor.store import PieceStore

__all__ = ["OPEN_DOORS", "MemoryDoor"]

OPEN_DOORS: dict[str, MemoryDoor] = {}
"""The doors that are open, by ``HOST:PORT``."""


class MemoryDoor(Door):
    """See :class:`~dragonfly_vortex.daemon.door.Door`. Its address is the host name of the configuration, port 1."""

    def __init__(self, settings: DoorSettings) -> None:
        super().__init__(settings)
        self.place = f"{settings.config.host.hostname}:1"
        self.tally = Tally()
        self.reloaded = 0

    @property
    def store(self) -> PieceStore:
        """Where the pieces are."""
        return self.settings.store

    @property
    def address(self) -> IAddress | None:
        return UNIXAddress(self.place) if OPEN_DOORS.get(self.place) is self else None

    @property
    def tallies(self) -> Sequence[Tally]:
        return (self.tally,)

    def open(self) -> None:
        if self.place in OPEN_DOORS:
            raise CannotListenError(self.place, 1, OSError("another door is open there"))
        OPEN_DOORS[self.place] = self

    def start(self) -> Deferred[None]:
        return succeed(None)

    def prepare_reload(self, config: Config, identity: TLSIdentity | None) -> Callable[[], None]:
        def take_effect() -> None:
            self.reloaded += 1

        return take_effect

    def stop(self, timeout: float) -> Deferred[None]:
        OPEN_DOORS.pop(self.place, None)
        return succeed(None)
