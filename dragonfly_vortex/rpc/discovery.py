"""
Which pieces a parent has, by its gRPC API: :class:`PieceDiscovery` tells that, and where the parent offers Vortex.

How it is asked stands in :mod:`dragonfly_vortex.rpc.inquiry`, how its stream is read in
:mod:`dragonfly_vortex.rpc.announcements`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from twisted.internet.abstract import isIPAddress, isIPv6Address
from zope.interface import implementer

from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.parents import ParentAddress
from dragonfly_vortex.rpc.announcements import Announced
from dragonfly_vortex.rpc.client import GRPCSettings
from dragonfly_vortex.rpc.inquiry import Inquiry
from dragonfly_vortex.wire import PieceKind

__all__ = ["PieceDiscovery", "tcp_address_of"]


@implementer(IPieceAnnouncer)
class PieceDiscovery:
    """
    Ask one parent. Each task that is asked about has a channel of its own, and a thread while its stream is open.

    :param parent: its gRPC address.
    :param settings: the reactor, the credentials, and the options of channels.
    :param offer_tcp: called in the reactor's thread with the parent's TCP address, as soon as it is known, before the
        piece with which it came is told, and again when it has changed.
    """

    def __init__(self, parent: ParentAddress, settings: GRPCSettings, offer_tcp: Callable[[str], None]) -> None:
        self.parent = parent
        self._settings = settings
        self._offer_tcp = offer_tcp
        self._offered = ""

    def start(
        self,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        def tell_piece(piece: Announced) -> None:
            offered = tcp_address_of(self.parent, piece.ip, piece.tcp_port)
            if offered is not None and offered != self._offered:
                self._offered = offered
                self._offer_tcp(offered)
            on_piece(piece.number, piece.offset, piece.length)

        inquiry = Inquiry(self.parent, self._settings, kind, task_id, on_layout, tell_piece, on_end)
        inquiry.ask()
        return inquiry.stop


def tcp_address_of(parent: ParentAddress, ip: str, port: int) -> str | None:
    """
    Where a parent offers Vortex, as :meth:`~dragonfly_vortex.parents.ParentAddress.from_text` reads it.

    An address that is only good on the parent's own machine, or none, means the host of its gRPC address. So it is
    under TLS, where a certificate is for the name that the parent is called by.

    :param parent: its gRPC address.
    :param ip: the address that it gives.
    :param port: the port that it gives.
    :returns: None where that is no port.
    """
    if not 0 < port <= 65535:
        return None
    is_secure = parent.scheme == "grpcs"
    is_useful = (isIPAddress(ip) or isIPv6Address(ip)) and not _is_local(ip)
    host = ip if is_useful and not is_secure else parent.host
    return str(ParentAddress(scheme="tls" if is_secure else "tcp", host=host, port=port))


def _is_local(ip: str) -> bool:
    """Whether an address means the machine that says it: the loopback's, or that of no interface."""
    address = ipaddress.ip_address(ip)
    return address.is_loopback or address.is_unspecified
