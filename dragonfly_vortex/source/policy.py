"""
The policy for requests of strangers: a seed connects to no source that only this machine, or its network, can reach.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence

import psutil

__all__ = ["SourcePolicy"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
"""The addresses that are not link-local at which clouds (AWS, Alibaba, Oracle) give a machine its credentials."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""The addresses of IPv6 that a translator takes for those of IPv4 in their last 32 bits (RFC 6052)."""


def _own_addresses() -> Collection[str]:
    """The addresses of this machine's network interfaces."""
    addresses = (each.address for found in psutil.net_if_addrs().values() for each in found)
    return {address.partition("%")[0] for address in addresses}


class SourcePolicy:
    """
    Decides which connections to sources are made.

    :param sources: the hosts that may be asked, by name, address or network; none for all hosts but this machine,
        link-local addresses and those of clouds' metadata.
    :param own: gives the addresses of this machine.
    """

    def __init__(self, sources: Sequence[str], own: Callable[[], Collection[str]] = _own_addresses) -> None:
        self._names = {source.lower().rstrip(".") for source in sources}
        self._networks = [network for source in sources if (network := _network(source)) is not None]
        self._has_sources = bool(sources)
        self._own = own

    def allows(self, host: str, address: str | None) -> bool:
        """
        Whether a connection may be made.

        :param host: the source's, as its URL has it.
        :param address: what is connected to; None where a proxy finds it out, and then only a host that is named may
            be asked.
        """
        if host.lower().rstrip(".") in self._names:
            return True
        if address is None:
            return False
        connected = _plain(address)
        if connected is None:
            return False
        if self._has_sources:
            return any(connected in network for network in self._networks)
        is_special = connected.is_loopback or connected.is_link_local or connected.is_multicast
        return not (is_special or connected.is_unspecified or connected in _METADATA or str(connected) in self._own())


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A network, or a single address as one; None for a name."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _plain(text: str) -> _Address | None:
    """An address; one of IPv4 that is written in IPv6 as that of IPv4. None for what is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return getattr(address, "ipv4_mapped", None) or address
