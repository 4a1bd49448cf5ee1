"""
Checks that a peer's doors and metrics do not listen on the same address and port.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations

from dragonfly_vortex.config.model import Config
from dragonfly_vortex.config.setting import value_at
from dragonfly_vortex.errors import PortGivenTwice
from dragonfly_vortex.transport_table import transports_named

__all__ = ["check_ports"]


def check_ports(config: Config) -> None:
    """
    Refuse one port for two listeners. Port 0 is free for all, and so is one port at two addresses.

    :raises PortGivenTwice: two listeners cannot have their ports at once.
    """
    for (key, ip, port), (other, other_ip, other_port) in combinations(_listeners(config), 2):
        if port == other_port != 0 and _overlap(ip, other_ip):
            where = f"on {ip}" if ip == other_ip else f"on {ip} and {other_ip}, of which one includes the other"
            raise PortGivenTwice((key, other), f"{port} for both, {where}")


def _listeners(config: Config) -> Iterator[tuple[str, str, int]]:
    """Yield what is listened on: the key of the port, the address and the port."""
    for transport in transports_named(config.storage.server.protocol):
        if transport.port_key:
            yield transport.port_key, value_at(config, transport.ip_key), value_at(config, transport.port_key)
    if config.metrics.enable:
        yield "metrics.server.port", config.metrics.server.ip, config.metrics.server.port


def _overlap(ip: str, other: str) -> bool:
    """Whether one port cannot be had at both addresses. On Linux ``::`` takes connections over IPv4, too."""
    addresses = [ipaddress.ip_address(ip), ipaddress.ip_address(other)]
    plain = {getattr(address, "ipv4_mapped", None) or address for address in addresses}
    if len(plain) == 1 or any(address.version == 6 and address.is_unspecified for address in plain):
        return True
    one_version = len({address.version for address in plain}) == 1
    return one_version and any(address.is_unspecified for address in plain)
