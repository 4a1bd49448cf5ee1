"""
Learns over gRPC which pieces a parent has, and where it offers Vortex: :class:`PieceDiscovery`.

The requests are in :mod:`dragonfly_vortex.rpc.inquiry`.

A parent can announce any address, also that of a machine that has nothing to do with it. So by default content is
fetched from the host that announces, whatever address it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IAddress, IHostResolution, IReactorPluggableNameResolver, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from dragonfly_vortex.address import LEAST_PORT, ParentAddress, plain_ip
from dragonfly_vortex.interfaces import IPieceAnnouncer
from dragonfly_vortex.limited_log import LimitedLog
from dragonfly_vortex.peer_exchange import PeerExchange
from dragonfly_vortex.rpc.channel import GRPCSettings
from dragonfly_vortex.rpc.inquiry import Announced, Inquiry
from dragonfly_vortex.transport_table import TCP
from dragonfly_vortex.wire import PieceKind
from dragonfly_vortex.wire.messages import printable

__all__ = ["PieceDiscovery", "tcp_address_of"]


@implementer(IPieceAnnouncer)
class PieceDiscovery:
    """
    Ask one parent. Each task that is asked about has a channel of its own.

    :param parent: its gRPC address.
    :param settings: the reactor, the credentials, and the options of channels.
    :param offer_tcp: called in the reactor's thread with the parent's TCP address, as soon as it is known, before the
        piece with which it came is announced, and again when it has changed.
    :param follow: whether any address that the parent announces is taken, see :func:`tcp_address_of`.
    :param exchange: the exchange of peers with the parent; None for none.
    """

    log = Logger()

    def __init__(
        self,
        parent: ParentAddress,
        settings: GRPCSettings,
        offer_tcp: Callable[[str], None],
        *,
        follow: bool = False,
        exchange: PeerExchange | None = None,
    ) -> None:
        self.parent = parent
        self._settings = settings
        self._offer_tcp = offer_tcp
        self._follow = follow
        self._exchange = exchange
        self._heard: tuple[str, int, int] | None = None
        self._offered = ""
        self._not_offered = ""
        self._resolved = _Addresses()
        self._limited_log = LimitedLog(self.log, settings.reactor)  # a parent can give another address for each piece

    def start(
        self,
        kind: PieceKind,
        task_id: str,
        on_layout: Callable[[int | None, int | None], None],
        on_piece: Callable[[int, int, int], None],
        on_end: Callable[[bool], None],
    ) -> Callable[[], None]:
        def tell_piece(piece: Announced) -> None:
            self._hear_address(piece.ip, piece.tcp_port)
            on_piece(piece.number, piece.offset, piece.length)

        inquiry = Inquiry(
            self.parent, self._settings, kind, task_id, on_layout, tell_piece, on_end, exchange=self._exchange
        )
        inquiry.ask()
        if not self._follow and not _is_ip(self.parent.host):
            self._resolved.look_up(self._settings.reactor, self.parent.host)

        def stop() -> None:
            inquiry.stop()
            self._limited_log.close()

        return stop

    def _hear_address(self, ip: str, port: int) -> None:
        """Handle the address of another transport that the parent announces with each piece."""
        heard = ip, port, len(self._resolved.found)
        if heard == self._heard:
            return
        self._heard = heard
        offered = tcp_address_of(self.parent, ip, port, resolved=self._resolved.found, follow=self._follow)
        announced = f"{printable(ip)}:{port}"
        if offered is None:
            if port and announced != self._not_offered:
                self._not_offered = announced
                self._limited_log.warn(
                    "parent {parent} announces port {port}: expected {least} to 65535, not asked there",
                    parent=str(self.parent),
                    port=port,
                    least=LEAST_PORT,
                )
        elif offered != self._offered:
            self._offered = offered
            self._limited_log.info(
                "parent {parent} announces {announced}: it is asked at {offered}",
                parent=str(self.parent),
                announced=announced,
                offered=offered,
            )
            self._offer_tcp(offered)


def tcp_address_of(
    parent: ParentAddress, ip: str, port: int, *, resolved: Collection[str] = (), follow: bool = False
) -> str | None:
    """
    The address of a parent's Vortex door, as :meth:`~dragonfly_vortex.address.ParentAddress.from_text` reads it.

    By default that is the host of its gRPC address. Where that is a name of several addresses, it is the one that the
    parent announces. Under TLS it is the name, because the certificate is for that.

    :param parent: its gRPC address.
    :param ip: the address that it gives.
    :param port: the port that it gives.
    :param resolved: the addresses that the host of its gRPC address has, if that is a name.
    :param follow: whether any port, and any address, is taken as the parent gives it. An address that is only good on
        the parent's own machine, or none, still means the host of its gRPC address.
    :returns: None where that is no port, or a port below :data:`LEAST_PORT` that is not followed.
    """
    if not (1 if follow else LEAST_PORT) <= port <= 65535:
        return None
    is_secure = parent.is_secure
    is_taken = _is_ip(ip) and (not _is_local(ip) if follow else _plain(ip) in resolved)
    host = ip if is_taken and not is_secure else parent.host
    return str(ParentAddress(scheme=TCP.schemes[is_secure], host=host, port=port))


@implementer(IResolutionReceiver)
class _Addresses:
    """The addresses of a name, as far as they are known. Twisted cannot cancel a resolution, so it goes to its end."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._has_begun = False

    def look_up(self, reactor: object, name: str) -> None:
        """Ask for them, unless that has been done. A reactor that resolves no names finds none."""
        pluggable = IReactorPluggableNameResolver(reactor, None)
        if pluggable is not None and not self._has_begun:
            self._has_begun = True
            pluggable.nameResolver.resolveHostName(self, name)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The addresses will come."""

    def addressResolved(self, address: IAddress) -> None:
        """Here is one."""
        host = getattr(address, "host", "")
        if _is_ip(host):
            self.found.add(_plain(host))

    def resolutionComplete(self) -> None:
        """Called when no more addresses will come."""


def _is_ip(text: str) -> bool:
    """Whether a host is an address, and not a name."""
    return isIPAddress(text) or isIPv6Address(text)


def _plain(ip: str) -> str:
    """An address in one spelling: one of IPv4 that is written as one of IPv6 (``::ffff:192.0.2.1``) is that of IPv4."""
    return str(plain_ip(ip.partition("%")[0]))


def _is_local(ip: str) -> bool:
    """Whether an address means the machine that says it: the loopback's, or that of no interface."""
    address = plain_ip(_plain(ip))
    return address.is_loopback or address.is_unspecified
