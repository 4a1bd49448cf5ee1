"""How many files a peer's process may have open, and how many connections that is enough for."""

from __future__ import annotations

import resource
from dataclasses import replace

from twisted.logger import Logger

from dragonfly_vortex.config import Config
from dragonfly_vortex.storage.open_files import MAX_FILES
from dragonfly_vortex.system_calls import is_refused

__all__ = ["allow_descriptors", "within_descriptors"]

_OTHER_DESCRIPTORS = 100 + MAX_FILES
"""Descriptors that a peer may need beside its connections: its ports, its database, its log, gRPC's; and the
files that its storage keeps open."""

_log = Logger()


def allow_descriptors(config: Config) -> int:
    """
    Raise the soft limit of open files, which is 1024 on most systems, to what all connections can need: a socket for
    each, and a file while it replies.

    :returns: for how many connections there will be enough: for all, unless the hard limit is in the way.
    """
    connections = config.storage.server.tcp.max_connections
    wanted = _wanted(connections)
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError as error:
        if not is_refused(error):
            raise
        return connections  # the limit cannot be known here: when it is reached, a connection is refused
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.RLIM_INFINITY != soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return connections if allowed == wanted else max(1, (allowed - _OTHER_DESCRIPTORS) // 2)


def within_descriptors(config: Config) -> Config:
    """
    Raise the soft limit of open files, and where the hard one is in the way have fewer connections; a warning says so.

    :param config: of the process.
    :returns: the same, with as many connections as it can have.
    """
    tcp = config.storage.server.tcp
    possible = allow_descriptors(config)
    if possible < tcp.max_connections:
        text = (
            "max_connections: asked for {asked}, which can need {wanted} open files; the hard limit is {allowed}"
            " (ulimit -Hn), enough for {possible}"
        )
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _wanted(tcp.max_connections)
        _log.warn(text, asked=tcp.max_connections, wanted=wanted, allowed=hard, possible=possible)
    server = replace(config.storage.server, tcp=replace(tcp, max_connections=possible))
    return replace(config, storage=replace(config.storage, server=server))


def _wanted(connections: int) -> int:
    return 2 * connections + _OTHER_DESCRIPTORS
