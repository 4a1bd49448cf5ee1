"""
A parent's address: ``HOST:PORT``, with an optional scheme that names the transport.

:mod:`dragonfly_vortex.transport_table` has the schemes. A bare address is one of its first transport, without TLS.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from dragonfly_vortex.transport_table import Transport, schemes, transport_of_scheme

__all__ = [
    "CONNECT_TIMEOUT",
    "LEAST_PORT",
    "ParentAddress",
    "is_private",
    "most_of_share",
    "plain_ip",
    "share_of",
    "split_address",
]

CONNECT_TIMEOUT = 2.0
"""Seconds that connecting to a parent may take, resolving a name included, as in the reference (``client/tcp.rs``)."""

LEAST_PORT = 1024
"""
The lowest port that is asked because another machine says so, by an announcement or an advertisement: those below
belong to a system's services.
"""

_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")
"""The private networks of IPv6 (RFC 4193). Python counts some more as private, such as those of tunnels."""

_LONGEST_LABEL = 64
"""The length from which on a part of a name is too long for DNS."""

_NAME = "[A-Za-z0-9_.-]{1,255}"
_IPV6 = "[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?"


class ParentAddress(Struct, frozen=True, kw_only=True):
    """
    A parent's address. As text it is what :meth:`from_text` reads, without the scheme that a
    bare address has.

    :param scheme: of a transport.
    :param host: a name or an IP address, without brackets.
    :param port: from 1 to 65535.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def from_text(cls, text: str) -> ParentAddress:
        """
        Read an address.

        :param text: ``HOST:PORT``, with a scheme and ``://`` before it or without.
        :raises ValueError: it is not like that.
        """
        scheme, separator, address = text.rpartition("://")
        if separator and scheme not in schemes():
            known = ", ".join(f"{each}://" for each in schemes())
            raise ValueError(f"expected a parent's address with one of {known} or none of them, got {text!r}")
        host, port = split_address(address)
        return cls(scheme=scheme or schemes()[0], host=host, port=port)

    @property
    def transport(self) -> Transport:
        """The transport of the address."""
        return transport_of_scheme(self.scheme)

    @property
    def is_secure(self) -> bool:
        """Whether connections to it use TLS."""
        return self.scheme == self.transport.tls_scheme

    @property
    def host_and_port(self) -> str:
        """``HOST:PORT``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if _is_ipv6(self.host) else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.host_and_port if self.scheme == schemes()[0] else f"{self.scheme}://{self.host_and_port}"


def split_address(address: str) -> tuple[str, int]:
    """
    Host and port of an address without a scheme.

    :param address: ``HOST:PORT``; an IPv6 address stands in brackets, with a zone where it needs one:
        ``[::1]:4005``, ``[fe80::1%eth0]:4005``. A name may have underscores, as those of containers have.
    :returns: a name with letters beyond ASCII is in the form that DNS has for it (IDNA).
    :raises ValueError: it is not like that.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else _ascii(host)
    pattern = _IPV6 if bracketed else _NAME
    well_formed = re.fullmatch(pattern, host) and bracketed is _is_ipv6(host) and port.isascii() and port.isdigit()
    if not well_formed or not 0 < int(port) <= 65535:
        raise ValueError(f"expected an address HOST:PORT or [IPV6]:PORT with a port from 1 to 65535, got {address!r}")
    return host, int(port)


def plain_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """
    An IP address. One of IPv4 that is written as one of IPv6 (``::ffff:192.0.2.1``) is that of IPv4.

    :raises ValueError: it is none.
    """
    ip = ipaddress.ip_address(text)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def is_private(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of a private network, or of the loopback of IPv4."""
    return ip in _UNIQUE_LOCAL if ip.version == 6 else ip.is_private and not ip.is_unspecified


def share_of(ip: str) -> str:
    """
    Return the key under which the connections of an IP address are counted for the limits of strangers: the address, of
    IPv6 its network of 64 bits. Empty for this machine, and for text that is no IP address.
    """
    try:
        plain = plain_ip(ip)
    except ValueError:
        return ""
    if plain.is_loopback:
        return ""
    return str(plain) if plain.version == 4 else str(ipaddress.ip_network((int(plain), 64), strict=False))


def most_of_share(total: int, others: int) -> int:
    """
    Return how much one address may have of a limit: half of what the other addresses leave, and at least 1.

    :param total: of all shares.
    :param others: how much the other shares have.
    """
    return max(1, (total - others) // 2)


def _ascii(name: str) -> str:
    """Return a name as DNS has it; empty where it can be none."""
    if name.isascii():  # encodings.idna takes longer to load than a connection takes
        labels = name.removesuffix(".").split(".")
        return name if all(0 < len(label) < _LONGEST_LABEL for label in labels) else ""
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
