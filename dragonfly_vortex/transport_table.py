"""
The table of transports, which carry pieces from a parent to a child: one row for each. Addresses, configuration,
command line, downloaders and the doors of a peer all read this table.

Another transport is a package and a row. A row names the code of its transport, and that code is imported when it is
used: so this table is read everywhere and loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from msgspec import Struct

__all__ = [
    "ALL",
    "BEST",
    "GRPC",
    "HTTP",
    "SOURCES",
    "SOURCE_SCHEMES",
    "TCP",
    "TRANSPORTS",
    "Transport",
    "load_code",
    "schemes",
    "transport_of_address",
    "transport_of_scheme",
    "transports_named",
]

BEST = "auto"
"""The word for all transports where a child chooses: for each parent the best that it offers."""

ALL = "all"
"""The word for all transports where a peer opens doors."""


class Transport(Struct, frozen=True, kw_only=True):
    """
    A transport, and what differs from the others. Code is named as ``MODULE:NAME``, see :func:`load_code`.

    :param name: in the configuration and on the command line.
    :param label: in messages.
    :param scheme: of the address of a parent without TLS.
    :param tls_scheme: of the address of a parent with TLS.
    :param purpose: what a parent has at such an address, for help texts.
    :param downloader: the code that builds its downloader, a
        :class:`~dragonfly_vortex.downloaders.factory.DownloaderBuilder`.
    :param shows_progress: whether a piece is seen to arrive before it is complete.
    :param announcers: the code that asks parents which pieces they have, an
        :class:`~dragonfly_vortex.downloaders.factory.AnnouncerBuilder`; empty where a parent is asked for pieces only.
    :param announces: the names of the transports whose addresses a parent announces there.
    :param door: the code that serves pieces by it, a :class:`~dragonfly_vortex.daemon.door.Door`; empty where a peer
        of this package only fetches by it.
    :param ip_key: the dotted key of the address that its door listens on; empty where it listens on no port.
    :param port_key: the dotted key of the port.
    :param has_workers: whether ``storage.server.workers`` processes open its door.
    :param descriptors: files that its door opens at least, beside a port and a connection.
    """

    name: str
    label: str
    scheme: str
    tls_scheme: str
    purpose: str
    downloader: str
    shows_progress: bool = True
    announcers: str = ""
    announces: tuple[str, ...] = ()
    door: str = ""
    ip_key: str = ""
    port_key: str = ""
    has_workers: bool = False
    descriptors: int = 0

    @property
    def schemes(self) -> tuple[str, str]:
        """The schemes of its addresses, without TLS and with it."""
        return self.scheme, self.tls_scheme


TCP = Transport(
    name="tcp",
    label="TCP",
    scheme="tcp",
    tls_scheme="tls",
    purpose="its Vortex door",
    downloader="dragonfly_vortex.downloaders.tcp:build",
    door="dragonfly_vortex.daemon.vortex_door:VortexDoor",
    ip_key="storage.server.ip",
    port_key="storage.server.tcp.port",
    has_workers=True,
)
"""Vortex over TCP."""

GRPC = Transport(
    name="grpc",
    label="gRPC",
    scheme="grpc",
    tls_scheme="grpcs",
    purpose="its gRPC door, which announces its pieces",
    downloader="dragonfly_vortex.downloaders.grpc:build",
    shows_progress=False,
    announcers="dragonfly_vortex.downloaders.grpc:announcers",
    announces=("tcp",),
    door="dragonfly_vortex.daemon.grpc_door:GRPCDoor",
    ip_key="upload.server.ip",
    port_key="upload.server.port",
    descriptors=12,  # grpcio's own 10, a connection and the file of a piece
)
"""Dragonfly's API."""

HTTP = Transport(
    name="http",
    label="HTTP",
    scheme="http",
    tls_scheme="https",
    purpose="a source, which gives ranges of one file",
    downloader="dragonfly_vortex.downloaders.http:build",
)
"""HTTP, by which a source is asked. A source is no peer: it is added to a download together with its URL."""

TRANSPORTS: tuple[Transport, ...] = (TCP, GRPC)
"""The transports of peers. A child that can choose takes the first that works; a bare address is one of the first."""

SOURCES: tuple[Transport, ...] = (HTTP,)
"""The transports of sources."""

SOURCE_SCHEMES = (*HTTP.schemes, "hf", "s3")
"""The schemes of sources' URLs. A hub and an object storage, which the last two name, are asked by HTTP, too."""


def transports_named(word: str) -> tuple[Transport, ...]:
    """
    The transports that a word of the configuration means, in their order.

    :param word: a transport's name, :data:`BEST` or :data:`ALL`.
    :returns: none for another word.
    """
    if word == BEST:
        return TRANSPORTS
    return tuple(each for each in TRANSPORTS if (each.door if word == ALL else each.name == word))


def schemes() -> tuple[str, ...]:
    """All schemes that a peer's address may have."""
    return tuple(scheme for each in TRANSPORTS for scheme in each.schemes)


def is_url(text: str) -> bool:
    """Whether a text is the URL of a source, and not a task's ID."""
    return text.partition("://")[0].lower() in SOURCE_SCHEMES and "://" in text


def transport_of_scheme(scheme: str) -> Transport:
    """
    The transport of the address of a parent or a source.

    :raises ValueError: no transport has that scheme.
    """
    for each in (*TRANSPORTS, *SOURCES):
        if scheme in each.schemes:
            return each
    raise ValueError(f"expected one of the schemes {', '.join(schemes())}, got {scheme!r}")


def transport_of_address(address: str) -> Transport:
    """
    The transport of a parent's address in text.

    :param address: as :meth:`~dragonfly_vortex.address.ParentAddress.from_text` reads it.
    :raises ValueError: no transport has its scheme.
    """
    scheme, found, _ = address.partition("://")
    return transport_of_scheme(scheme) if found else TRANSPORTS[0]


def load_code(place: str) -> Any:
    """
    Import what a row names.

    :param place: ``MODULE:NAME``.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
