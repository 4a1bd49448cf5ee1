"""The gRPC door. Importing this loads nothing of gRPC: opening the door does."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress

from dragonfly_vortex.config import Config, TLSIdentity
from dragonfly_vortex.daemon.door import Door, DoorSettings
from dragonfly_vortex.metrics.counters import Tally
from dragonfly_vortex.peer_exchange import Askers
from dragonfly_vortex.rpc.server import UploadService
from dragonfly_vortex.transport.tls import server_tls_from
from dragonfly_vortex.transport_table import TCP
from dragonfly_vortex.wire import PieceKind

if TYPE_CHECKING:
    from dragonfly_vortex.host_stats import NetworkMeter

__all__ = ["GRPCDoor"]

_NO_SEED = "this peer is no seed (seed_peer.enable): it downloads and deletes nothing for callers of this door"


class GRPCDoor(Door):
    """See :class:`~dragonfly_vortex.daemon.door.Door`."""

    def __init__(self, settings: DoorSettings) -> None:
        super().__init__(settings)
        self._tally = Tally()
        self._tls = server_tls_from(settings.identity) if settings.identity is not None else None
        place = settings.config.upload.server
        self._server = UploadService(
            settings.store,
            settings.reactor,
            ip=place.ip,
            port=place.port,
            host=settings.config.host,
            vortex_port=partial(settings.port_of, TCP.name),  # Dragonfly's message has a field for the port of this one
            tls=self._tls,
            limiter=settings.limiter,
            tally=self._tally,
            metrics=settings.metrics,
            rechecks=settings.rechecks,
            askers=Askers(settings.config.storage.dir, settings.reactor.seconds)
            if settings.config.discovery.peer_exchange
            else None,
            tasks=settings.tasks,
            refusal="" if settings.config.seed_peer.enable else _NO_SEED,
            make_network=self._make_network,
            inherited=settings.inherited.get(place.port),
        )

    @property
    def address(self) -> IAddress | None:
        return self._server.address

    @property
    def tallies(self) -> Sequence[Tally]:
        return (self._tally,)

    @property
    def connections(self) -> tuple[int, int]:
        return self._server.connections

    def open(self) -> None:
        place = self.settings.config.upload.server
        if place.port in self.settings.inherited:
            return
        _try_to_listen(place.ip, place.port)

    def start(self) -> Deferred[None]:
        return self._server.startService().addCallback(lambda _: None)

    def prepare_reload(self, config: Config, identity: TLSIdentity | None) -> Callable[[], None]:
        if identity is None or self._tls is None:
            return lambda: None
        return partial(self._tls.become, server_tls_from(identity))

    def prepare(self, kind: PieceKind, task_id: str) -> None:
        self._server.prepare(kind, task_id)

    def stop(self, timeout: float) -> Deferred[None]:
        return self._server.stop(timeout)

    def _make_network(self) -> NetworkMeter:
        """The measurement of the interface that children reach this peer by."""
        from dragonfly_vortex.host_stats import NetworkMeter

        config = self.settings.config
        return NetworkMeter(config.host.ip, config.download.bandwidth_limit, config.upload.bandwidth_limit)


def _try_to_listen(ip: str, port: int) -> None:
    """
    Check whether an address can be had. grpcio says it too, but later and from another thread.

    :raises CannotListenError: it cannot.
    """
    try:
        # An IPv6 address may have a zone, which is a number in the socket's address.
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            ip, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        with socket.socket(family, kind) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind(address)
    except OSError as error:
        raise CannotListenError(ip, port, error) from error
