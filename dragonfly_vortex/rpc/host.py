"""A peer's description of itself: the ``Host`` message of Dragonfly's API, with the fields that this package knows."""

from __future__ import annotations

import platform
from typing import Protocol

from dragonfly_api import common_pb2

__all__ = ["HostNames", "host_message"]


class HostNames(Protocol):
    """The names of a peer: :class:`~dragonfly_vortex.config.model.HostConfig`, or anything like it."""

    @property
    def ip(self) -> str:
        """The address that it gives to others."""

    @property
    def hostname(self) -> str:
        """The name that it gives to others."""


def host_message(host: HostNames, port: int) -> common_pb2.Host:
    """
    A host that serves pieces.

    :param port: where its gRPC server listens. As with the reference, that is where pieces are to be had, too.
    """
    return common_pb2.Host(
        id=f"{host.ip}-{host.hostname}",
        hostname=host.hostname,
        name=host.hostname,
        ip=host.ip,
        port=port,
        download_port=port,
        os=platform.system().lower(),
        platform=platform.system().lower(),
        platform_version=platform.release(),
        kernel_version=platform.release(),
        build=common_pb2.Build(platform=platform.machine()),
    )
